"""Hands the instances of jobs to the pipeline, page by page, and sees when a job has ended.

One thread serves all jobs in turn, so a job over everything does not keep a small one waiting. Only a window of
instances is open at a time: what arrives meanwhile is not queued behind millions, and pausing or cancelling takes hold
soon. After a restart a job is expanded again; what it already has is passed over.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from orthanc_deid import logs
from orthanc_deid.config import Config
from orthanc_deid.identity.keys import ProjectKeys
from orthanc_deid.identity.vault import Vault
from orthanc_deid.orthanc import resources
from orthanc_deid.orthanc.client import OrthancError, Unavailable
from orthanc_deid.pipeline.job_model import (
    ACTIVE,
    CAME_OUT,
    CODE_INEXISTENT,
    CODE_PLUGIN,
    FAILURE,
    IN_HAND,
    PARKED,
    PAUSED,
    PENDING,
    RUNNING,
    SUCCESS,
    JobRequest,
)
from orthanc_deid.store import Store
from orthanc_deid.store import jobs as rows
from orthanc_deid.store.jobs import JobRow

PAGE = 200
"""Instances handed over at a time."""

WINDOW = 1000
"""Instances of one job that may wait to be de-identified; more are handed over as these are done."""

DRY_PAGE = 40
"""Instances of a dry run handed over at a time: their outcome is waited for."""

OWN = "own-output"
"""Outcome of a research copy in a dry run: a real job passes it over."""

_PAUSE = 0.25  # seconds between two looks at a job that waits
_PATIENCE = (1.0, 30.0)  # first and longest wait while Orthanc does not answer

log = logs.get(__name__)


class Host(Protocol):
    """What jobs need of the service."""

    config: Config
    store: Store

    @property
    def orthanc(self) -> resources.Rest:
        """Orthanc's REST."""

    def keys(self, project: str) -> ProjectKeys:
        """Return the keys of a configured project."""

    def enqueue(
        self, project: str, instance_ids: Iterable[str], job_id: str | None, *, push: bool = True, again: bool = False
    ) -> int:
        """Put instances into the ledger for a job; returns how many of them the job now has."""

    def dry_run(self, project: str, instance_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """De-identify instances and keep nothing; says for each what would have happened."""

    def nudge(self) -> None:
        """Look for new work now."""


class JobRunner:
    """The thread that drives the jobs of one service."""

    def __init__(self, host: Host, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._feeds: dict[str, Iterator[resources.Page]] = {}
        self._waits: dict[str, float] = {}
        self._due: dict[str, float] = {}

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
            began = time.monotonic()
            try:
                active = self.turn()
            except Exception as error:
                # The database is busy or away: nothing is lost, the rows still say what is to be done.
                log.error("jobs could not be looked at", error=type(error).__name__)
                active = True
            # Looking costs a share of the time only, however large the jobs are.
            pause = max(_PAUSE, 5 * (time.monotonic() - began)) if active is True else active
            self._wake.wait(pause or None)
            self._wake.clear()

    def turn(self) -> bool | float:
        """Give each active job one step. Returns True to look again soon, 0 when there is none."""
        with self._host.store.read() as conn:
            active = [row for row in rows.running(conn) if row.state in ACTIVE]
        for gone in self._feeds.keys() - {row.id for row in active}:
            del self._feeds[gone]
        moved = False
        for row in active:
            if self._stopped.is_set() or self._due.get(row.id, 0.0) > self._clock():
                continue
            moved = self.step(row) or moved
        if moved:
            self._wake.set()
        return bool(active) or 0.0

    def step(self, row: JobRow) -> bool:
        """Hand over a page of a job, or see whether it has ended. Returns whether there is more to do at once."""
        try:
            moved = self._feed(row) if not row.content["Expanded"] else False
            self._waits.pop(row.id, None)
            if not moved:
                self._conclude(row.id)
            return moved
        except OrthancError as error:
            self._feeds.pop(row.id, None)
            if isinstance(error, Unavailable) or not error.status:
                self._wait(row.id, error)
            else:
                text = f"Orthanc refused to list its resources (status {error.status})"
                self._end(row.id, FAILURE, text, CODE_PLUGIN)
        except Exception as error:
            self._feeds.pop(row.id, None)
            log.error("a job failed", job=row.id, error=type(error).__name__)
            self._end(row.id, FAILURE, f"unexpected error ({type(error).__name__})", CODE_PLUGIN)
        return False

    def _wait(self, job_id: str, error: OrthancError) -> None:
        """Ask Orthanc again later, each time after twice as long."""
        first, longest = _PATIENCE
        wait = min(longest, 2 * self._waits.get(job_id, first / 2))
        self._waits[job_id] = wait
        self._due[job_id] = self._clock() + wait
        log.warning("a job waits for Orthanc", job=job_id, error=type(error).__name__, seconds=wait)
        self._change(job_id, Waiting="Orthanc does not answer")

    def _feed(self, row: JobRow) -> bool:
        """Hand over one page; returns False when the window is full or nothing is left."""
        if row.project not in self._host.config.projects:
            self._end(row.id, FAILURE, "its project is no longer configured", CODE_PLUGIN)
            return False
        dry = bool(row.content["DryRun"])
        with self._host.store.read() as conn:
            states = rows.outcomes(conn, row.id)
        if not dry and states.get("queued", 0) + states.get("working", 0) >= WINDOW:
            return False
        feed = self._feeds.get(row.id)
        if feed is None:
            request = JobRequest.opened(row, self._host.keys(row.project))
            feed = self._feeds[row.id] = self._expand(request, DRY_PAGE if dry else PAGE)
            # The expansion begins anew: so do the counts that grow with it.
            self._change(row.id, Skipped=0, Dry={})
        page = next(feed, None)
        if page is None:
            del self._feeds[row.id]
            self._change(row.id, Expanded=True, Position=1.0, Waiting=None)
            return False
        ids, position = page
        if dry:
            self._try(row, ids, position)
        else:
            self._hand_over(row, ids, position)
        return True

    def _expand(self, request: JobRequest, size: int) -> Iterator[resources.Page]:
        orthanc = self._host.orthanc
        if request.query is None:
            return resources.expand(orthanc, request.resources, size)
        if not request.query:
            return resources.everything(orthanc, size)
        level = resources.LEVEL_OF_TYPE[request.level]
        found = [(level, id_) for id_ in resources.find(orthanc, request.level, request.query)]
        return resources.expand(orthanc, found, size)

    def _hand_over(self, row: JobRow, ids: list[str], position: float) -> None:
        vault = Vault(self._host.keys(row.project))
        indexes = {vault.index("instance", id_): id_ for id_ in ids}
        with self._host.store.read() as conn:
            linked = rows.linked(conn, row.id, list(indexes))
        # What the job already has is not tried again: that would undo its outcome at every restart.
        new = [id_ for index, id_ in indexes.items() if index not in linked]
        taken = self._host.enqueue(row.project, new, row.id, push=row.content["Push"], again=True) if new else 0
        with self._host.store.begin() as conn:
            now = rows.get(conn, row.id)
            if now is None:
                return
            # Cancelled or paused while the page was on its way: the page follows.
            if now.state == PAUSED:
                rows.pause(conn, row.id, self._clock())
            elif now.state not in ACTIVE:
                rows.cancel(conn, row.id, self._clock())
            skipped = now.content["Skipped"] + len(new) - taken
            content = {**now.content, "Skipped": skipped, "Position": position, "Waiting": None}
            state = RUNNING if now.state == PENDING else now.state
            rows.update(conn, row.id, state=state, total=now.total + taken, content=content)

    def _try(self, row: JobRow, ids: list[str], position: float) -> None:
        results = self._host.dry_run(row.project, ids) if ids else []
        with self._host.store.begin() as conn:
            now = rows.get(conn, row.id)
            if now is None or now.state not in (*ACTIVE, PAUSED):
                return
            dry = {key: Counter(now.content["Dry"].get(key, {})) for key in ("outcomes", "reasons", "actions")}
            own = [result for result in results if result["outcome"] == OWN]
            for result in results:
                if result["outcome"] == OWN:
                    continue
                dry["outcomes"][result["outcome"]] += 1
                if result.get("reason"):
                    dry["reasons"][result["reason"]] += 1
                dry["actions"].update(result.get("actions") or {})
            content = {
                **now.content,
                "Dry": {key: dict(counts) for key, counts in dry.items()},
                "Skipped": now.content["Skipped"] + len(own),
                "Position": position,
                "Waiting": None,
            }
            state = RUNNING if now.state == PENDING else now.state
            rows.update(conn, row.id, state=state, total=now.total + len(ids), content=content)

    def _conclude(self, job_id: str) -> None:
        """End a job when every instance has an outcome, or waits for a person."""
        with self._host.store.read() as conn:
            row = rows.get(conn, job_id)
            if row is None or row.state not in ACTIVE or not row.content["Expanded"]:
                return
            if row.content["DryRun"]:
                states, reasons = row.content["Dry"].get("outcomes", {}), row.content["Dry"].get("reasons", {})
                done = True
            else:
                states, reasons = rows.outcomes(conn, job_id), rows.reasons(conn, job_id)
                done = self._waits_for_people_only(conn, row, states)
        if not done:
            return
        total = sum(states.values())
        came_out = sum(states.get(state, 0) for state in (*CAME_OUT, "deidentified"))
        parked = sum(states.get(state, 0) for state in PARKED)
        if total == 0 and row.content["Skipped"] == 0 and row.content["Resources"]:
            self._end(job_id, FAILURE, "its resources no longer exist", CODE_INEXISTENT)
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

    def _change(self, job_id: str, **fields: Any) -> None:
        with self._host.store.begin() as conn:
            row = rows.get(conn, job_id)
            if row is not None:
                rows.update(conn, job_id, content={**row.content, **fields})

    def _end(self, job_id: str, state: str, error: str, code: int) -> None:
        with self._host.store.begin() as conn:
            row = rows.get(conn, job_id)
            if row is None or row.state not in ACTIVE:
                return
            content = {**row.content, "ErrorCode": code, "Waiting": None}
            rows.update(conn, job_id, state=state, completed=self._clock(), error=error, content=content)
        log.info("a job has ended", job=job_id, project=row.project, state=state)
