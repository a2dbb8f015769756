"""What is held back, and why: listed for review, tried again or left out."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from orthanc_deid.api.errors import ApiError
from orthanc_deid.api.host import Service, service_of
from orthanc_deid.api.models import Error, QuarantineBody, QuarantineItem
from orthanc_deid.api.routes_projects import iso_time
from orthanc_deid.core.errors import QUARANTINE_REASONS, REJECT_REASONS, tag_text
from orthanc_deid.pipeline.jobs import UnknownProject
from orthanc_deid.store import ledger
from orthanc_deid.store.ledger import QuarantineRow

MEANINGS = {
    **QUARANTINE_REASONS,
    **REJECT_REASONS,
    "refused": "the destination answers, but does not take this instance",
    "not-taken": "the destination accepts neither its SOP class nor a transfer syntax that it could be sent in",
    "undecodable": "the destination does not accept its transfer syntax, and it cannot be decoded without a loss",
    "not-committed": "the destination has stored it, and does not commit to keeping it",
    "astray": "a link, or a file in a folder's place, stands in the way below the destination's folder",
    "conflict": "the destination holds another content under this UID",
    "source-lost": "the source was deleted before its outcome",
}

Host = Annotated[Service, Depends(service_of)]
ItemId = Annotated[int, Path(ge=1, le=2**63 - 1, description="The item's ID")]

router = APIRouter(tags=["quarantine"], responses={404: {"model": Error, "description": "No such project or item."}})


@router.get("/deid/quarantine", response_model=list[QuarantineItem])
def list_quarantine(
    service: Host,
    project: Annotated[str | None, Query(max_length=64, description="Only this project's")] = None,
    reason: Annotated[str | None, Query(max_length=64, description="Only this reason code")] = None,
    since: Annotated[int, Query(ge=0, le=2**63 - 1, description="The ID that the page before ended with")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """List what is held back or was refused, with its reason, ordered by ID."""
    if project is not None and project not in service.config.projects:
        raise UnknownProject("no project of this name is configured")
    with service.store.read() as conn:
        rows = ledger.quarantine(conn, project, reason=reason, after=since, limit=limit)
    return [_item(row) for row in rows]


@router.get("/deid/quarantine/{item}", response_model=QuarantineItem)
def get_quarantine(item: ItemId, service: Host) -> dict[str, Any]:
    """Show one item."""
    return _item(_row(service, item))


@router.post(
    "/deid/quarantine/{item}",
    response_model=dict[str, Any],
    responses={409: {"model": Error, "description": "The item is not held any more, or its source is gone."}},
)
def decide(item: ItemId, body: QuarantineBody, service: Host) -> dict[str, Any]:
    """Try an item again (what was refused or in conflict is offered again), leave it out for
    good, or put it in the place of what a destination holds under its UIDs."""
    _row(service, item)
    if body.Action == "replace":
        done = service.recalls.replace_conflict(item)
    else:
        done = service.retry(item) if body.Action == "retry" else service.exclude(item)
    if not done:
        why = "in its state" + (", or its source is not there any more" if body.Action == "replace" else "")
        raise ApiError(409, "wrong state", f"this instance cannot be given to {body.Action} {why}")
    return {}


def _row(service: Service, item: int) -> QuarantineRow:
    with service.store.read() as conn:
        rows = ledger.quarantine(conn, after=item - 1, limit=1)
    if not rows or rows[0].id != item:
        raise ApiError(404, "unknown item", "nothing with this ID is in quarantine")
    return rows[0]


def _item(row: QuarantineRow) -> dict[str, Any]:
    return {
        "ID": row.id,
        "Project": row.project,
        "State": row.state,
        "Reason": row.reason,
        "Meaning": MEANINGS.get(row.reason or ""),
        "Tag": None if row.tag is None else tag_text(row.tag),
        "Findings": row.findings,
        "Created": iso_time(row.created),
        "Updated": iso_time(row.updated),
        "Attempts": row.attempt,
        "StudyInstanceUID": row.out_study,
        "Pseudonym": row.out_patient,
    }
