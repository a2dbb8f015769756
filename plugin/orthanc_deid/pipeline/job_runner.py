"""Drives the jobs: hands over their pages in turn, counts what came of them, and sees when one has ended.

One thread serves all jobs in turn, so a job over everything does not keep a small one waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from orthanc_deid import logs
from orthanc_deid.orthanc.client import OrthancError, Unavailable
from orthanc_deid.pipeline import job_pace
from orthanc_deid.pipeline.job_feed import Host, JobFeed, change
from orthanc_deid.pipeline.job_model import (
    ACTIVE,
    CAME_OUT,
    CODE_INEXISTENT,
    CODE_PLUGIN,
    FAILURE,
    IN_HAND,
    PARKED,
    SUCCESS,
    Tally,
)
from orthanc_deid.store import cohorts, job_items
from orthanc_deid.store import jobs as rows
from orthanc_deid.store.jobs import JobRow
from orthanc_deid.store.rows import TERMINAL

FOLD = 2000
"""Rows that are counted in one transaction."""
STUDIES_SHOWN = 20
"""Research studies that a job names; the project's list has them all."""
TIDY_SECONDS = 30.0
"""How often ended jobs are looked through for what has changed since, and for links that nobody needs."""

_PAUSE = 0.25  # seconds between two looks at a job that waits
_IDLE = 1.0  # seconds between two looks for jobs where several services may make them
_RUSHED = 0.5  # more, while instances arrive in a rush
_PATIENCE = (1.0, 30.0)  # first and longest wait while Orthanc does not answer

log = logs.get(__name__)


class JobRunner:
    """The thread that drives the jobs of one service."""

    def __init__(self, host: Host, clock: Callable[[], float], leads: threading.Event | None = None) -> None:
        """Only while `leads` is set the jobs are driven: another service does it otherwise."""
        self._host = host
        self._leads = leads
        self._clock = clock
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._waits: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._met: set[str] = set()
        self._rates = job_pace.Rates()
        self._tidy_at = 0.0
        self.feed = JobFeed(host, clock)

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop the thread after the page it is at."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def wake(self) -> None:
        """Look at the jobs now: one was made or changed."""
        self._due.clear()
        self._wake.set()

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self._leads is not None and not self._leads.is_set():
                self.feed.keep_only(())
                self._met.clear()
                self._leads.wait(_IDLE)
                continue
            began = time.monotonic()
            try:
                active = self.turn()
                if time.monotonic() >= self._tidy_at:
                    self._tidy_at = time.monotonic() + TIDY_SECONDS
                    self.tidy()
            except Exception as error:
                # The database is busy or away: nothing is lost, the rows still say what is to be done.
                log.error("jobs could not be looked at", error=type(error).__name__)
                active = True
            # Looking costs a share of the time only, however large the jobs are.
            # Another service may make or change a job, and tells only the database.
            idle = _IDLE if self._host.store.shared else TIDY_SECONDS
            pause = max(_PAUSE, 5 * (time.monotonic() - began)) if active else idle
            if self._host.rush.is_set():
                self._stopped.wait(_RUSHED)
            self._wake.wait(pause)
            self._wake.clear()

    def turn(self) -> bool:
        """Give each active job one step. Returns whether there is any."""
        with self._host.store.read() as conn:
            active = [row for row in rows.running(conn) if row.state in ACTIVE]
        ids = {row.id for row in active}
        self.feed.keep_only(ids)
        for gone in self._met - ids:
            self._met.discard(gone)
            self._rates.forget(gone)
        moved = False
        for row in active:
            if self._stopped.is_set() or self._due.get(row.id, 0.0) > self._clock():
                continue
            moved = self.step(row) or moved
        if moved:
            self._wake.set()
        return bool(active)

    def step(self, row: JobRow) -> bool:
        """Count what has ended, hand over a page, or see whether the job has ended. Returns whether there is more to
        do at once."""
        try:
            if row.project not in self._host.config.projects:
                self._end(row.id, FAILURE, "its project is no longer configured", CODE_PLUGIN)
                return False
            if row.id not in self._met:
                self._meet(row)
            counted = self._count(row)
            moved = self._forward(row, counted)
            self._waits.pop(row.id, None)
            if not moved:
                self._conclude(row.id)
            return moved or counted
        except OrthancError as error:
            self.feed.close(row.id)
            if isinstance(error, Unavailable) or not error.status:
                self._wait(row.id, error)
            else:
                text = f"Orthanc refused to list its resources (status {error.status})"
                self._end(row.id, FAILURE, text, CODE_PLUGIN)
        except SQLAlchemyError as error:  # the database is away: the job goes on when it is back
            self.feed.close(row.id)
            log.warning("a job waits for the database", job=row.id, error=type(error).__name__)
            self._due[row.id] = self._clock() + _PATIENCE[0]
        except Exception as error:
            self.feed.close(row.id)
            log.error("a job failed", job=row.id, error=type(error).__name__)
            self._end(row.id, FAILURE, f"unexpected error ({type(error).__name__})", CODE_PLUGIN)
        return False

    def _forward(self, row: JobRow, counting: bool) -> bool:
        if counting:
            return True
        if row.content.get("Again") is not None:
            return not self.feed.full(row.id) and self.feed.again(row)
        if row.content["Expanded"] or row.content.get("From"):  # a cohort is handed over as it is fetched
            return False
        if not row.content["DryRun"] and self.feed.full(row.id):
            return False
        return self.feed.next(row)

    def _wait(self, job_id: str, error: OrthancError) -> None:
        """Ask Orthanc again later, each time after twice as long."""
        first, longest = _PATIENCE
        wait = min(longest, 2 * self._waits.get(job_id, first / 2))
        self._waits[job_id] = wait
        self._due[job_id] = self._clock() + wait
        log.warning("a job waits for Orthanc", job=job_id, error=type(error).__name__, seconds=wait)
        change(self._host.store, job_id, Waiting="Orthanc does not answer")

    # Counting

    def _meet(self, row: JobRow) -> None:
        """Start the clock of a job that this run of the service sees for the first time, or that was resumed."""
        pace, now = row.content.get("Pace"), self._clock()
        self._rates.forget(row.id)
        self._met.add(row.id)
        if pace is None:
            change(self._host.store, row.id, Pace=job_pace.begin(row.created))
        elif now - pace["Seen"] > 2 * job_pace.NOTED:
            change(self._host.store, row.id, Pace=job_pace.go_on(pace, now))

    def _count(self, row: JobRow) -> bool:
        """Count what has come to its outcome, and note the pace; returns whether there may be more to count."""
        store, now = self._host.store, self._clock()
        made: list[tuple[str, str]] = []
        if row.content["DryRun"]:
            number, done = 0, sum(row.content["Dry"].get("outcomes", {}).values())
        else:
            with store.begin() as conn:
                number, made = job_items.fold(conn, row.id, FOLD, self._also(row))
            with store.read() as conn:
                done = Tally(*job_items.outcomes(conn, row.id)).done
        pace = row.content.get("Pace")
        # A rate over the time that it was paused would say nothing.
        rate = self._rates.add(row.id, now, done, None if pace is None else pace["Since"])
        known = row.content.get("Studies") or []
        new = [study for study in map(list, made) if study not in known][: STUDIES_SHOWN - len(known)]
        if new or (pace is not None and job_pace.due(pace, now, rate)):
            with store.begin() as conn:
                job = rows.get(conn, row.id, lock=True)
                if job is not None and job.state in ACTIVE:
                    content = {**job.content, "Studies": [*known, *new]}
                    if job.content.get("Pace") is not None:
                        content["Pace"] = job_pace.seen(job.content["Pace"], now, rate)
                    rows.update(conn, row.id, content=content)
        return number == FOLD

    def _also(self, row: JobRow) -> tuple[str, ...]:
        """What waits for a person is counted too: it may be the whole job."""
        project = self._host.config.projects.get(row.project)
        return ("ready",) if project is not None and project.release == "manual" else ()

    def tidy(self) -> None:
        """Count what people decided on after the end of a job, and forget what a job that succeeded needs no more: its
        links, and whom and what it was asked for. One that failed or was cancelled can be resubmitted, and keeps it."""
        with self._host.store.read() as conn:
            ended = rows.untidied(conn)
        for row in ended:
            if self._stopped.is_set():
                return
            with self._host.store.begin() as conn:
                more, _ = job_items.fold(conn, row.id, FOLD, self._also(row))
                if row.state == SUCCESS:
                    more += job_items.tidy(conn, row.id, FOLD)
                    if "Request" in row.content:
                        cohorts.forget(conn, row.id)
                        rows.forget_request(conn, row.id)
                if not more:
                    rows.update(conn, row.id, tidied=not job_items.in_hand(conn, row.id))
            if more:
                self._tidy_at = 0.0

    # The end

    def _conclude(self, job_id: str) -> None:
        """End a job when every instance has an outcome, or waits for a person."""
        with self._host.store.read() as conn:
            row = rows.get(conn, job_id)
            if row is None or row.state not in ACTIVE or not row.content["Expanded"]:
                return
            if row.content.get("Again") is not None:
                return
            lines = cohorts.counts(conn, job_id) if row.content.get("From") else {}
            if row.content["DryRun"]:
                dry = row.content["Dry"]
                states, reasons, done = dry.get("outcomes", {}), dry.get("reasons", {}), True
            else:
                if not TERMINAL.isdisjoint(job_items.in_hand(conn, job_id)):
                    return  # counted first, in the next step
                states, reasons = job_items.outcomes(conn, job_id)
                done = self._waits_for_people_only(conn, row, states)
        if not done:
            return
        total = sum(states.values())
        came_out = sum(states.get(state, 0) for state in (*CAME_OUT, "deidentified"))
        parked = sum(states.get(state, 0) for state in PARKED)
        if total == 0 and row.content["Skipped"] == 0 and row.content["Resources"]:
            self._end(job_id, FAILURE, "its resources no longer exist", CODE_INEXISTENT)
        elif row.content.get("From") and not total and lines.get(cohorts.FAILED):
            self._end(job_id, FAILURE, f"nothing came of {lines[cohorts.FAILED]} lines", CODE_PLUGIN)
        elif parked and not came_out:
            named = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
            self._end(job_id, FAILURE, f"no instance came out ({named})", CODE_PLUGIN)
        else:
            self._end(job_id, SUCCESS, "", 0)

    def _waits_for_people_only(self, conn: Any, row: JobRow, states: dict[str, int]) -> bool:
        if any(states.get(state, 0) for state in (*IN_HAND, "released")):
            return False
        ready = states.get("ready", 0)
        project = self._host.config.projects.get(row.project)
        if not ready or project is None or project.release == "manual":
            return True
        return ready == rows.waiting(conn, row.id, project.incomplete == "hold")

    def _end(self, job_id: str, state: str, error: str, code: int) -> None:
        now = self._clock()
        with self._host.store.begin() as conn:
            row = rows.get(conn, job_id, lock=True)
            if row is None or row.state not in ACTIVE:
                return
            content = {**row.content, "ErrorCode": code, "Waiting": None}
            if content.get("Pace") is not None:
                content["Pace"] = job_pace.rest(content["Pace"], now)
            rows.update(conn, job_id, state=state, completed=now, error=error, content=content, tidied=False)
        self._tidy_at = 0.0
        log.info("a job has ended", job=job_id, project=row.project, state=state)
