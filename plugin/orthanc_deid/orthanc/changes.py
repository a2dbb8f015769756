"""What has arrived: Orthanc's change log, read page by page, and what stands behind the ids in it.

The log survives a crash, but it is not the whole truth: deleting or overwriting an instance removes its row, and
`DELETE /changes` empties it while keeping Last. `Page.gap` tells when rows may be missing, so that the intake can look
at all instances instead.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from orthanc_deid import gateway
from orthanc_deid.orthanc.client import NotFound, OrthancClient
from orthanc_deid.orthanc.push import orthanc_ids

PAGE = 500
"""Rows of the change log, or instances, in one request."""
OVERLAP = 1000
"""So many numbers before the cursor are read again when a service begins to read a shared index."""
MISSING_SECONDS = 60.0
"""How long a missing number of a shared index is looked for: longer than any transaction of Orthanc's takes."""
MOST_MISSING = 10_000
"""At most so many numbers are looked for: a hole that is larger was deleted, not delayed."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page of the change log behind a sequence number.

    `instances`: Orthanc ids of new instances, in the order of arrival. `gap`: rows are missing between those that were
    seen, or the log is shorter than what was read from it. `cursor`: where the next page begins. `done`: nothing
    follows.
    """

    instances: tuple[str, ...]
    cursor: int
    gap: bool
    done: bool


def _answer(client: OrthancClient, since: int, limit: int) -> tuple[list[dict[str, Any]], int, bool]:
    answer: dict[str, Any] = client.get_json("/changes", {"since": since, "limit": limit})
    return answer["Changes"], int(answer.get("Last", since)), bool(answer.get("Done", True))


def read(client: OrthancClient, since: int, limit: int = PAGE) -> Page:
    """Read the change log behind `since`."""
    rows, last, done = _answer(client, since, limit)
    if not rows:
        # Last < since: another database than the one that was read; Last > since: rows were removed before we saw them.
        return Page((), last, gap=last != since, done=True)
    numbers = [int(row["Seq"]) for row in rows]
    gap = numbers[0] != since + 1 or any(b != a + 1 for a, b in itertools.pairwise(numbers))
    return Page(_new(rows), numbers[-1], gap, done)


def _new(rows: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(row["ID"]) for row in rows if row["ChangeType"] == "NewInstance"))


class Log:
    """The change log of an Orthanc with an index of its own: numbers come one after the other."""

    def __init__(self, client: OrthancClient) -> None:
        self._client = client

    def read(self, cursor: int) -> Page:
        """Read on behind the cursor."""
        return read(self._client, cursor)

    def taken(self) -> None:
        """What was read last is in the ledger now."""


class SharedLog(Log):
    """The change log of an index in a database server, which several Orthancs may write to.

    A number is given out when a transaction begins to write, and seen when it is committed: a lower one may come after
    a higher one that was read already, or never, if its transaction was rolled back. So numbers that are missing are
    looked for again for a while, and those right before the cursor once at the beginning; a missing number alone does
    not tell that something was lost.
    """

    def __init__(self, client: OrthancClient, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(client)
        self._clock = clock
        self._missing: dict[int, float] = {}
        self._late: set[int] = set()
        self._begun = False

    def read(self, cursor: int) -> Page:
        """Read on behind the cursor, and what has come late before it."""
        now = self._clock()
        if not self._begun:
            self._missing = dict.fromkeys(range(max(1, cursor - OVERLAP + 1), cursor + 1), now)
        late = self._come_late()
        self._begun = True
        self._missing = {number: since for number, since in self._missing.items() if now - since < MISSING_SECONDS}
        rows, last, done = _answer(self._client, cursor, PAGE)
        if not rows:
            # Last < cursor: another database than the one that was read. Numbers at the end may be missing, too.
            return Page(late, last if last < cursor else cursor, gap=last < cursor, done=True)
        numbers = {int(row["Seq"]) for row in rows}
        newest = max(numbers)
        for number in range(max(cursor + 1, newest - MOST_MISSING), newest):
            if number not in numbers:
                self._missing[number] = now
        return Page(tuple(dict.fromkeys((*late, *_new(rows)))), newest, False, done)

    def taken(self) -> None:
        """What was read last is in the ledger now. Until then a late number is told again: it comes by no other way."""
        for number in self._late:
            self._missing.pop(number, None)
        self._late.clear()

    def _come_late(self) -> tuple[str, ...]:
        found: list[dict[str, Any]] = []
        left = sorted(self._missing)
        while left:
            rows, _, _ = _answer(self._client, left[0] - 1, PAGE)
            found += [row for row in rows if int(row["Seq"]) in self._missing]
            end = max((int(row["Seq"]) for row in rows), default=left[-1])
            left = [number for number in left if number > end]
        self._late = {int(row["Seq"]) for row in found}
        return _new(found)


def open_log(client: OrthancClient) -> Log:
    """Return the change log as its index has to be read."""
    return SharedLog(client) if client.get_json("/system").get("DatabaseBackendPlugin") else Log(client)


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored instance as the intake needs it; all of it may identify, none of it may be logged.

    `version` names the stored file (the beginning of its random UUID): it changes when other bytes, or the same ones
    again, take its place. Empty where Orthanc does not tell it.
    """

    instance: str
    series: str
    version: str
    remote_aet: str
    called_aet: str


def describe(client: OrthancClient, instances: Sequence[str]) -> dict[str, Stored]:
    """Look instances up in one request per page; those that are gone are missing from the answer."""
    found: dict[str, Stored] = {}
    for start in range(0, len(instances), PAGE):
        part = list(instances[start : start + PAGE])
        for row in _bulk(client, part):
            metadata = row.get("Metadata", {})
            found[row["ID"]] = Stored(
                row["ID"],
                row["ParentSeries"],
                str(row.get("FileUuid", "")).replace("-", "")[:16],
                metadata.get("RemoteAET", ""),
                metadata.get("CalledAET", ""),
            )
    return found


def _bulk(client: OrthancClient, instances: list[str]) -> list[dict[str, Any]]:
    # An id that is gone makes some versions answer 404 for all: then one by one.
    try:
        rows: list[dict[str, Any]] = client.post_json("/tools/bulk-content", {"Resources": instances, "Metadata": True})
        return rows
    except NotFound:
        if len(instances) == 1:
            return []
        half = len(instances) // 2
        return _bulk(client, instances[:half]) + _bulk(client, instances[half:])


@dataclass(frozen=True, slots=True)
class Series:
    """A series and what a project selects it by: some of the main tags of patient, study and series by keyword."""

    series: str
    study: str
    study_uid: str
    modality: str
    tags: dict[str, str]


PLACEHOLDERS = orthanc_ids(gateway.PLACEHOLDER_PATIENT, gateway.PLACEHOLDER_STUDY, gateway.PLACEHOLDER_SERIES, "")[1]
"""Orthanc's id of the series of all placeholders of gateway mode."""


def placeholder_id(name: str) -> str:
    """Return Orthanc's id of the placeholder of a file in the spool."""
    uid = gateway.placeholder_uid(name)
    return orthanc_ids(gateway.PLACEHOLDER_PATIENT, gateway.PLACEHOLDER_STUDY, gateway.PLACEHOLDER_SERIES, uid)[2]


def remove(client: OrthancClient, instances: Sequence[str]) -> None:
    """Delete instances; those that are gone already do not matter. Raises Unavailable, Failed."""
    try:
        client.change("POST", "/tools/bulk-delete", json.dumps({"Resources": list(instances)}).encode())
    except NotFound:  # one of them was: then one by one
        for instance in instances:
            with contextlib.suppress(NotFound):
                client.change("DELETE", f"/instances/{instance}")


def series(client: OrthancClient, series_id: str, keywords: Container[str] = ()) -> Series:
    """Look a series up, with its study, and keep those main tags that are asked for. Raises NotFound."""
    own = client.get_json(f"/series/{series_id}")
    study = client.get_json(f"/studies/{own['ParentStudy']}")
    tags: dict[str, str] = {**study.get("PatientMainDicomTags", {}), **study["MainDicomTags"], **own["MainDicomTags"]}
    kept = {keyword: value for keyword, value in tags.items() if keyword in keywords}
    return Series(series_id, study["ID"], tags.get("StudyInstanceUID", ""), tags.get("Modality", ""), kept)


def series_of_study(client: OrthancClient, study: str) -> list[str]:
    """Return the ids of a study's series. Raises NotFound."""
    answer: list[str] = client.get_json(f"/studies/{study}")["Series"]
    return answer


def instances_of_series(client: OrthancClient, series_id: str) -> list[str]:
    """Return the ids of a series' instances. Raises NotFound."""
    answer: list[str] = client.get_json(f"/series/{series_id}")["Instances"]
    return answer


def all_instances(client: OrthancClient) -> Iterator[list[str]]:
    """Return the ids of every stored instance, page by page."""
    ids: list[str] = client.get_json("/instances")
    for start in range(0, len(ids), PAGE):
        yield ids[start : start + PAGE]


def attributes(client: OrthancClient, instance: str) -> dict[str, Any]:
    """Return all top-level attributes of an instance by tag ('0010,0020'), for rules about attributes that Orthanc
    does not keep in its index. Raises NotFound."""
    tags: dict[str, Any] = client.get_json(f"/instances/{instance}/tags", {"short": True})
    return tags


def values_of(text: Any) -> Iterable[str]:
    """Split an attribute's text into its values; nested ones (sequences) have none."""
    return [value.strip(" \0") for value in text.split("\\")] if isinstance(text, str) else ()
