"""What waits in the spool of gateway mode and no project takes: listed by random names, and discarded."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from orthanc_deid.api.errors import ApiError
from orthanc_deid.api.host import Service, service_of
from orthanc_deid.api.models import Error, SpoolBody, SpoolItem
from orthanc_deid.api.routes_projects import iso_time

Host = Annotated[Service, Depends(service_of)]
Name = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="The item's ID")]

router = APIRouter(tags=["quarantine"])


@router.get("/deid/spool", response_model=list[SpoolItem])
def list_spool(
    service: Host,
    since: Annotated[str, Query(max_length=32, description="The ID that the page before ended with")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[dict[str, Any]]:
    """List originals in the spool of gateway mode that no project takes, ordered by ID, which is random."""
    return [{**row, "Since": iso_time(row["Since"])} for row in service.unmatched(since, limit)]


@router.post(
    "/deid/spool/{item}",
    response_model=dict[str, Any],
    responses={404: {"model": Error, "description": "No such item."}},
)
def decide(item: Name, body: SpoolBody, service: Host) -> dict[str, Any]:
    """Discard one: it is deleted, and nobody else has it."""
    if not service.discard(item):
        raise ApiError(404, "unknown item", "nothing with this ID waits in the spool")
    return {}
