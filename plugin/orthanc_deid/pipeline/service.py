"""The service: puts the parts of the pipeline together, starts and stops them, and answers for them.

Everything that must survive is in the ledger, the task database and the outbox; so starting is resuming, after a clean
stop as after SIGKILL at any moment.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

from sqlalchemy.exc import SQLAlchemyError

from orthanc_deid import __version__, logs
from orthanc_deid.config import Config
from orthanc_deid.errors import SetupError
from orthanc_deid.identity.keys import MasterKey, ProjectKeys
from orthanc_deid.metrics import render
from orthanc_deid.orthanc.client import NotFound, OrthancClient, OrthancError, Unavailable
from orthanc_deid.orthanc.peers import Peers
from orthanc_deid.orthanc.settings import Receivers
from orthanc_deid.pipeline.commitment import Committer
from orthanc_deid.pipeline.delivery import DeliveryTasks
from orthanc_deid.pipeline.governor import Governor
from orthanc_deid.pipeline.intake import Intake
from orthanc_deid.pipeline.jobs import Jobs
from orthanc_deid.pipeline.membership import Membership
from orthanc_deid.pipeline.messages import Chunk, Done, Item, ProjectSetup, Setup, source_digest
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.pool import Pool, Work
from orthanc_deid.pipeline.pressure import Share
from orthanc_deid.pipeline.recall import Recalls
from orthanc_deid.pipeline.recorder import Recorder
from orthanc_deid.pipeline.release import Keeper
from orthanc_deid.pipeline.senders import maker
from orthanc_deid.pipeline.series import SeriesTasks
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.spool import SpoolIntake
from orthanc_deid.pipeline.spoolfolder import Spool
from orthanc_deid.pipeline.tasks import DELIVERY, EXECUTOR, SERIES, Tasks
from orthanc_deid.store import Store, deliveries, expected, knowledge, ledger, projects, services, waits
from orthanc_deid.store.database import tasks_engine
from orthanc_deid.store.rows import BACKFILL

log = logs.get(__name__)

TASKS_FILE = "dbos.sqlite3"
"""The database of the tasks, beside our own; it is made after that."""
LOCK_SECONDS = 15.0
"""How long a start waits for the service before it, which may be ending still."""
DRY_SECONDS = 600.0
"""How long a page of a dry run may take."""


def executor(outbox: str | None) -> str:
    """Return how DBOS knows the service that has this outbox."""
    return EXECUTOR if outbox is None else f"{EXECUTOR}-{outbox}"


class Service:
    """One de-identification service beside one Orthanc."""

    def __init__(
        self,
        config: Config,
        orthanc: OrthancClient,
        peers: Peers,
        store: Store,
        master: MasterKey,
        receivers: Receivers | None = None,
    ) -> None:
        """Bind the projects to their keys. Raises KeyFileError when the key file is not the one the database knows."""
        self.config = config
        self.orthanc = orthanc
        self.store = store
        self.master = master
        self.receivers = receivers or Receivers()
        now = time.time()
        with store.begin() as conn:
            keys = {name: projects.open_keys(conn, master, name, now) for name in config.projects}
        self._shared = Shared(
            config,
            store,
            orthanc,
            Outbox(config.data_directory / "outbox"),
            keys,
            f"{os.getpid()}-{secrets.token_hex(4)}",
            receivers=self.receivers,
        )
        self._membership = Membership(self._shared, self._take_over) if store.shared else None
        if self._membership is not None:
            self._shared.clock, self._shared.held = self._membership.clock, self._membership.held
            self._shared.leads.clear()
        self._shared.peers = peers
        self._recorder = Recorder(self._shared)
        self._pool = Pool(config.workers, self._setup(), self._known)
        self._spool: SpoolIntake | None = None
        if config.gateway is not None:
            rules = [rule for project in config.projects.values() for rule in project.match.conditions]
            spool = Spool(config.gateway.spool, [rule.tag for rule in rules if rule.tag])
            self._spool = SpoolIntake(self._shared, spool, config.gateway)
        self._governor = Governor(self._shared, self._narrow, lambda: self._keeper.nudge())
        titles = {"take_titles": self._spool.titles} if self._spool else {}
        self._intake = Intake(self._shared, arrived=self._governor.arrived, **titles)
        self._series = SeriesTasks(self._shared, self._pool, self._recorder, self._intake.look_again)
        self._deliveries = DeliveryTasks(self._shared, self._recorder, maker(self._shared))
        self._keeper = Keeper(self._shared, self._deliveries.resting, self._deliveries.clock_was_set)
        self._committer = Committer(self._shared, self._recorder)
        self._tasks = Tasks(
            tasks_engine(config.database, config.database_password_file)
            if isinstance(config.database, str)
            else config.data_directory / TASKS_FILE,
            {SERIES: self._series.run, DELIVERY: self._deliveries.run},
            self._shared.stopping,
            lambda: executor(self._shared.here),
        )
        self._shared.tasks = self._tasks
        self.recalls = Recalls(self._shared, self._deliveries)
        self.jobs = Jobs(self, self._shared.clock, self._shared.leads)
        self._lock: BinaryIO | None = None
        self._started = 0.0

    # Life

    def start(self) -> None:
        """Resume what a former run left, and begin. Raises SetupError when another service uses the same folder."""
        self._take_lock()
        self._shared.outbox.prepare()
        if self._membership is not None:
            self._membership.join()
        self._resume()
        self._started = self._shared.clock()
        self._pool.start()
        self._recorder.start()
        self._tasks.start()
        if self._membership is not None:
            self._membership.start()
        if self._spool:
            self._spool.start()
        self._intake.start()
        self._keeper.start()
        self._committer.start()
        self._governor.start()
        self.recalls.start()
        self.jobs.start()
        log.info("the service has started", version=__version__, pid=os.getpid(), workers=self._pool.size)

    def stop(self, timeout: float = 8.0) -> None:
        """Stop within about `timeout` seconds; what is not done is done after the next start."""
        deadline = time.monotonic() + timeout

        def left(share: float) -> float:
            return max(0.2, (deadline - time.monotonic()) * share)

        self._shared.stopping.set()
        self.jobs.stop(left(0.2))
        self._intake.stop(left(0.2))
        if self._spool:
            self._spool.stop(left(0.2))
        self._keeper.stop(left(0.2))
        self._committer.stop(left(0.2))
        self._governor.stop(left(0.1))
        self.recalls.stop(left(0.2))
        self._deliveries.stop()
        self._pool.stop(left(0.4))
        self._tasks.stop(left(0.5))
        self._recorder.stop(left(1.0))
        with self.store.begin() as conn:
            ledger.requeue_orphans(conn, self._shared.clock(), owner=self._shared.owner)
            if self._membership is not None:
                deliveries.requeue_orphans(conn, self._shared.clock(), owner=self._shared.owner)
        if self._membership is not None:
            self._membership.stop(left(1.0))
        self.orthanc.close()
        self._shared.peers.close()
        if self._lock is not None:
            self._lock.close()
        log.info("the service has stopped")

    def _take_lock(self) -> None:
        """Hold the folder alone: two services over one outbox would give each other's work back."""
        self.config.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (self.config.data_directory / "service.lock").open("wb")
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    lock.close()
                    raise SetupError(f"another service uses {self.config.data_directory}") from None
                self._shared.stopping.wait(0.1)
        self._lock = lock

    def _resume(self) -> None:
        """Give back what a dead run had in hand, and clear the outbox of what nobody needs."""
        now = self._shared.clock()
        rows = sends = 0
        with self.store.begin() as conn:
            if self._membership is None:  # of several services, those that died are known (store.services)
                rows = ledger.requeue_orphans(conn, now)
                sends = deliveries.requeue_orphans(conn, now)
            ahead = waits.bound(conn, now)
        needed: dict[int, str] = {}
        with self.store.read() as conn:
            for row, digest in ledger.live_outputs(conn, outbox=self._shared.here):
                needed[row] = digest
        for row, path in self._shared.outbox.files():
            if row not in needed or path != self._shared.outbox.path(row, needed[row]):
                path.unlink(missing_ok=True)
        if rows or sends:
            log.info("work of a former run is resumed", count=rows, total=sends)
        if ahead:
            log.warning("the clock went back while the service was down: what waited for it is due", count=ahead)

    @property
    def lost(self) -> bool:
        """Whether the other services took this one for dead and have its work, or the database is another: it ends."""
        if self.store.replaced():
            log.error("another file stands where the database was: the service begins again, with that one")
            return True
        return self._membership is not None and self._membership.lost.is_set()

    def _take_over(self, outboxes: list[str]) -> None:
        self._tasks.take_over([executor(outbox) for outbox in outboxes])
        self._keeper.nudge()

    # What others ask for

    def nudge(self) -> None:
        """Something has happened: look at the change log, the backlog and what is due."""
        self._intake.nudge()
        if self._spool:
            self._spool.nudge()
        self._keeper.nudge()

    def stored(self) -> None:
        """Something was stored in Orthanc, or in the spool: make room for what follows, and look."""
        self._governor.stir()
        self._intake.nudge()
        if self._spool:
            self._spool.nudge()

    @property
    def rush(self) -> threading.Event:
        """Set while instances arrive in a rush."""
        return self._shared.rush

    def reconcile(self) -> None:
        """Compare all instances with the ledger soon."""
        self._intake.reconcile()

    def keys(self, project: str) -> ProjectKeys:
        """Return the keys of a configured project."""
        return self._shared.keys[project]

    def enqueue(
        self,
        project: str,
        instance_ids: Iterable[str],
        job_id: str | None,
        *,
        push: bool = True,
        again: bool = False,
        priority: int = BACKFILL,
    ) -> int:
        """Put instances into a project's ledger; returns how many of them the job now has (new ones and known ones).

        Our own research copies, and what Orthanc does not have any more, are left out. Raises OrthancError.
        """
        return self._intake.enqueue(project, instance_ids, job_id, push, again, priority)

    def may_delete(self, instance: str, project: str, digest: str) -> str:
        """Tell whether an original may be deleted: `delete` when every project that has it has confirmed it and it is
        still the content that was confirmed, `later` while one is at work on it, else `keep`."""
        states = set()
        with self.store.read() as conn:
            for name, vault in self._shared.vaults.items():
                states |= {row.state for row in ledger.find(conn, name, vault.index("instance", instance))}
        if states - ledger.TERMINAL:
            return "later"
        try:
            same = source_digest(self._shared.keys[project], self.orthanc.content_name(instance)) == digest
        except NotFound:
            return "keep"
        return "delete" if same and states == {"confirmed"} else "keep"

    def release(self, project: str, out_study_uid: str) -> bool:
        """Release a study by its research UID; False when there is no such study."""
        return self._keeper.release(project, out_study_uid)

    def hold(self, project: str, out_study_uid: str) -> bool:
        """Hold a study back by its research UID; False when there is no such study."""
        return self._keeper.hold(project, out_study_uid)

    def retry(self, ledger_id: int) -> bool:
        """Do a held instance again, or offer again what a destination did not take; False when there is neither."""
        with self.store.begin() as conn:
            again = ledger.retry(conn, [ledger_id], self._shared.clock())
            offered = 0 if again else deliveries.resend(conn, [ledger_id], self._shared.clock())
        for _, project, series_index in again:
            self._tasks.ask(SERIES, project, series_index)
        if offered:
            self._keeper.nudge()
        return bool(again or offered)

    def exclude(self, ledger_id: int) -> bool:
        """Leave an instance out for good; False when there is none of this number that can be."""
        with self.store.begin() as conn:
            done = ledger.exclude(conn, [ledger_id], self._shared.clock())
        self._keeper.nudge()
        return bool(done)

    def unmatched(self, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """Return a page of the files in the spool that no project takes, by their random names."""
        return self._spool.unmatched(after, limit) if self._spool else []

    def discard(self, name: str) -> bool:
        """Delete a file of the spool that no project takes; False when there is none of this name."""
        return bool(self._spool and self._spool.discard(name))

    def dry_run(self, project: str, instance_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """De-identify and verify instances and keep nothing: for each its outcome and reason, and what was seen of it.

        Raises Unavailable where Orthanc or the disk cannot now.
        """
        answers: dict[int, dict[str, Any]] = {}
        ended = threading.Semaphore(0)

        def done(what: Done) -> None:
            outcome = {"ready": "deidentified", "unreadable": "quarantined"}.get(what.state, what.state)
            answers[what.row] = {**(what.findings or {}), "outcome": outcome, "reason": what.reason}
            ended.release()

        def crashed(item: Item) -> None:
            done(Done(item.row, "quarantined", "crashed"))

        with self.store.read() as conn:
            own = expected.find(conn, list(instance_ids))
        asked = 0
        for number, instance in enumerate(instance_ids):
            if instance in own:
                answers[number] = {"outcome": "own-output", "reason": None}
                continue
            asked += 1
            self._pool.submit(Work(Chunk(project, (Item(number, instance, ""),), dry=True), done, crashed, BACKFILL))
        deadline = time.monotonic() + DRY_SECONDS
        for _ in range(asked):
            while not ended.acquire(timeout=0.5):
                if self._shared.stopping.is_set() or time.monotonic() > deadline:
                    raise OrthancError("the dry run was cut off")
        if any(answer["outcome"] == "wait" for answer in answers.values()):
            raise Unavailable("instances could not be read for the dry run")
        return [answers[number] for number in range(len(instance_ids))]

    def health(self) -> dict[str, Any]:
        """Return how the service does: states, backlog, workers, peers and what does not work; neither ids nor
        values."""
        now = self._shared.clock()
        counts: dict[str, dict[str, int]] = {}
        sending: dict[str, dict[str, dict[str, int]]] = {}
        oldest = None
        living: list[services.ServiceRow] = []
        try:
            with self.store.read() as conn:
                counts = ledger.counts(conn)
                living = services.living(conn) if self._membership is not None else []
                oldest = ledger.oldest_unfinished(conn)
                sending = deliveries.counts(conn)
            self._shared.troubles.clear("ledger")
        except (SQLAlchemyError, OSError) as error:  # that it cannot be read is what health is asked for
            self._shared.troubles.note("ledger", type(error).__name__)
        troubles = self._shared.troubles.show()
        alive = self._pool.alive()
        states: dict[str, int] = {}
        for project in counts.values():
            for state, number in project.items():
                states[state] = states.get(state, 0) + number
        backlog = sum(states.get(state, 0) for state in ("queued", "working"))
        return {
            "State": "stopping" if self._shared.stopping.is_set() else "degraded" if troubles else "ok",
            "Version": __version__,
            "Since": self._started,
            "Backlog": backlog,
            "OldestSeconds": max(0.0, now - oldest) if oldest else 0.0,
            "States": states,
            "Projects": counts,
            "Deliveries": sending,
            "Workers": {
                "Configured": self._pool.size,
                "Alive": alive,
                "Busy": self._pool.busy,
                "Restarts": self._pool.restarts,
                "Waiting": self._pool.waiting,
            },
            "Tasks": self._tasks.count(),
            "LastChange": self._intake.last_sequence,
            "LastReconciled": self._intake.last_reconciled,
            "Orthanc": {"Answers": self.orthanc.answers, "Seconds": round(self.orthanc.seconds, 3)},
            "Free": self._free(),
            "PeersDown": sorted(self._deliveries.down()),
            "DestinationsWaiting": self._shared.gates.waiting(now),
            "Flow": {
                "Stage": self._governor.stage,
                "LatencySeconds": self._governor.pressure.latency,
                "IdleSeconds": self._governor.pressure.idle,
                "OutboxBytes": self._governor.outbox_bytes,
                "Paused": self._shared.paused,
                "BackfillWaits": sorted(
                    name
                    for name, project in self.config.projects.items()
                    if not project.backfill_window.open(self._shared.clock())
                ),
            },
            "Troubles": troubles,
            "Leads": self._shared.leads.is_set(),
            "Services": [
                {
                    "Name": one.name,
                    "Outbox": one.outbox[:8],
                    "Since": one.started,
                    "BeatSeconds": round(max(0.0, now - one.beat), 1),
                    "Leads": one.leads,
                    "This": one.owner == self._shared.owner,
                }
                for one in living
            ],
            **({"Gateway": self._spool.health()} if self._spool else {}),
        }

    def _free(self) -> dict[str, int]:
        """Return the bytes that are free where the service writes."""
        return {
            place: shutil.disk_usage(folder).free
            for place, folder in (("outbox", self._shared.outbox.folder), ("data", self.config.data_directory))
            if folder.is_dir()
        }

    def render_metrics(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        return render(self.store, self.health(), self.config.projects)

    # For the workers

    def _setup(self) -> Setup:
        url, authorization, ca = self.orthanc.address
        return Setup(
            url,
            authorization,
            ca,
            self._shared.outbox.folder,
            {
                name: ProjectSetup(
                    name,
                    project.profile_path,
                    self._shared.keys[name],
                    dict(project.domains),
                    project.encrypt_to,
                )
                for name, project in self.config.projects.items()
            },
            self.config.gateway.spool if self.config.gateway else None,
            self.config.niceness,
        )

    def _narrow(self, share: Share) -> None:
        self._pool.narrow(share)
        self._deliveries.narrow(share)

    def _known(self, project: str, subject_index: str, revision: int) -> tuple[int, list[bytes]]:
        """Answer a worker, however long the database is away: without an answer its thread would end, and its chunk
        would be in nobody's hands."""
        wait = 0.2
        while True:
            try:
                with self.store.read() as conn:
                    return knowledge.since(conn, project, subject_index, revision)
            except (SQLAlchemyError, OSError) as error:
                if self._shared.troubles.note("database", type(error).__name__):
                    log.error("a worker waits for the database", error=type(error).__name__)
                if self._shared.stopping.wait(wait):
                    raise EOFError("the service stops") from None
                wait = min(2 * wait, 5.0)
