"""Projects and their research studies: settings, how the work stands, manual release."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from orthanc_deid.api.errors import ApiError
from orthanc_deid.api.host import Service, service_of
from orthanc_deid.api.models import Error, Project, Study
from orthanc_deid.pipeline.jobs import UnknownProject, study_id
from orthanc_deid.store import deliveries, knowledge, ledger, studies

THROUGHPUT_SECONDS = 300
_DAY = 86_400

Host = Annotated[Service, Depends(service_of)]
Name = Annotated[str, Path(description="The project's name", max_length=64)]
StudyUid = Annotated[str, Path(description="Study Instance UID of the research study", pattern=r"^[0-9.]{1,64}$")]

router = APIRouter(tags=["projects"], responses={404: {"model": Error, "description": "No such project or study."}})


@router.get("/deid/projects", response_model=list[Project])
def list_projects(service: Host) -> list[dict[str, Any]]:
    """List the projects with their settings (without secrets) and how their work stands."""
    return [_project(service, name, counts) for name, counts in _counts(service).items()]


@router.get("/deid/projects/{name}", response_model=Project)
def get_project(name: Name, service: Host) -> dict[str, Any]:
    """Show one project."""
    _require(service, name)
    return _project(service, name, _counts(service)[name])


@router.get("/deid/projects/{name}/studies", response_model=list[Study])
def list_studies(
    name: Name,
    service: Host,
    since: Annotated[str, Query(max_length=64, description="The last UID of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """List a project's research studies by Study Instance UID; everything in it is pseudonymous."""
    _require(service, name)
    with service.store.read() as conn:
        return [_study(service, name, row) for row in studies.page(conn, name, after=since, limit=limit)]


@router.post("/deid/projects/{name}/studies/{uid}/release", response_model=Study)
def release_study(name: Name, uid: StudyUid, service: Host) -> dict[str, Any]:
    """Release what is ready of a study: it goes to the project's destinations. Lifts a hold."""
    row = _study_row(service, name, uid)
    if not service.release(name, uid) and row.state not in ("released", "releasing"):
        raise ApiError(409, "wrong state", "nothing of this study is ready to be released")
    return _study(service, name, _study_row(service, name, uid))


@router.post("/deid/projects/{name}/studies/{uid}/hold", response_model=Study)
def hold_study(name: Name, uid: StudyUid, service: Host) -> dict[str, Any]:
    """Keep back what of a study has not been released yet, until it is released by hand."""
    _study_row(service, name, uid)
    service.hold(name, uid)
    return _study(service, name, _study_row(service, name, uid))


def iso_time(epoch: float) -> str:
    """Write a time as Orthanc writes those of its resources: UTC, `20260105T094530`."""
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%dT%H%M%S")


def _require(service: Service, name: str) -> None:
    if name not in service.config.projects:
        raise UnknownProject("no project of this name is configured")


def _study_row(service: Service, name: str, uid: str) -> Any:
    _require(service, name)
    with service.store.read() as conn:
        row = studies.row(conn, name, uid)
    if row is None:
        raise ApiError(404, "unknown study", "the project has no research study of this UID")
    return row


def _study(service: Service, name: str, row: Any) -> dict[str, Any]:
    keeps = service.config.projects[name].keep_research_copy and row.out_patient
    return {
        "StudyInstanceUID": row.out_study,
        "Pseudonym": row.out_patient or "",
        "State": row.state,
        # No more than the day: beside a study whose dates were moved, the true time tells by how much.
        "LastArrival": iso_time(row.last_arrival - row.last_arrival % _DAY),
        "Instances": dict(sorted(row.counts.items())),
        "ResearchStudy": study_id(row.out_patient, row.out_study) if keeps else None,
    }


def _counts(service: Service) -> dict[str, dict[str, Any]]:
    """Return what the database says of every configured project, in one look."""
    now = time.time()
    with service.store.read() as conn:
        outcomes, reasons, sent = ledger.counts(conn), ledger.reasons(conn), deliveries.counts(conn)
        late = knowledge.late(conn)
        return {
            name: {
                "outcomes": outcomes.get(name, {}),
                "reasons": reasons.get(name, {}),
                "late": late.get(name, 0),
                "deliveries": sent.get(name, {}),
                "confirmed": ledger.confirmed_since(conn, name, now - THROUGHPUT_SECONDS),
                "oldest": ledger.oldest_unfinished(conn, name),
                "now": now,
            }
            for name in service.config.projects
        }


def _project(service: Service, name: str, counts: Mapping[str, Any]) -> dict[str, Any]:
    outcomes: Mapping[str, int] = counts["outcomes"]
    oldest = counts["oldest"]
    return {
        "Name": name,
        "Settings": service.config.projects[name].public(),
        "Outcomes": dict(sorted(outcomes.items())),
        "Reasons": dict(sorted(counts["reasons"].items())),
        "LateValues": counts["late"],
        "Backlog": sum(count for state, count in outcomes.items() if state not in ledger.TERMINAL),
        "OldestWaiting": None if oldest is None else round(max(0.0, counts["now"] - oldest), 1),
        "Throughput": round(counts["confirmed"] / THROUGHPUT_SECONDS, 3),
        "Destinations": [
            {"Name": destination, "Deliveries": dict(sorted(states.items()))}
            for destination, states in sorted(counts["deliveries"].items())
        ],
    }
