"""Fetches the cohorts of jobs from another archive, line by line, and hands what came over to the project.

How far a line is lies sealed in the database: which studies it means, and what of each was here before it was fetched.
So a line goes on after a crash, what is here already is not fetched again, and only what a job fetched itself is ever
deleted. An archive that does not answer is waited for; a line that it refuses is tried some times, then reported.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from orthanc_deid import logs
from orthanc_deid.identity.vault import Vault
from orthanc_deid.orthanc import sources
from orthanc_deid.orthanc.client import OrthancError
from orthanc_deid.orthanc.sources import Origin, SourceDown, SourceFailed, origin_of
from orthanc_deid.pipeline.job_feed import PAGE, JobFeed, change
from orthanc_deid.pipeline.job_model import ACTIVE, PENDING, RUNNING
from orthanc_deid.store import cohorts, job_items
from orthanc_deid.store import jobs as rows
from orthanc_deid.store.cohorts import Line
from orthanc_deid.store.jobs import JobRow

PARALLEL = 2
"""Lines that are worked on at the same time."""
TRIES = 4
"""How often a line is tried before it counts as failed."""
PAUSES = (5.0, 30.0, 120.0)
"""Seconds between these."""
DOWN = (5.0, 300.0)
"""First and longest wait for an archive that does not answer."""
MAX_STUDIES = 10_000
"""Studies that one line may mean."""
FETCH_SECONDS = 4 * 3600.0
"""How long fetching one study may take."""
LOOK_SECONDS = 0.5

log = logs.get(__name__)


class Interrupted(Exception):
    """The job is not active any more, or the service stops: the line goes on later."""


class Fetcher:
    """One thread that hands lines to a few others."""

    def __init__(
        self, host: Any, feed: JobFeed, clock: Callable[[], float], leads: threading.Event | None = None
    ) -> None:
        """Only while `leads` is set lines are fetched: another service does it otherwise."""
        self._host = host
        self._leads = leads
        self._feed = feed
        self._clock = clock
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._lock = threading.Lock()
        self._busy: set[tuple[str, int]] = set()
        self._down: dict[str, tuple[float, float]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the threads."""
        self._pool = ThreadPoolExecutor(PARALLEL, thread_name_prefix="fetch")
        self._thread = threading.Thread(target=self._run, name="fetcher", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop; lines that are being worked on go on at the next start."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """Look now."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            active = False
            if self._leads is not None and not self._leads.is_set():
                self._leads.wait(LOOK_SECONDS)
                continue
            try:
                active = self.turn()
            except Exception as error:
                log.error("cohorts could not be looked at", error=type(error).__name__)
                active = True
            self._wake.wait(LOOK_SECONDS if active else 5.0)
            self._wake.clear()

    def turn(self) -> bool:
        """Give lines that are due to the threads, delete what is no longer kept. Returns whether a job is active."""
        with self._host.store.read() as conn:
            jobs = [row for row in rows.running(conn) if row.state in ACTIVE and row.content.get("From")]
        jobs = [row for row in jobs if not row.content["Expanded"] and row.project in self._host.config.projects]
        for row in jobs:
            self._start_lines(row)
        self._delete_fetched()
        return bool(jobs)

    def _start_lines(self, row: JobRow) -> None:
        now = self._clock()
        if self._down.get(row.id, (0.0, 0.0))[0] > now:
            return
        with self._host.store.read() as conn:
            due = cohorts.due(conn, row.id, now, 2 * PARALLEL)
            states = cohorts.counts(conn, row.id)
        left = sum(states.get(state, 0) for state in cohorts.OPEN)
        total = sum(states.values())
        change(self._host.store, row.id, Position=(total - left) / max(1, total), Expanded=not left)
        for line in due:
            key = (row.id, line.line)
            with self._lock:
                if key in self._busy or len(self._busy) >= PARALLEL:
                    continue
                self._busy.add(key)
            if self._pool is None:  # driven by hand
                self._work(row, line)
            else:
                self._pool.submit(self._work, row, line)

    def _work(self, row: JobRow, line: Line) -> None:
        """Work on a line, whatever happens: the answer is a state, or another try."""
        try:
            _Line(self._host, self._feed, row, line, self._clock, self._alive).run()
            if self._down.pop(row.id, None) is not None:
                change(self._host.store, row.id, Waiting=None)
        except Interrupted:
            pass  # the line stands where it stood, and is taken up when the job goes on
        except SourceDown:
            self._wait(row, "the source does not answer")
        except OrthancError as error:
            self._wait(row, "Orthanc does not answer" if not error.status else "Orthanc cannot fetch")
        except SourceFailed as error:
            self._failed(row, line, str(error))
        except Exception as error:
            log.error("a line of a cohort failed", job=row.id, error=type(error).__name__)
            self._failed(row, line, "error")
        finally:
            with self._lock:
                self._busy.discard((row.id, line.line))
            self._wake.set()

    def _wait(self, row: JobRow, why: str) -> None:
        first, longest = DOWN
        wait = min(longest, 2 * self._down.get(row.id, (0.0, first / 2))[1])
        self._down[row.id] = (self._clock() + wait, wait)
        log.warning("a job waits for its source", job=row.id, seconds=wait)
        change(self._host.store, row.id, Waiting=why)

    def _failed(self, row: JobRow, line: Line, reason: str) -> None:
        tries = line.tries + 1
        fields: dict[str, Any] = {"state": cohorts.FAILED, "reason": reason, "tries": tries}
        if tries < TRIES:
            fields = {"tries": tries, "next_try": self._clock() + PAUSES[min(tries, len(PAUSES)) - 1]}
        with self._host.store.begin() as conn:
            cohorts.update(conn, row.id, line.line, **fields)

    def _alive(self, job_id: str) -> bool:
        """Tell whether a job is still to be worked on."""
        if self._stopped.is_set():
            return False
        with self._host.store.read() as conn:
            row = rows.get(conn, job_id)
        return row is not None and row.state in ACTIVE

    # What is not kept

    def _delete_fetched(self) -> None:
        """Delete originals that a job fetched, once every project has confirmed them."""
        with self._host.store.read() as conn:
            jobs = [row for name in job_items.with_fetched(conn) if (row := rows.get(conn, name)) is not None]
        for row in jobs:
            if row.project not in self._host.config.projects:
                continue
            after = 0
            while not self._stopped.is_set():
                with self._host.store.read() as conn:
                    some = job_items.fetched(conn, row.id, after, PAGE)
                if not some:
                    break
                after = some[-1].id
                for one in some:
                    self._delete(row, one)

    def _delete(self, row: JobRow, one: Any) -> None:
        vault = Vault(self._host.keys(row.project))
        instance = vault.open("instance", one.source_sealed)
        verdict = self._host.may_delete(instance, row.project, one.source_digest)
        if verdict == "later":
            return
        deleted = 0
        if verdict == "delete":
            try:
                self._host.orthanc.change("DELETE", f"/instances/{instance}")
                deleted = 1
            except OrthancError as error:
                if error.status != 404:
                    return
        with self._host.store.begin() as conn:
            job_items.keep_originals(conn, row.id, [one.id])
            now = rows.get(conn, row.id, lock=True)
            if now is not None:
                count = now.content.get("OriginalsDeleted", 0) + deleted
                rows.update(conn, row.id, content={**now.content, "OriginalsDeleted": count}, tidied=False)


class _Line:
    """One line at work."""

    def __init__(
        self,
        host: Any,
        feed: JobFeed,
        row: JobRow,
        line: Line,
        clock: Callable[[], float],
        alive: Callable[[str], bool],
    ) -> None:
        self._host, self._feed, self._row, self._line = host, feed, row, line
        self._clock, self._alive = clock, alive
        self._vault = Vault(host.keys(row.project))
        self._origin: Origin = origin_of(row.content["From"])
        self._keys: Mapping[str, str] = json.loads(self._vault.open_bytes("job", line.sealed))
        self._studies: list[dict[str, Any]] = []
        self._fetched, self._handed = line.fetched, line.handed

    def run(self) -> None:
        """Do what is left of the line. Raises Interrupted, SourceDown, SourceFailed and OrthancError."""
        if self._line.progress is not None:
            self._studies = json.loads(self._vault.open_bytes("job", self._line.progress))
        elif not self._find():
            return
        for study in self._studies:
            if not study["done"] and not self._study(study):
                return
        reasons = [study["failed"] for study in self._studies if study.get("failed")]
        state = cohorts.FAILED if reasons else cohorts.FETCHED
        self._save(state=state, reason=reasons[0] if reasons else None)

    def _find(self) -> bool:
        """Ask the archive; returns whether there is something to fetch."""
        found = sources.find(self._host.orthanc, self._origin, self._keys, self._host.receivers)
        if len(found) > MAX_STUDIES:
            self._save(state=cohorts.FAILED, reason="too-many", studies=len(found))
            return False
        one = any(self._keys.get(key) for key in ("StudyInstanceUID", "AccessionNumber"))
        state = cohorts.NOT_FOUND if not found else cohorts.SEVERAL if one and len(found) > 1 else cohorts.FETCHING
        if state == cohorts.FETCHING and self._row.content["DryRun"]:
            state = cohorts.FOUND
        self._studies = [{"uid": study.uid, "count": study.instances, "before": None, "done": False} for study in found]
        self._save(state=state, studies=len(found), tries=0)
        return state == cohorts.FETCHING

    def _study(self, study: dict[str, Any]) -> bool:
        """Fetch a study as far as it is not here, and hand it over; returns False when it is to be tried again."""
        self._check()
        if self._feed.full(self._row.id):
            self._save(next_try=self._clock() + 1.0)
            return False
        study.pop("failed", None)
        here = sources.stored(self._host.orthanc, study["uid"])
        if study["before"] is None:
            # Written down before anything is fetched: whatever was here before is never deleted.
            study["before"] = here
            self._save(state=cohorts.FETCHING)
        reason = ""
        if study["count"] is None or len(here) < study["count"]:
            state = self._retrieve(study["uid"])
            here = sources.stored(self._host.orthanc, study["uid"])
            short = len(here) < study["count"] if study["count"] is not None else state != "Success"
            reason = "" if not short else "incomplete" if here else "not-sent"
        if reason:
            tries = self._line.tries + 1
            if tries < TRIES:
                self._save(tries=tries, next_try=self._clock() + PAUSES[min(tries, len(PAUSES)) - 1])
                return False
            study["failed"] = reason
            if self._host.config.projects[self._row.project].incomplete == "hold":
                here = []
        self._hand_over(study, here)
        return True

    def _retrieve(self, uid: str) -> str:
        """Fetch a study; returns how Orthanc's job ended."""
        began = self._clock()
        job = sources.retrieve(self._host.orthanc, self._origin, uid)
        try:
            return self._waited_for(job, began)
        finally:
            sources.forget_job(self._host.orthanc, job)

    def _waited_for(self, job: str, began: float) -> str:
        pause = threading.Event()
        while (state := sources.job_state(self._host.orthanc, job)) not in ("Success", "Failure"):
            try:
                self._check()
            except Interrupted:
                sources.cancel(self._host.orthanc, job)
                raise
            if self._clock() - began > FETCH_SECONDS:
                sources.cancel(self._host.orthanc, job)
                return "Failure"
            pause.wait(0.2)
        return state

    def _hand_over(self, study: dict[str, Any], here: list[str]) -> None:
        before = set(study["before"])
        ours = [instance for instance in here if instance not in before]
        for start in range(0, len(here), PAGE):
            page = here[start : start + PAGE]
            taken, _ = self._feed.give(self._row, page)
            self._handed += taken
            if not self._row.content["KeepOriginals"]:
                self._note(set(page) & set(ours))
        self._fetched += len(ours)
        study["done"] = not study.get("failed")
        study["before"] = sorted(before) if study.get("failed") else []
        with self._host.store.begin() as conn:
            row = rows.get(conn, self._row.id, lock=True)
            if row is not None and row.state == PENDING:
                rows.update(conn, self._row.id, state=RUNNING)
        self._save(tries=0)

    def _note(self, instances: set[str]) -> None:
        """Note which of them the job itself fetched: what came in another way meanwhile is somebody else's."""
        mine = [
            instance
            for instance in sorted(instances)
            if sources.came_from(self._host.orthanc.metadata(instance), self._origin)
        ]
        indexes = [self._vault.index("instance", instance) for instance in mine]
        with self._host.store.begin() as conn:
            job_items.note_fetched(conn, self._row.id, job_items.rows_by_source(conn, self._row.project, indexes))

    def _save(self, **fields: Any) -> None:
        sealed = self._vault.seal_bytes("job", json.dumps(self._studies).encode()) if self._studies else None
        fields = {"progress": sealed, "fetched": self._fetched, "handed": self._handed, **fields}
        with self._host.store.begin() as conn:
            cohorts.update(conn, self._row.id, self._line.line, **fields)

    def _check(self) -> None:
        if not self._alive(self._row.id):
            raise Interrupted
