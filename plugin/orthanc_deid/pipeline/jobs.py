"""Jobs over what is already stored: made, listed, cancelled, paused, resumed and resubmitted.

A job is durable: its request lies sealed in its row, its instances are rows of the ledger, and all that is shown of it
is counted there. The work itself is done by the pipeline like any other; `job_runner` hands it over page by page.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydicom.datadict import tag_for_keyword

from orthanc_deid.orthanc import resources
from orthanc_deid.orthanc.client import Failed
from orthanc_deid.pipeline.job_model import (
    ACTIVE,
    CODE_CANCELED,
    CODE_SUCCESS,
    FAILURE,
    PAUSED,
    PENDING,
    RUNNING,
    TYPE,
    TYPE_DRY,
    JobRequest,
    Tally,
    fresh,
    show,
)
from orthanc_deid.pipeline.job_runner import Host, JobRunner
from orthanc_deid.store import jobs as rows
from orthanc_deid.store.jobs import JobRow

STUDIES_SHOWN = 20
"""Research studies that a job names; the project's list has them all."""


class JobError(Exception):
    """A job that cannot be made or changed; the text carries neither ids nor values."""


class UnknownProject(JobError):
    """No project of this name is configured."""


class UnknownResource(JobError):
    """Orthanc has no such resource."""


class UnknownJob(JobError):
    """No job has this id."""


class WrongState(JobError):
    """The job's state does not allow this."""


class BadQuery(JobError):
    """Orthanc could not answer this query."""


class Jobs:
    """The jobs of one service."""

    def __init__(self, host: Host, clock: Callable[[], float] = time.time) -> None:
        self._host = host
        self._clock = clock
        self._runner = JobRunner(host, clock)

    def start(self) -> None:
        """Go on with the jobs that were not finished when the service stopped."""
        self._runner.start()

    def stop(self, timeout: float) -> None:
        """Stop handing over instances; the jobs go on at the next start."""
        self._runner.stop(timeout)

    def make_request(
        self,
        project: str,
        *,
        resource_ids: Sequence[str] = (),
        query: Mapping[str, str] | None = None,
        level: str = "Study",
        dry_run: bool = False,
        push: bool = True,
    ) -> JobRequest:
        """Check what a caller asks for. Raises UnknownProject, UnknownResource and BadQuery."""
        self._check_project(project)
        if query is not None:
            self._check_query(query, level)
            return JobRequest(project, (), dict(query), level, dry_run, push)
        found = resources.levels(self._host.orthanc, list(resource_ids))
        missing = len(set(resource_ids) - set(found))
        if missing:
            raise UnknownResource(f"{missing} of {len(resource_ids)} resources do not exist in this Orthanc")
        return JobRequest(project, tuple((found[id_], id_) for id_ in resource_ids), None, level, dry_run, push)

    def make_request_for(self, project: str, level: str, resource: str, *, dry_run: bool, push: bool) -> JobRequest:
        """Check a request for one resource of a known level. Raises UnknownProject and UnknownResource."""
        self._check_project(project)
        if not resources.exists(self._host.orthanc, level, resource):
            raise UnknownResource(f"no such resource among this Orthanc's {level}")
        return JobRequest(project, ((level, resource),), None, "Study", dry_run, push)

    def create(self, request: JobRequest) -> dict[str, Any]:
        """Make a job; it starts at once. Returns the job as `get` shows it."""
        row = JobRow(
            id=str(uuid.uuid4()),
            type=TYPE_DRY if request.dry_run else TYPE,
            project=request.project,
            state=PENDING,
            total=0,
            created=self._clock(),
            completed=None,
            error="",
            content=request.content(self._host.keys(request.project)),
        )
        with self._host.store.begin() as conn:
            rows.create(conn, row)
        self._runner.wake()
        return show(row, Tally({}, {}), self._clock())

    def page(self, *, project: str | None = None, since: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """Return jobs, the newest first."""
        with self._host.store.read() as conn:
            found = rows.page(conn, project=project, offset=since, limit=limit)
            return [show(row, self._tally(conn, row), self._clock()) for row in found]

    def get(self, job_id: str) -> dict[str, Any]:
        """Return one job. Raises UnknownJob."""
        with self._host.store.read() as conn:
            row = _row(conn, job_id)
            return show(row, self._tally(conn, row), self._clock())

    def cancel(self, job_id: str) -> None:
        """End a job: what has not been begun is left alone, what is being worked on is finished."""
        with self._host.store.begin() as conn:
            row = _row(conn, job_id)
            _require(row, (*ACTIVE, PAUSED), "cancelled")
            rows.cancel(conn, job_id, self._clock())
            content = {**row.content, "ErrorCode": CODE_CANCELED}
            rows.update(conn, job_id, state=FAILURE, completed=self._clock(), error="Canceled job", content=content)
        self._runner.wake()

    def pause(self, job_id: str) -> None:
        """Stop a job until it is resumed: what has not been begun waits, what is being worked on is finished."""
        with self._host.store.begin() as conn:
            _require(_row(conn, job_id), ACTIVE, "paused")
            rows.pause(conn, job_id, self._clock())
            rows.update(conn, job_id, state=PAUSED)

    def resume(self, job_id: str) -> None:
        """Go on with a paused job."""
        with self._host.store.begin() as conn:
            _require(_row(conn, job_id), (PAUSED,), "resumed")
            rows.resume(conn, job_id, self._clock())
            rows.update(conn, job_id, state=RUNNING)
        self._wake()

    def resubmit(self, job_id: str) -> None:
        """Do a failed or cancelled job again: what did not come out is tried once more, what did is left alone."""
        with self._host.store.begin() as conn:
            row = _row(conn, job_id)
            _require(row, (FAILURE,), "resubmitted")
            self._check_project(row.project)
            rows.resubmit(conn, job_id, self._clock())
            content = {**row.content, **fresh()} if row.type == TYPE_DRY else {**row.content, "ErrorCode": CODE_SUCCESS}
            # A job that was cancelled half-way is expanded again; instances that it has stay as they are.
            content.update(Expanded=False, Position=0.0, Skipped=0)
            rows.update(conn, job_id, state=PENDING, completed=None, error="", content=content)
        self._wake()

    def _wake(self) -> None:
        self._host.nudge()
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

    def _tally(self, conn: Any, row: JobRow) -> Tally:
        if row.type == TYPE_DRY:
            dry = row.content["Dry"]
            return Tally(dry.get("outcomes", {}), dry.get("reasons", {}))
        studies: tuple[Mapping[str, str], ...] = ()
        project = self._host.config.projects.get(row.project)
        if project is not None and project.keep_research_copy:
            studies = tuple(
                {"ID": study_id(patient, study), "StudyInstanceUID": study}
                for patient, study in rows.studies(conn, row.id, STUDIES_SHOWN)
            )
        return Tally(rows.outcomes(conn, row.id), rows.reasons(conn, row.id), studies)


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


def _row(conn: Any, job_id: str) -> JobRow:
    row = rows.get(conn, job_id)
    if row is None:
        raise UnknownJob("no job has this id")
    return row


def _require(row: JobRow, states: Sequence[str], verb: str) -> None:
    if row.state not in states:
        raise WrongState(f"a job in state {row.state} cannot be {verb}")
