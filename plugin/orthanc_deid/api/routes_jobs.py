"""Jobs: started over resources or a query, listed, watched, cancelled, paused, resumed, resubmitted."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response

from orthanc_deid.api.errors import ApiError
from orthanc_deid.api.host import Service, service_of
from orthanc_deid.api.models import ORTHANC_ID, DeidentifyBody, Error, Job, JobBody, Started
from orthanc_deid.api.tables import TableRoute
from orthanc_deid.orthanc.resources import LEVELS
from orthanc_deid.pipeline.jobs import UnknownResource

Host = Annotated[Service, Depends(service_of)]
JobId = Annotated[str, Path(description="The job's ID", max_length=64)]

_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Error, "description": "The body or the query is wrong; every error is listed with its path."},
    404: {"model": Error, "description": "No such project, resource or job."},
    409: {"model": Error, "description": "The job's state does not allow it."},
    503: {"model": Error, "description": "Orthanc or the service does not answer now."},
}

router = APIRouter(responses=_ERRORS)
tables = APIRouter(route_class=TableRoute)


def _check_push(service: Service, project: str, push: bool) -> None:
    settings = service.config.projects.get(project)
    if settings is not None and not push and not settings.keep_research_copy:
        raise ApiError(400, "bad request", "body.Push: must be true, since the project keeps no research copy")


@tables.post("/deid/jobs", status_code=201, response_model=Job, response_model_exclude_none=True, tags=["jobs"])
def start_job(body: JobBody, response: Response, service: Host) -> dict[str, Any]:
    """Start a job over resources, over all that a query finds, or over a cohort that is fetched from elsewhere.

    The cohort may be sent as a table with a header of keywords; all else are parameters of its Content-Type then:
    `text/csv; Project=lung; Modality=pacs`.
    """
    _check_push(service, body.Project, body.Push)
    if body.From is not None:
        request = service.jobs.make_cohort(
            body.Project,
            body.From.origin,
            body.Cohort or [],
            dry_run=body.DryRun,
            push=body.Push,
            priority=body.Priority,
            keep_originals=body.KeepOriginals,
        )
    else:
        request = service.jobs.make_request(
            body.Project,
            resource_ids=list(dict.fromkeys(body.Resources or ())),
            query=body.Query,
            level=body.Level,
            dry_run=body.DryRun,
            push=body.Push,
            priority=body.Priority,
            sample=body.Sample,
        )
    job = service.jobs.create(request)
    response.headers["Location"] = f"/deid/jobs/{job['ID']}"
    return job


@router.get("/deid/jobs", response_model=list[Job] | list[str], response_model_exclude_none=True, tags=["jobs"])
def list_jobs(
    service: Host,
    project: Annotated[str | None, Query(max_length=64, description="Only this project's")] = None,
    since: Annotated[int, Query(ge=0, description="Leave out so many of the newest")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    expand: Annotated[str, Query(max_length=8, description="`false`: only the IDs, as Orthanc's /jobs")] = "true",
) -> Any:
    """List the jobs, the newest first."""
    found = service.jobs.page(project=project, since=since, limit=limit)
    return [job["ID"] for job in found] if expand.lower() in ("false", "0") else found


@router.get("/deid/jobs/{job_id}", response_model=Job, response_model_exclude_none=True, tags=["jobs"])
def get_job(job_id: JobId, service: Host) -> dict[str, Any]:
    """Watch a job: its state, its progress, and its instances counted by outcome."""
    return service.jobs.get(job_id)


@router.get("/deid/jobs/{job_id}/report.csv", tags=["jobs"], response_class=Response)
def report(job_id: JobId, service: Host) -> Response:
    """Read what a job came to, or what a dry run found, as a table: counts, research studies, lines of a cohort.

    It names no source and no value.
    """
    headers = {"Content-Disposition": f'attachment; filename="job-{service.jobs.get(job_id)["ID"]}.csv"'}
    return Response(service.jobs.report(job_id), media_type="text/csv; charset=utf-8", headers=headers)


@router.post("/deid/jobs/{job_id}/cancel", tags=["jobs"])
def cancel_job(job_id: JobId, service: Host) -> dict[str, str]:
    """End a job; instances that are being worked on are finished."""
    service.jobs.cancel(job_id)
    return {}


@router.post("/deid/jobs/{job_id}/pause", tags=["jobs"])
def pause_job(job_id: JobId, service: Host) -> dict[str, str]:
    """Stop a job until it is resumed; instances that are being worked on are finished."""
    service.jobs.pause(job_id)
    return {}


@router.post("/deid/jobs/{job_id}/resume", tags=["jobs"])
def resume_job(job_id: JobId, service: Host) -> dict[str, str]:
    """Go on with a paused job."""
    service.jobs.resume(job_id)
    return {}


@router.post("/deid/jobs/{job_id}/resubmit", tags=["jobs"])
def resubmit_job(job_id: JobId, service: Host) -> dict[str, str]:
    """Do a failed or cancelled job again, as far as it did not succeed."""
    service.jobs.resubmit(job_id)
    return {}


def _route_below_orthancs_own(level: str) -> None:
    """Add `POST /{level}/{id}/deidentify`, which stands beside Orthanc's own routes of the resource."""

    @router.post(
        f"/{level}/{{resource}}/deidentify",
        response_model=Started,
        tags=["resources"],
        operation_id=f"deidentify_{level}",
        summary=f"De-identify one of Orthanc's {level}",
    )
    def deidentify(resource: str, body: DeidentifyBody, service: Host) -> dict[str, str]:
        """Start a job over this resource."""
        if not _is_id(resource):
            raise UnknownResource(f"no such resource among this Orthanc's {level}")
        _check_push(service, body.Project, body.Push)
        request = service.jobs.make_request_for(
            body.Project,
            level,
            resource,
            dry_run=body.DryRun,
            push=body.Push,
            priority=body.Priority,
            sample=body.Sample,
        )
        job = service.jobs.create(request)
        return {"ID": job["ID"], "Path": f"/deid/jobs/{job['ID']}"}


def _is_id(text: str) -> bool:
    return re.fullmatch(ORTHANC_ID, text) is not None


router.include_router(tables)
for _level in LEVELS:
    _route_below_orthancs_own(_level)
