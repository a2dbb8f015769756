"""Writes down what became of instances and deliveries, many in one transaction.

A commit that survives a power cut costs milliseconds, an instance costs few; so outcomes that come close together share
one. Whoever hands an outcome over goes on at once and is called back when it is durable.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from orthanc_deid import logs
from orthanc_deid.pipeline.messages import Done
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.tasks import DELIVERY
from orthanc_deid.store import deliveries, expected, knowledge, ledger, studies
from orthanc_deid.store.deliveries import LOCAL, Sent
from orthanc_deid.store.ledger import Outcome, Output

log = logs.get(__name__)

GATHER_SECONDS = 0.2
"""How long an outcome waits for others to share its transaction, when others came just before."""
LULL_SECONDS = 0.025
"""When nothing has come for so long, those that wait are written down."""
GATHER = 200
"""At most so many share one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to write down, and whom to tell when it is durable."""

    project: str
    done: Done | None
    sent: Sent | None
    told: Callable[[], None]


class Recorder:
    """One thread that commits in groups."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._busy_until = 0.0
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Write down what was handed over, and end."""
        self._queue.put(None)
        self._thread.join(timeout)

    def outcome(self, project: str, done: Done, told: Callable[[], None]) -> None:
        """Write down what became of an instance; `told` is called once it is durable."""
        self._queue.put(Entry(project, done, None, told))

    def sent(self, project: str, sent: Sent, told: Callable[[], None]) -> None:
        """Write down what became of a delivery; `told` is called once it is durable."""
        self._queue.put(Entry(project, None, sent, told))

    def _run(self) -> None:
        while True:
            entries, last = self._gather()
            wait = 0.2
            while entries:
                try:
                    self._write(entries)
                    self._shared.troubles.clear("database")
                    break
                except (
                    SQLAlchemyError,
                    OSError,
                ) as error:  # disk full, database locked by a tool: the work is not lost
                    if self._shared.troubles.note("database", type(error).__name__):
                        log.error("outcomes cannot be written down", error=type(error).__name__, count=len(entries))
                    if self._shared.stopping.wait(wait):
                        return
                    wait = min(wait * 2, 30.0)
                except (
                    Exception
                ) as error:  # a fault of ours: with the ledger unsure, the rows are done again after a restart
                    log.error("outcomes were not taken", error=type(error).__name__, count=len(entries), exc_info=True)
                    self._shared.troubles.note("recorder", type(error).__name__)
                    break
            for entry in entries:
                if entry.done is not None:
                    self._shared.in_hand.discard(entry.done.row)
                if entry.sent is not None:
                    self._shared.sending.discard(entry.sent.id)
                entry.told()
            if last:
                return

    def _gather(self) -> tuple[list[Entry], bool]:
        first = self._queue.get()
        if first is None:
            return [], True
        entries = [first]
        # The first after a pause goes at once; in a stream, a transaction for each would cost more than the work.
        now = time.monotonic()
        deadline = now + (GATHER_SECONDS if now < self._busy_until else 0.0)
        self._busy_until = now + 4 * GATHER_SECONDS
        while len(entries) < GATHER:
            try:
                more = self._queue.get(timeout=min(LULL_SECONDS, max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                break
            if more is None:
                return entries, True
            entries.append(more)
        return entries, False

    def _write(self, entries: list[Entry]) -> None:
        shared = self._shared
        tasks: dict[tuple[str, str, str], int] = {}
        drop: list[tuple[int, str]] = []
        now = shared.clock()
        with shared.store.begin(together=True) as conn:
            # In one order everywhere: of two services none waits for the other while that waits for it.
            for project in sorted({entry.project for entry in entries}):
                dones = [entry.done for entry in entries if entry.project == project and entry.done is not None]
                if dones:
                    self._outcomes(conn, project, dones, now, tasks, drop)
            sents = [entry.sent for entry in entries if entry.sent is not None]
            finished = deliveries.finish_many(conn, sents, now, owner=shared.owner) if sents else []
            for row_id in finished:
                digest = shared.fresh.get(row_id)
                if digest is None:
                    row = ledger.get(conn, row_id)
                    digest = row.out_digest if row is not None else None
                if digest:
                    drop.append((row_id, digest))
        # Only now, when it is durable.
        for row_id, digest in drop:
            shared.outbox.drop(row_id, digest)
            if shared.fresh.get(row_id) == digest:
                del shared.fresh[row_id]
        for key, priority in tasks.items():
            shared.tasks.ask(DELIVERY, *key, priority=priority)

    def _outcomes(
        self,
        conn: Connection,
        project: str,
        dones: list[Done],
        now: float,
        tasks: dict[tuple[str, str, str], int],
        drop: list[tuple[int, str]],
    ) -> None:
        settings = self._shared.project(project)
        waiting = [done.row for done in dones if done.state in ("wait", "changed")]
        if waiting:
            ledger.give_back(conn, waiting, now, count=False, owner=self._shared.owner)
        made = {done.row: done for done in dones}
        outcomes = [outcome(done) for done in dones if done.state not in ("wait", "changed")]
        shared = self._shared
        finished = ledger.finish_many(conn, project, outcomes, now, owner=shared.owner, outbox=shared.here)
        learnt = {done.subject.index for done in dones if done.subject is not None and done.known}
        late = knowledge.mark_late(conn, project, sorted(learnt), now) if learnt else 0
        if late:
            log.warning("values were learnt of subjects whose outputs had left", project=project, count=late)
        ready = []
        wanted: dict[str, int] = {}
        for result in finished:
            if result.replaced:
                drop.append((result.id, result.replaced))
            output = made[result.id].made
            if output is None:
                continue
            if result.applied and result.state == "ready":
                ready.append((result.id, output))
                wanted[output.study] = min(result.priority, wanted.get(output.study, result.priority))
            else:
                drop.append((result.id, output.digest))
        if not ready:
            return
        ids = [row_id for row_id, _ in ready]
        self._shared.fresh.update((row_id, output.digest) for row_id, output in ready)
        if settings.keep_research_copy:
            expected.add_many(conn, project, [(output.orthanc_id, output.digest) for _, output in ready], now)
            deliveries.add(conn, ids, LOCAL, now)
            _ask(tasks, project, [LOCAL], wanted)
        destinations = self._shared.destinations(project)
        # What was released before and had to be made again goes on its way again: nobody has to say so twice.
        free = ids if settings.release == "instance" else sorted(deliveries.begun(conn, ids))
        if free and (kept := studies.held(conn, free)):  # by a person, until a person releases it
            free = [row_id for row_id in free if row_id not in kept]
        if free:
            ledger.release_rows(conn, free, destinations, now)
            _ask(tasks, project, destinations, wanted)


def _ask(
    tasks: dict[tuple[str, str, str], int], project: str, destinations: Iterable[str], studies: Mapping[str, int]
) -> None:
    """Want each study at each destination; what was wanted before keeps the better priority."""
    for destination in destinations:
        for study, priority in studies.items():
            key = (project, destination, study)
            tasks[key] = min(priority, tasks.get(key, priority))


def outcome(done: Done) -> Outcome:
    """Turn what a worker says into what the ledger keeps."""
    made = done.made
    return Outcome(
        id=done.row,
        state=done.state,
        reason=done.reason,
        tag=done.tag,
        findings=done.findings,
        output=None
        if made is None
        else Output(
            patient=made.patient,
            study=made.study,
            series=made.series,
            sop=made.sop,
            orthanc_id=made.orthanc_id,
            digest=made.digest,
            size=made.size,
            plan_digest=made.plan_digest,
        ),
        subject=done.subject,
        revision=done.revision,
        known=done.known,
        knew=done.knew,
    )
