"""What has left: sent again, replaced, recalled, and what of that a person has to do."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Path, Query

from orthanc_deid.api.errors import ApiError
from orthanc_deid.api.host import Service, service_of
from orthanc_deid.api.models import Begun, Error, ResendBody, Todo, TodoBody
from orthanc_deid.api.routes_projects import iso_time
from orthanc_deid.pipeline import recall
from orthanc_deid.pipeline.jobs import UnknownProject
from orthanc_deid.store.recalls import ToDelete
from orthanc_deid.store.rows import LOCAL

Host = Annotated[Service, Depends(service_of)]
Name = Annotated[str, Path(description="The project's name", max_length=64)]
StudyUid = Annotated[str, Path(description="Study Instance UID of the research study", pattern=r"^[0-9.]{1,64}$")]

router = APIRouter(tags=["deliveries"], responses={404: {"model": Error, "description": "No such project or study."}})


@router.post("/deid/projects/{name}/studies/{uid}/resend", response_model=Begun)
def resend_study(
    name: Name, uid: StudyUid, service: Host, body: Annotated[ResendBody | None, Body()] = None
) -> dict[str, int]:
    """Send a study again, to all of the project's destinations or to one; also what was recalled."""
    _require(service, name)
    wanted = body.Destination if body else None
    project = service.config.projects[name]
    names = [one.key for one in project.destinations] + [LOCAL] * project.keep_research_copy
    if wanted is not None and wanted not in names:
        raise ApiError(404, "unknown destination", "the project has no destination of this name")
    return _begun(service.recalls.resend(name, uid, wanted))


@router.post("/deid/projects/{name}/studies/{uid}/replace", response_model=Begun)
def replace_study(name: Name, uid: StudyUid, service: Host) -> dict[str, int]:
    """Make again what of a study was made under another plan than today's, and put it in the old one's place."""
    _require(service, name)
    return _begun(service.recalls.replace(name, uid))


@router.post("/deid/projects/{name}/studies/{uid}/recall", response_model=Begun)
def recall_study(name: Name, uid: StudyUid, service: Host) -> dict[str, int]:
    """Take a study back: it is deleted wherever it was sent, and does not go again by itself."""
    _require(service, name)
    return _begun(service.recalls.recall(name, uid))


@router.post("/deid/projects/{name}/replace", status_code=202, response_model=dict[str, Any])
def replace_project(name: Name, service: Host) -> dict[str, Any]:
    """Begin to make again all that was made under another plan than today's."""
    _require(service, name)
    service.recalls.replace_all(name)
    return {}


@router.get("/deid/todo", response_model=list[Todo])
def list_todo(
    service: Host,
    since: Annotated[int, Query(ge=0, le=2**63 - 1, description="The ID that the page before ended with")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """List what was sent, has to be deleted, and can only be deleted by a person, ordered by ID."""
    return [_todo(item) for item in service.recalls.todos(since, limit)]


@router.post("/deid/todo/{item}", response_model=dict[str, Any])
def settle_todo(
    item: Annotated[int, Path(ge=1, le=2**63 - 1, description="The to-do's ID")], body: TodoBody, service: Host
) -> dict[str, Any]:
    """Say that something was deleted, or let the service try again."""
    done = service.recalls.done(item) if body.Action == "done" else service.recalls.again(item)
    if not done:
        raise ApiError(404, "unknown item", "there is nothing to do with this ID")
    return {}


def _require(service: Service, name: str) -> None:
    if name not in service.config.projects:
        raise UnknownProject("no project of this name is configured")


def _begun(begun: recall.Begun | None) -> dict[str, int]:
    if begun is None:
        raise ApiError(404, "unknown study", "the project has no research study of this UID")
    return {"Instances": begun.instances, "SourceMissing": begun.source_missing}


def _todo(item: ToDelete) -> dict[str, Any]:
    one = item.one
    return {
        "ID": one.id,
        "Project": one.project,
        "Destination": one.destination,
        "Reason": item.reason,
        "Then": item.recall,
        "Pseudonym": one.out_patient,
        "StudyInstanceUID": one.out_study,
        "SeriesInstanceUID": one.out_series,
        "SOPInstanceUID": one.out_sop,
        "Since": iso_time(item.updated),
    }
