"""Asks receivers to commit to what they have stored, and confirms it when they do (PS3.4 annex J).

A study is asked about when nothing of it is on its way any more. The answer comes on the same association, or later, as
the receiver likes, to the address of CommitmentListen. What it says counts if the transaction is in the database: so it
does after a restart too. No answer in time: asked again, under another transaction.

Of several services each asks about what is in its own outbox; the one that leads listens, and sees what is overdue.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid
from sqlalchemy.exc import SQLAlchemyError

from orthanc_deid import logs
from orthanc_deid.config import Destination
from orthanc_deid.pipeline.recorder import Recorder
from orthanc_deid.pipeline.senders import options_of
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.tasks import SERIES
from orthanc_deid.store import commitments, deliveries, ledger
from orthanc_deid.store.deliveries import Sent
from orthanc_deid.store.rows import CONFIRMED, STORED, ToCommit

if TYPE_CHECKING:
    from orthanc_deid.send.commit import Listener

log = logs.get(__name__)

LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 60.0
"""How long the stored part of a study waits for the rest of it."""
MOST = 500
"""Instances that one transaction is about."""
PAUSE = (2.0, 300.0)
"""First and longest wait before a receiver that could not be asked is asked again."""
FAILURES = 5
"""How often a receiver may not commit to an instance before it counts as refused."""
DROP_SECONDS = 5.0
"""How often it is looked for outputs whose commitment another service has written down."""
WRITE_SECONDS = 20.0
"""How long the writing down of an answer may take; the receiver waits meanwhile."""
NO_RESOURCES, NOT_THERE = 0x0213, 0x0112


class Committer:
    """One thread that looks for what to ask, and one at a time for each receiver that asks."""

    def __init__(self, shared: Shared, recorder: Recorder) -> None:
        self._shared = shared
        self._recorder = recorder
        projects = shared.config.projects.values()
        wanted = {one.key for project in projects for one in project.destinations if one.commitment}
        self._wanted = sorted(wanted)
        self._threads = ThreadPoolExecutor(max(1, len(wanted)), thread_name_prefix="commit")
        self._asking: dict[str, Future[None]] = {}
        self._pauses: dict[str, tuple[float, float]] = {}
        self._failures: dict[int, int] = {}
        self._open: dict[int, str] = {}  # rows that were asked about here, with their outputs' digests
        self._drop_at = 0.0
        self._listener: Listener | None = None
        self._thread = threading.Thread(target=self._run, name="committer", daemon=True)

    def start(self) -> None:
        """Start; where no project asks for commitment (any more), it only sees to what was stored before."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop; `shared.stopping` is set by now. What was asked is answered after the next start."""
        if self._thread.is_alive():
            self._thread.join(timeout)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._listener is not None:
            self._listener.stop()

    def _run(self) -> None:
        settled = False
        while not self._shared.stopping.is_set():
            try:
                if not settled:
                    self._settle()
                    settled = True
                if not self._wanted:
                    self._shared.troubles.clear("commitment")
                    return
                self._listen(self._shared.leads.is_set())
                if self._shared.held():
                    self._look()
                self._shared.troubles.clear("commitment")
            except (SQLAlchemyError, OSError) as error:
                if self._shared.troubles.note("commitment", type(error).__name__):
                    log.error("storage commitment waits", error=type(error).__name__)
                self._shared.stopping.wait(5.0)
            self._shared.stopping.wait(LOOK_SECONDS)

    def _settle(self) -> None:
        """See to what is stored at receivers that the configuration does not have asked any more.

        A project that wants no commitment of a destination has its word for enough: what is stored there is confirmed.
        Where the destination itself is gone from the configuration, nobody has said so: that waits, as what is for it
        and was not sent does.
        """
        with self._shared.store.read() as conn:
            places = [
                (project, name)
                for project, its in deliveries.counts(conn).items()
                for name, states in its.items()
                if states.get(STORED)
            ]
        for project, name in places:
            options = options_of(self._shared, name)
            if project in options and not options[project].commitment:
                self._confirm(project, name)
            elif project not in options and name not in self._wanted:
                self._shared.troubles.note(f"commitment of {name}", "not-configured")
                log.warning("stored outputs wait for a destination that is not configured any more", destination=name)
        with self._shared.store.begin() as conn:
            for transaction in commitments.unwanted(conn, self._wanted):
                commitments.put_off(conn, transaction, self._shared.clock())

    def _confirm(self, project: str, destination: str) -> None:
        """Confirm what a receiver has stored; it said so when it was sent."""
        count = 0
        while not self._shared.stopping.is_set():
            now = self._shared.clock()
            with self._shared.store.begin() as conn:
                ids = commitments.stored(conn, project, destination, MOST)
                ended = deliveries.finish_many(conn, [Sent(one, CONFIRMED) for one in ids], now)
                rows = [row for row in (ledger.get(conn, one) for one in ended) if row is not None]
            for row in rows:
                if row.out_digest:
                    self._shared.outbox.drop(row.id, row.out_digest)
            count += len(ids)
            if not ids:
                break
        log.info("what was stored is confirmed: no commitment is asked for any more", project=project, count=count)

    def _listen(self, leads: bool) -> None:
        """Listen where the configuration says so, as long as this service is the one that leads."""
        address = self._shared.config.commitment_listen
        if address is not None and leads and self._listener is None:
            from orthanc_deid.send.commit import Listener

            self._listener = Listener(address, self.report)
        elif self._listener is not None and not leads:
            self._listener.stop()
            self._listener = None

    def _look(self) -> None:
        now = self._shared.clock()
        if self._shared.leads.is_set():
            self._give_up(now)
        if self._shared.store.shared and time.monotonic() >= self._drop_at:
            self._drop_at = time.monotonic() + DROP_SECONDS
            self._drop()
        for destination in self._wanted:
            asking = self._asking.get(destination)
            if (asking is None or asking.done()) and self._pauses.get(destination, (0.0, 0.0))[1] <= time.monotonic():
                with self._shared.store.read() as conn:
                    here = self._shared.here
                    some = commitments.to_ask(conn, destination, now, PATIENCE_SECONDS, MOST, here)
                if some:
                    self._asking[destination] = self._threads.submit(self._ask, destination, some)

    def _give_up(self, now: float) -> None:
        """Have asked again, by whoever has the outputs, what was not answered in time."""
        with self._shared.store.begin() as conn:
            late = commitments.overdue(conn, now)
            for transaction in late:
                commitments.put_off(conn, transaction, now)
        if late:
            log.warning("storage commitments were not answered in time, and are asked for again", count=len(late))

    def _drop(self) -> None:
        """Remove files that are not needed any more; who took the answer has them not."""
        with self._shared.store.read() as conn:
            ended = commitments.ended(conn, sorted(self._open))
        for row in ended:
            digest = self._open.pop(row)
            self._shared.outbox.drop(row, digest)
            if self._shared.fresh.get(row) == digest:
                del self._shared.fresh[row]

    # Asking

    def _ask(self, destination: str, some: Sequence[ToCommit]) -> None:
        try:
            self._ask_about(destination, some)
        except Exception as error:  # a thread's exception would be seen by nobody
            log.error("storage commitment failed", error=type(error).__name__, destination=destination, exc_info=True)
            self._defer(some, self._pause(destination, type(error).__name__))

    def _ask_about(self, destination: str, some: Sequence[ToCommit]) -> None:
        from orthanc_deid.send import commit
        from orthanc_deid.send.dicom import Link

        options = options_of(self._shared, destination)
        name = destination.partition(":")[2]
        link = Link.of(self._shared.receivers.modalities[name], self._shared.receivers.orthanc)
        references = self._references(some)
        if not references:
            return
        seconds = self._seconds(options)
        transaction = generate_uid(prefix=None)
        now = self._shared.clock()
        with self._shared.store.begin() as conn:
            ids = [one.id for one in some if one.out_sop in references]
            commitments.begin(conn, transaction, destination, ids, now, now + seconds)
        if self._shared.store.shared:
            self._open.update((one.ledger_id, one.out_digest) for one in some if one.out_sop in references)
        # Whoever leads listens.
        listens = self._shared.config.commitment_listen is not None
        hold = min(seconds, commit.SHORT_HOLD_SECONDS if listens else commit.HOLD_SECONDS)
        asked = commit.ask(link, transaction, references, self.report, hold, self._shared.stopping)
        if asked:
            self._pauses.pop(destination, None)
            self._shared.troubles.clear(f"commitment of {destination}")
            return
        until = self._pause(destination)
        with self._shared.store.begin() as conn:
            commitments.put_off(conn, transaction, until)

    @staticmethod
    def _seconds(options: Mapping[str, Destination]) -> float:
        return min((one.commitment_seconds for one in options.values() if one.commitment), default=3600.0)

    def _defer(self, some: Sequence[ToCommit], until: float) -> None:
        """Let others have their turn before these; where that cannot be written down, nothing else can either."""
        with contextlib.suppress(SQLAlchemyError, OSError), self._shared.store.begin() as conn:
            commitments.defer(conn, [one.id for one in some], until)

    def _pause(self, destination: str, why: str = "down") -> float:
        before = self._pauses.get(destination, (0.0, 0.0))[0]
        pause = min(max(before * 2, PAUSE[0]), PAUSE[1])
        self._pauses[destination] = (pause, time.monotonic() + pause)
        if self._shared.troubles.note(f"commitment of {destination}", why):
            log.warning("a destination is not asked for storage commitment", destination=destination, reason=why)
        return self._shared.clock() + pause

    def _references(self, some: Sequence[ToCommit]) -> dict[str, str]:
        """Return output UID → SOP class, read from the files; what is not there any more is made again first."""
        found: dict[str, str] = {}
        missing = []
        for one in some:
            sop_class = self._sop_class(one)
            if sop_class:
                found[one.out_sop] = sop_class
            else:
                missing.append(one)
        if missing:
            now = self._shared.clock()
            with self._shared.store.begin() as conn:
                again = ledger.remake(conn, [one.ledger_id for one in missing], now)
                # So that what is torn each time does not keep everything else from being asked about.
                commitments.defer(conn, [one.id for one in missing], now + PATIENCE_SECONDS)
            for _, project, series_index in again:
                self._shared.tasks.ask(SERIES, project, series_index)
        return found

    def _sop_class(self, one: ToCommit) -> str | None:
        """Return the SOP class of an output; None where its file is missing or torn, for whatever reason."""
        from pynetdicom.dsutils import split_dataset

        shared = self._shared
        try:
            # Made before this start: a power cut may have left anything in its place.
            if shared.fresh.get(one.ledger_id) == one.out_digest or shared.outbox.intact(one.ledger_id, one.out_digest):
                meta, _ = split_dataset(shared.outbox.path(one.ledger_id, one.out_digest))
                return str(meta.MediaStorageSOPClassUID)
        except (OSError, InvalidDicomError, AttributeError, ValueError, TypeError, EOFError) as error:
            log.warning("a stored output cannot be read, and is made again", error=type(error).__name__)
        shared.fresh.pop(one.ledger_id, None)
        return None

    # Answers

    def report(self, transaction: str, kept: Sequence[str], failed: Mapping[str, int]) -> bool:
        """Write down what a receiver says; False when that was not possible, and it should say it again."""
        try:
            with self._shared.store.read() as conn:
                destination = commitments.known(conn, transaction)
                rows = commitments.answered(conn, transaction, [*kept, *failed])
        except SQLAlchemyError:
            return False
        if destination is None:
            log.warning("a storage commitment that nobody waits for was answered")
            return True
        written = threading.Semaphore(0)
        told = 0
        later = False
        for sop in kept:
            if sop in rows:
                told += 1
                self._failures.pop(rows[sop][0], None)
                self._recorder.sent(rows[sop][1], Sent(rows[sop][0], "confirmed"), written.release)
        for sop, reason in failed.items():
            if sop in rows and reason == NO_RESOURCES:
                later = True
            elif sop in rows:
                told += 1
                self._recorder.sent(rows[sop][1], self._failed(destination, rows[sop][0]), written.release)
        if not all(written.acquire(timeout=WRITE_SECONDS) for _ in range(told)):
            return False
        with self._shared.store.begin() as conn:
            # What the answer leaves open is asked about again.
            commitments.put_off(conn, transaction, self._shared.clock() + (PAUSE[1] if later else PAUSE[0]))
        return True

    def _failed(self, destination: str, delivery: int) -> Sent:
        """A receiver that does not keep an instance is offered it again, a few times."""
        failures = self._failures.pop(delivery, 0) + 1
        if failures >= FAILURES:
            log.warning("a destination does not commit to an instance", destination=destination, attempt=failures)
            return Sent(delivery, "refused", "not-committed")
        self._failures[delivery] = failures
        return Sent(delivery, "pending", "not-committed", self._shared.clock() + PAUSE[0] * 2**failures)
