"""Jobs over what is already stored: made, listed, cancelled, paused, resumed and resubmitted.

A job is durable: its request lies sealed in the database, its instances are rows of the ledger, and all that is shown
of it is counted there. The work itself is done by the pipeline like any other; `job_runner` hands it over page by page.
"""

from __future__ import annotations

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydicom.datadict import tag_for_keyword

from orthanc_deid.orthanc import resources, sources
from orthanc_deid.orthanc.client import Failed
from orthanc_deid.orthanc.sources import Origin
from orthanc_deid.pipeline import job_dry, job_pace
from orthanc_deid.pipeline.cohort import check
from orthanc_deid.pipeline.fetcher import Fetcher
from orthanc_deid.pipeline.job_feed import Host
from orthanc_deid.pipeline.job_model import (
    ACTIVE,
    CODE_CANCELED,
    CODE_SUCCESS,
    FAILURE,
    PAUSED,
    PENDING,
    PRIORITY_ONE,
    RUNNING,
    TYPE,
    TYPE_DRY,
    JobRequest,
    Tally,
    expected,
    fresh,
    show,
)
from orthanc_deid.pipeline.job_runner import JobRunner
from orthanc_deid.store import cohorts, job_items
from orthanc_deid.store import jobs as rows
from orthanc_deid.store.jobs import JobRow

CHEAP = 0.1
"""Seconds that counting a job may take at each look; what takes longer is counted again after RESTED times as long."""
RESTED = 20


Counts = tuple[dict[str, int], dict[str, int]]
"""Instances by state, and by reason."""


class JobError(Exception):
    """A job that cannot be made or changed; the text carries neither ids nor values."""


class UnknownProject(JobError):
    """No project of this name is configured."""


class UnknownResource(JobError):
    """Orthanc has no such resource."""


class UnknownJob(JobError):
    """No job has this id."""


class UnknownSource(JobError):
    """Orthanc's configuration has no archive of this name."""


class WrongState(JobError):
    """The job's state does not allow this."""


class BadQuery(JobError):
    """Orthanc could not answer this query."""


class Jobs:
    """The jobs of one service."""

    def __init__(
        self, host: Host, clock: Callable[[], float] = time.time, leads: threading.Event | None = None
    ) -> None:
        self._host = host
        self._clock = clock
        self._runner = JobRunner(host, clock, leads)
        self.fetcher = Fetcher(host, self._runner.feed, clock, leads)
        self._counted: dict[str, tuple[float, Counts]] = {}

    def start(self) -> None:
        """Go on with the jobs that were not finished when the service stopped."""
        self._runner.start()
        self.fetcher.start()

    def stop(self, timeout: float) -> None:
        """Stop handing over instances; the jobs go on at the next start."""
        self.fetcher.stop(timeout / 2)
        self._runner.stop(timeout / 2)

    def make_request(
        self,
        project: str,
        *,
        resource_ids: Sequence[str] = (),
        query: Mapping[str, str] | None = None,
        level: str = "Study",
        dry_run: bool = False,
        push: bool = True,
        priority: int | None = None,
        sample: int | None = None,
    ) -> JobRequest:
        """Check what a caller asks for. Raises UnknownProject, UnknownResource and BadQuery."""
        self._check_project(project)
        if query is not None:
            self._check_query(query, level)
            return JobRequest(project, (), dict(query), level, dry_run, push, priority=priority or 0, sample=sample)
        found = resources.levels(self._host.orthanc, list(resource_ids))
        missing = len(set(resource_ids) - set(found))
        if missing:
            raise UnknownResource(f"{missing} of {len(resource_ids)} resources do not exist in this Orthanc")
        named = tuple((found[id_], id_) for id_ in resource_ids)
        priority = PRIORITY_ONE if priority is None else priority
        return JobRequest(project, named, None, level, dry_run, push, priority=priority, sample=sample)

    def make_request_for(
        self,
        project: str,
        level: str,
        resource: str,
        *,
        dry_run: bool,
        push: bool,
        priority: int | None = None,
        sample: int | None = None,
    ) -> JobRequest:
        """Check a request for one resource of a known level. Raises UnknownProject and UnknownResource."""
        self._check_project(project)
        if not resources.exists(self._host.orthanc, level, resource):
            raise UnknownResource(f"no such resource among this Orthanc's {level}")
        priority = PRIORITY_ONE if priority is None else priority
        return JobRequest(project, ((level, resource),), dry_run=dry_run, push=push, priority=priority, sample=sample)

    def make_cohort(
        self,
        project: str,
        origin: Origin,
        cohort: Sequence[Mapping[str, str]],
        *,
        dry_run: bool = False,
        push: bool = True,
        priority: int | None = None,
        keep_originals: bool = True,
    ) -> JobRequest:
        """Check a request for a cohort from elsewhere. Raises UnknownProject, UnknownSource and BadCohort."""
        self._check_project(project)
        if not sources.known(self._host.orthanc, origin):
            raise UnknownSource("no modality or DICOMweb server of this name is configured")
        return JobRequest(
            project,
            dry_run=dry_run,
            push=push,
            priority=priority or 0,
            origin=origin,
            cohort=check(cohort),
            keep_originals=keep_originals,
        )

    def create(self, request: JobRequest) -> dict[str, Any]:
        """Make a job; it starts at once. Returns the job as `get` shows it."""
        keys = self._host.keys(request.project)
        now = self._clock()
        row = JobRow(
            id=str(uuid.uuid4()),
            type=TYPE_DRY if request.dry_run else TYPE,
            project=request.project,
            state=PENDING,
            total=0,
            created=now,
            completed=None,
            error="",
            content=request.content(keys, now),
            priority=request.priority,
        )
        with self._host.store.begin() as conn:
            rows.create(conn, row)
            rows.add_parts(conn, row.id, request.parts(keys))
            cohorts.add(conn, row.id, request.lines(keys))
        self._runner.wake()
        self.fetcher.wake()
        return show(row, Tally({}, {}), self._clock())

    def page(self, *, project: str | None = None, since: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """Return jobs, the newest first."""
        with self._host.store.read() as conn:
            found = rows.page(conn, project=project, offset=since, limit=limit)
            return [self._shown(conn, row) for row in found]

    def get(self, job_id: str) -> dict[str, Any]:
        """Return one job. Raises UnknownJob."""
        with self._host.store.read() as conn:
            return self._shown(conn, _row(conn, job_id))

    def report(self, job_id: str) -> str:
        """Return the report of a job as CSV. Raises UnknownJob."""
        with self._host.store.read() as conn:
            job = self._shown(conn, _row(conn, job_id))
            return "".join(job_dry.table(job, rows.studies(conn, job_id), cohorts.report(conn, job_id)))

    def cancel(self, job_id: str) -> None:
        """End a job: what has not been begun is left alone, what is being worked on is finished."""
        with self._host.store.begin() as conn:
            row = _row(conn, job_id, lock=True)
            _require(row, (*ACTIVE, PAUSED), "cancelled")
            now = self._clock()
            rows.cancel(conn, job_id, now)
            content = {**row.content, **self._pace(row, job_pace.rest), "ErrorCode": CODE_CANCELED}
            fields = {"completed": now, "error": "Canceled job", "content": content, "tidied": False}
            rows.update(conn, job_id, state=FAILURE, **fields)
        self._runner.wake()

    def pause(self, job_id: str) -> None:
        """Stop a job until it is resumed: what has not been begun waits, what is being worked on is finished."""
        with self._host.store.begin() as conn:
            row = _row(conn, job_id, lock=True)
            _require(row, ACTIVE, "paused")
            rows.pause(conn, job_id, self._clock())
            rows.update(conn, job_id, state=PAUSED, content={**row.content, **self._pace(row, job_pace.rest)})

    def resume(self, job_id: str) -> None:
        """Go on with a paused job."""
        with self._host.store.begin() as conn:
            row = _row(conn, job_id, lock=True)
            _require(row, (PAUSED,), "resumed")
            rows.resume(conn, job_id, self._clock())
            rows.update(conn, job_id, state=RUNNING, content={**row.content, **self._pace(row, job_pace.go_on)})
        self._wake()

    def resubmit(self, job_id: str) -> None:
        """Do a failed or cancelled job again: what did not come out is tried once more, what did is left alone."""
        with self._host.store.begin() as conn:
            row = _row(conn, job_id, lock=True)
            _require(row, (FAILURE,), "resubmitted")
            self._check_project(row.project)
            now = self._clock()
            content = {**row.content, "ErrorCode": CODE_SUCCESS, **self._pace(row, job_pace.go_on)}
            if row.type == TYPE_DRY:
                content |= fresh(now)
                cohorts.again(conn, job_id)
                rows.forget_studies(conn, job_id)
            else:
                # What was not handed over is, from where it stood; what has failed is tried again after the ledger.
                content["Again"] = 0
                if row.content.get("From") and cohorts.again(conn, job_id):
                    content |= {"Expanded": False, "Position": 0.0}
                elif not row.total:  # perhaps there is something by now
                    content |= {"Expanded": False, "Position": 0.0, "Cursor": None, "Skipped": 0}
            rows.update(conn, job_id, state=PENDING, completed=None, error="", content=content, tidied=False)
        self._wake()

    def _pace(self, row: JobRow, change: Callable[[Mapping[str, Any], float], Any]) -> dict[str, Any]:
        pace = row.content.get("Pace") or job_pace.begin(row.created)
        return {"Pace": change(pace, self._clock())}

    def _wake(self) -> None:
        self._host.nudge()
        self.fetcher.wake()
        self._runner.wake()

    def _check_project(self, name: str) -> None:
        if name not in self._host.config.projects:
            raise UnknownProject("no project of this name is configured")

    def _check_query(self, query: Mapping[str, str], level: str) -> None:
        unknown = [name for name in query if not known_attribute(name)]
        if unknown:
            raise BadQuery(f"{len(unknown)} of {len(query)} names in the query are neither keyword nor tag")
        if not query:
            return  # everything: nothing to ask Orthanc
        try:
            resources.find(self._host.orthanc, level, query, limit=1)
        except Failed:
            raise BadQuery("Orthanc does not accept this query") from None

    def _shown(self, conn: Any, row: JobRow) -> dict[str, Any]:
        tally = self._tally(conn, row)
        job = show(row, tally, self._clock())
        if row.type == TYPE_DRY:
            whole = expected(row, tally)
            job["Content"] |= job_dry.shown(row.content["Dry"], whole, self._host.config.workers)
            if row.content.get("Sample"):
                job["Content"]["Sample"] = row.content["Sample"]
        return job

    def _tally(self, conn: Any, row: JobRow) -> Tally:
        lines = cohorts.counts(conn, row.id) if row.content.get("From") else {}
        if row.type == TYPE_DRY:
            dry = row.content["Dry"]
            return Tally(dry.get("outcomes", {}), dry.get("reasons", {}), lines=lines)
        known = self._counted.get(row.id)
        if known is not None and time.monotonic() < known[0]:
            states, reasons = known[1]
        else:
            began = time.monotonic()
            states, reasons = job_items.outcomes(conn, row.id)
            self._remember(row.id, time.monotonic() - began, (states, reasons))
        return Tally(states, reasons, self._studies(row), lines)

    def _remember(self, job_id: str, took: float, counts: Counts) -> None:
        """Keep counts that took long for a while: a page that asks every second shall not count without end."""
        self._counted.pop(job_id, None)
        if took > CHEAP:
            self._counted[job_id] = (time.monotonic() + RESTED * took, counts)

    def _studies(self, row: JobRow) -> tuple[Mapping[str, str], ...]:
        project = self._host.config.projects.get(row.project)
        if project is None or not project.keep_research_copy:
            return ()
        made = row.content.get("Studies") or []
        return tuple({"ID": study_id(patient, study), "StudyInstanceUID": study} for patient, study in made)


def known_attribute(name: str) -> bool:
    """Tell whether Orthanc's /tools/find can know this name: a keyword of the dictionary or a tag as gggg,eeee."""
    digits = name.replace(",", "").replace("-", "")
    if len(digits) == 8 and all(char in "0123456789abcdefABCDEF" for char in digits):
        return True
    return tag_for_keyword(name) is not None


def study_id(patient_id: str, study_uid: str) -> str:
    """Return Orthanc's id of a research study: SHA-1 of Patient ID and Study Instance UID, eight digits a group."""
    digits = hashlib.sha1(f"{patient_id}|{study_uid}".encode(), usedforsecurity=False).hexdigest()
    return "-".join(digits[start : start + 8] for start in range(0, 40, 8))


def _row(conn: Any, job_id: str, *, lock: bool = False) -> JobRow:
    row = rows.get(conn, job_id, lock=lock)
    if row is None:
        raise UnknownJob("no job has this id")
    return row


def _require(row: JobRow, states: Sequence[str], verb: str) -> None:
    if row.state not in states:
        raise WrongState(f"a job in state {row.state} cannot be {verb}")
