"""Which instances stand below a patient, study, series or query: Orthanc's resources, expanded page by page.

Only ids are asked for where Orthanc offers them alone, and never more than one series' ids are held at a time, so a job
over everything costs no more memory than a job over one study. Each page says where to begin again after it, to the
instance: children are taken in the order of their ids, so what arrives or goes meanwhile moves nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orthanc_deid.orthanc.client import NotFound

LEVELS = ("patients", "studies", "series", "instances")
"""The levels of Orthanc's resources, as its routes name them, from the top."""

LEVEL_OF_TYPE = {"Patient": "patients", "Study": "studies", "Series": "series", "Instance": "instances"}
"""From the `Type` in Orthanc's answers (and `Level` in its queries) to the route."""

_CHILDREN = {"patients": ("Studies", "studies"), "studies": ("Series", "series"), "series": ("Instances", "instances")}
_BULK = 100  # resources whose level is asked for in one request
_VISITS = 200  # resources looked into before a page is given back, however short
LISTED = 500
"""Studies in a page of the list of all studies."""
OVERLAP = 50
"""So many places before where it should go on does a page of that list begin, and further where that is not enough."""
ANCHORS = 20
"""Studies before the present one by which the place in that list is found again."""
PART = 500
"""Resources in one part of a job's list."""

Cursor = dict[str, Any]
"""Where an expansion goes on, as JSON; empty: at its beginning. It names resources: where it is kept, it is sealed."""


@dataclass(frozen=True, slots=True)
class Page:
    """Ids of instances, how far into the whole the expansion is after them (0 to 1), and where to go on."""

    ids: list[str]
    position: float
    cursor: Cursor


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


def expand(
    rest: Rest, count: int, part: Callable[[int], Sequence[tuple[str, str]]], size: int, cursor: Cursor
) -> Iterator[Page]:
    """Yield pages of about `size` instance ids below `count` resources, of which `part(n)` names the n-th PART ones as
    (level, id). What has vanished meanwhile is passed over.
    """
    at, after = int(cursor.get("at", 0)), list(cursor.get("after", ()))
    gather = _Gather(size)
    while at < count:
        named = part(at // PART)[at % PART :]
        if not named:
            raise ValueError("a part of the resources is missing")
        for level, resource in named:
            for path, ids, share in _below(rest, level, resource, after):
                for some in gather.cut(ids):
                    place = {"at": at, "after": [*path, some[-1]]} if level != "instances" else {"at": at + 1}
                    yield Page(gather.take(some), (at + share) / count, place)
            at, after = at + 1, []
            if gather.full:
                yield Page(gather.take(), at / count, {"at": at})
    if gather.ids:
        yield Page(gather.take(), 1.0, {"at": count})


def everything(rest: Rest, size: int, cursor: Cursor) -> Iterator[Page]:
    """Yield pages of all instances of this Orthanc, study by study.

    The list of studies moves while it is being read: what is deleted draws the rest forward. So each page of it begins
    before the place where it should go on, and goes on behind the last study that was done and is still there. Only
    where all of those are gone does it begin at the beginning again, and then ids come twice.
    """
    since, anchors = int(cursor.get("since", 0)), list(cursor.get("anchors", ()))
    present, after = cursor.get("study", ""), list(cursor.get("after", ()))
    gather = _Gather(size)
    while True:
        since, studies = _listed(rest, since, anchors)
        total = max(1, since + len(studies), int(rest.get_json("/statistics")["CountStudies"]))
        for study in studies:
            for path, ids, share in _below(rest, "studies", study, after if study == present else ()):
                for some in gather.cut(ids):
                    place = {"since": since, "anchors": anchors, "study": study, "after": [*path, some[-1]]}
                    yield Page(gather.take(some), min(1.0, (since + share) / total), place)
            since, anchors = since + 1, [*anchors[1 - ANCHORS :], study]
            if gather.full:
                yield Page(gather.take(), min(1.0, since / total), {"since": since, "anchors": anchors})
        if not studies:
            if gather.ids:
                yield Page(gather.take(), 1.0, {"since": since, "anchors": anchors})
            return


def _listed(rest: Rest, since: int, anchors: Sequence[str]) -> tuple[int, list[str]]:
    """Return the studies behind the last anchor that is still listed, with the place of the first; none at the end."""
    back = OVERLAP
    while True:
        start = max(0, since - back) if anchors else 0
        limit = LISTED + since - start
        ids: list[str] = rest.get_json("/studies", {"since": start, "limit": limit})
        known = set(anchors)
        last = max((number for number, study in enumerate(ids) if study in known), default=-1)
        if last + 1 == len(ids) == limit:  # what came before it moved it to the very end of this page
            since, back = start + limit, OVERLAP
        elif last >= 0 or start == 0:
            return start + last + 1, ids[last + 1 :]
        else:
            back *= 10


def sample(rest: Rest, size: int, most: int) -> Iterator[Page]:
    """Yield pages of at most `most` instances, evenly spread over all of this Orthanc in the order of its own list."""
    total = int(rest.get_json("/statistics")["CountInstances"])
    number = min(most, total)
    ids: list[str] = []
    for index in range(number):
        ids += rest.get_json("/instances", {"since": (2 * index + 1) * total // (2 * number), "limit": 1})
        if len(ids) >= size or index == number - 1:
            yield Page(list(dict.fromkeys(ids)), (index + 1) / number, {})
            ids = []


def sample_below(
    rest: Rest, count: int, part: Callable[[int], Sequence[tuple[str, str]]], size: int, most: int
) -> Iterator[Page]:
    """Yield pages of about `most` instances, evenly spread over resources and over what is below each of them."""
    number = min(most, count)
    each = -(-most // number) if number else 0
    ids: list[str] = []
    seen = left = 0
    for index in range(number):
        at = (2 * index + 1) * count // (2 * number)
        level, resource = part(at // PART)[at % PART]
        its = below(rest, level, resource)
        seen += len(its)
        take = min(each, len(its), most - left)
        ids += [its[(2 * n + 1) * len(its) // (2 * take)] for n in range(take)]
        left += take
        if len(ids) >= size or index == number - 1:
            # By what was seen below some, what is below all is estimated.
            yield Page(ids, (index + 1) / number, {"of": round(seen * count / (index + 1))})
            ids = []


def below(rest: Rest, level: str, resource: str) -> list[str]:
    """Return the ids of all instances below one resource; none when it is not there."""
    return [instance for _, some, _ in _below(rest, level, resource, ()) for instance in some]


class _Gather:
    """Gathers ids into pages, and counts the resources that were looked into for them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._visits = 0
        self.ids: list[str] = []

    @property
    def full(self) -> bool:
        """Whether enough resources were looked into: a caller has other things to look at, too."""
        return self._visits >= _VISITS

    def cut(self, ids: Sequence[str]) -> Iterator[list[str]]:
        """Yield what completes a page, as long as there is enough; the rest is kept for the next one."""
        self._visits += 1
        start = 0
        while len(self.ids) + len(ids) - start >= self._size:
            room = self._size - len(self.ids)
            yield list(ids[start : start + room])
            start += room
        self.ids += ids[start:]

    def take(self, more: Sequence[str] = ()) -> list[str]:
        """Return the page that is gathered, and begin the next."""
        page, self.ids, self._visits = [*self.ids, *more], [], 0
        return page


def _below(rest: Rest, level: str, resource: str, after: Sequence[str]) -> Iterator[tuple[list[str], list[str], float]]:
    """Yield (path, instance ids behind `after`, share done) for each series below a resource, ids in their order."""
    if level == "instances":
        yield [], [resource], 1.0
        return
    key, below = _CHILDREN[level]
    try:
        children: list[str] = sorted(rest.get_json(f"/{level}/{resource}")[key])
    except NotFound:
        yield [], [], 1.0
        return
    first = after[0] if after else ""
    if below == "instances":
        yield [], [child for child in children if child > first], 1.0
        return
    for index, child in enumerate(children):
        if child >= first:
            for path, ids, share in _below(rest, below, child, after[1:] if child == first else ()):
                yield [child, *path], ids, (index + share) / len(children)
