"""Which instances stand below a patient, study, series or query: Orthanc's resources, expanded page by page.

Only ids are asked for where Orthanc offers them alone, and never more than one series' ids are held at a time, so a job
over everything costs no more memory than a job over one study.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from orthanc_deid.orthanc.client import NotFound

LEVELS = ("patients", "studies", "series", "instances")
"""The levels of Orthanc's resources, as its routes name them, from the top."""

LEVEL_OF_TYPE = {"Patient": "patients", "Study": "studies", "Series": "series", "Instance": "instances"}
"""From the `Type` in Orthanc's answers (and `Level` in its queries) to the route."""

_CHILDREN = {"patients": ("Studies", "studies"), "studies": ("Series", "series"), "series": ("Instances", "instances")}
_BULK = 100  # resources whose level is asked for in one request
_PAGE_ALL = 1000  # instances in a page of the list of all instances
_OVERLAP = 100  # deletions between two such pages that are made up for

Page = tuple[list[str], float]
"""Ids of instances, and how far into the whole the expansion is after them (0 to 1)."""


class Rest(Protocol):
    """What is needed of the client: JSON in and out. Both raise NotFound for status 404."""

    def get_json(self, path: str, params: dict[str, Any] | None = None) -> Any:
        """GET a path below Orthanc's root."""

    def post_json(self, path: str, body: Any) -> Any:
        """POST a JSON body."""


def levels(rest: Rest, ids: Sequence[str]) -> dict[str, str]:
    """Return the level of each id that exists in Orthanc; what does not exist is left out."""
    found: dict[str, str] = {}
    for start in range(0, len(ids), _BULK):
        body = {"Resources": list(ids[start : start + _BULK]), "Short": True, "Metadata": False}
        for resource in rest.post_json("/tools/bulk-content", body):
            level = LEVEL_OF_TYPE.get(resource.get("Type", ""))
            if level:
                found[resource["ID"]] = level
    return found


def exists(rest: Rest, level: str, resource: str) -> bool:
    """Tell whether a resource of this level exists."""
    try:
        rest.get_json(f"/{level}/{resource}")
    except NotFound:
        return False
    return True


def find(rest: Rest, level: str, query: Mapping[str, str], *, limit: int = 0) -> list[str]:
    """Return the ids of the resources that match a query of /tools/find (`level` as there: Patient … Instance).

    All ids at once: Orthanc before 1.12 ignores `Since` here, and a list that is read in two parts may lose what moved
    between them.
    """
    body: dict[str, Any] = {"Level": level, "Query": dict(query), "Expand": False}
    if limit:
        body["Limit"] = limit
    return list(rest.post_json("/tools/find", body))


def expand(rest: Rest, resources: Sequence[tuple[str, str]], size: int) -> Iterator[Page]:
    """Yield pages of `size` instance ids (the last one may be shorter) below resources given as (level, id).

    What has vanished meanwhile is passed over.
    """
    ids: list[str] = []
    position = 0.0
    share = 1 / len(resources) if resources else 1.0
    for index, (level, resource) in enumerate(resources):
        for more, position in _below(rest, level, resource, size, index * share, share):
            ids += more
            while len(ids) >= size:
                yield ids[:size], position
                ids = ids[size:]
    if ids:
        yield ids, position


def everything(rest: Rest, size: int) -> Iterator[Page]:
    """Yield pages of all instances of this Orthanc, with those that arrive while the list is being read.

    Orthanc lists them in the order of arrival, so a deletion between two pages moves the rest forward; each page
    therefore begins some places before the end of the one before it. Ids may come twice.
    """
    total = max(1, int(rest.get_json("/statistics")["CountInstances"]))
    since = 0
    while True:
        ids = rest.get_json("/instances", {"since": since, "limit": _PAGE_ALL})
        start, end = min(1.0, since / total), min(1.0, (since + len(ids)) / total)
        yield from _chunks(ids, size, start, end - start)
        if len(ids) < _PAGE_ALL:
            return
        since += _PAGE_ALL - _OVERLAP


def _below(rest: Rest, level: str, resource: str, size: int, start: float, share: float) -> Iterator[Page]:
    if level == "instances":
        yield [resource], start + share
        return
    key, below = _CHILDREN[level]
    try:
        children: list[str] = rest.get_json(f"/{level}/{resource}")[key]
    except NotFound:
        yield [], start + share
        return
    if below == "instances":
        yield from _chunks(children, size, start, share)
        return
    part = share / max(len(children), 1)
    for index, child in enumerate(children):
        yield from _below(rest, below, child, size, start + index * part, part)


def _chunks(ids: Iterable[str], size: int, start: float, share: float) -> Iterator[Page]:
    everything_here = list(ids)
    for first in range(0, len(everything_here), size):
        page = everything_here[first : first + size]
        yield page, start + share * min(1.0, (first + len(page)) / len(everything_here))
