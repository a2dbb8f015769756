"""Hands what a job is over to the pipeline, page by page, and remembers how far it got.

Only a window of instances is open at a time: what arrives meanwhile is not queued behind millions, and pausing or
cancelling takes hold soon. How far a job got is kept in its row, to the instance; so a job goes on where it stood after
a restart, and what it has already is passed over.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from orthanc_deid.config import Config
from orthanc_deid.identity.keys import ProjectKeys
from orthanc_deid.identity.vault import Vault
from orthanc_deid.orthanc import resources
from orthanc_deid.pipeline import job_dry
from orthanc_deid.pipeline.job_model import (
    ACTIVE,
    PAUSED,
    PENDING,
    RUNNING,
    cursor,
    ledger_priority,
    open_part,
    seal,
    sealed_parts,
    unseal,
)
from orthanc_deid.store import Store, deliveries, job_items, ledger
from orthanc_deid.store import jobs as rows
from orthanc_deid.store.jobs import JobRow
from orthanc_deid.store.rows import BACKFILL

PAGE = 200
"""Instances handed over at a time."""

WINDOW = 1000
"""Instances of one job that may wait to be de-identified; more are handed over as these are done."""

BEHIND = 10_000
"""Instances of one job that may wait for a destination; no more are made while it does not keep up."""

DRY_PAGE = 40
"""Instances of a dry run handed over at a time: their outcome is waited for."""

_LOST = ("cancelled", "quarantined", "rejected", "source-lost")
_UNWANTED = ("refused", "conflict")


class Host(Protocol):
    """What jobs need of the service."""

    config: Config
    store: Store

    @property
    def orthanc(self) -> resources.Rest:
        """Orthanc's REST."""

    def keys(self, project: str) -> ProjectKeys:
        """Return the keys of a configured project."""

    def enqueue(
        self,
        project: str,
        instance_ids: Iterable[str],
        job_id: str | None,
        *,
        push: bool = True,
        again: bool = False,
        priority: int = BACKFILL,
    ) -> int:
        """Put instances into the ledger for a job; returns how many of them the job now has."""

    def dry_run(self, project: str, instance_ids: Sequence[str]) -> list[Mapping[str, Any]]:
        """De-identify instances and keep nothing; says for each what would have happened."""

    def nudge(self) -> None:
        """Look for new work now."""

    @property
    def rush(self) -> threading.Event:
        """Set while instances arrive in a rush: a job brings nothing in."""


class JobFeed:
    """The open expansions of a service's jobs."""

    def __init__(self, host: Host, clock: Callable[[], float]) -> None:
        self._host = host
        self._clock = clock
        self._open: dict[str, Iterator[resources.Page]] = {}

    def keep_only(self, job_ids: Iterable[str]) -> None:
        """Close the expansions of all other jobs."""
        for gone in self._open.keys() - set(job_ids):
            del self._open[gone]

    def close(self, job_id: str) -> None:
        """Close an expansion; it is opened again where the job's row says."""
        self._open.pop(job_id, None)

    def full(self, job_id: str) -> bool:
        """Tell whether the job has as much in hand as it may."""
        if self._host.rush.is_set():
            return True
        with self._host.store.read() as conn:
            states = job_items.in_hand(conn, job_id)
        return states.get("queued", 0) + states.get("working", 0) >= WINDOW or states.get("released", 0) >= BEHIND

    def next(self, row: JobRow) -> bool:
        """Hand over one page; returns False when nothing is left."""
        feed = self._open.get(row.id)
        if feed is None:
            feed = self._open[row.id] = self._expand(row)
        page = next(feed, None)
        if page is None:
            del self._open[row.id]
            change(self._host.store, row.id, Expanded=True, Position=1.0, Waiting=None)
            return False
        if row.content["DryRun"]:
            self._try(row, page)
        else:
            self._hand_over(row, page)
        return True

    # What it is over

    def _expand(self, row: JobRow) -> Iterator[resources.Page]:
        rest, keys = self._host.orthanc, self._host.keys(row.project)
        begin = cursor(row, keys)
        size = DRY_PAGE if row.content["DryRun"] else PAGE
        most = row.content.get("Sample")
        request = unseal(keys, row.content["Request"])
        if request["query"] == {}:
            whole = int(rest.get_json("/statistics")["CountInstances"])
            change(self._host.store, row.id, Expected=whole)
            return resources.sample(rest, size, most) if most else resources.everything(rest, size, begin)
        count = self._listed(row, request)

        def part(number: int) -> list[tuple[str, str]]:
            with self._host.store.read() as conn:
                sealed = rows.part(conn, row.id, number)
            return [] if sealed is None else open_part(keys, sealed)

        if most:
            return resources.sample_below(rest, count, part, size, most)
        return resources.expand(rest, count, part, size, begin)

    def _listed(self, row: JobRow, request: Mapping[str, Any]) -> int:
        """Return how many resources the job is over; what a query finds is written down first, once."""
        if row.content.get("Listed") is not None and (request["query"] is None or row.content["Listed"]):
            return int(row.content["Listed"])
        keys = self._host.keys(row.project)
        if request["query"] is None:  # of a version that kept them in the request
            found = [(level, resource) for level, resource in request["resources"]]
        else:
            level = resources.LEVEL_OF_TYPE[request["level"]]
            ids = sorted(resources.find(self._host.orthanc, request["level"], request["query"]))
            found = [(level, resource) for resource in ids]
        with self._host.store.begin() as conn:
            now = rows.get(conn, row.id, lock=True)
            if now is None:
                return 0
            rows.add_parts(conn, row.id, sealed_parts(keys, found))
            rows.update(conn, row.id, content={**now.content, "Listed": len(found)})
        return len(found)

    # Handing over

    def _hand_over(self, row: JobRow, page: resources.Page) -> None:
        taken, new = self.give(row, page.ids)
        self._advance(row, page, total=taken, skipped=new - taken)

    def give(self, row: JobRow, ids: Sequence[str]) -> tuple[int, int]:
        """Put into the ledger what the job does not have yet; returns how many were taken, and how many were new."""
        vault = Vault(self._host.keys(row.project))
        indexes = {vault.index("instance", id_): id_ for id_ in ids}
        with self._host.store.read() as conn:
            linked = job_items.linked(conn, row.id, row.project, list(indexes))
        # What the job already has is not tried again: that would undo its outcome at every restart.
        new = [id_ for index, id_ in indexes.items() if index not in linked]
        push = bool(row.content["Push"])
        priority = ledger_priority(row.priority)
        taken = self._host.enqueue(row.project, new, row.id, push=push, again=True, priority=priority) if new else 0
        with self._host.store.begin() as conn:
            now = rows.get(conn, row.id, lock=True)
            # Cancelled or paused while the page was on its way: the page follows.
            if now is not None and now.state == PAUSED:
                rows.pause(conn, row.id, self._clock())
            elif now is not None and now.state not in ACTIVE:
                rows.cancel(conn, row.id, self._clock())
        return taken, len(new)

    def _advance(self, row: JobRow, page: resources.Page, *, total: int, skipped: int) -> None:
        place = seal(self._host.keys(row.project), page.cursor)
        with self._host.store.begin() as conn:
            now = rows.get(conn, row.id, lock=True)
            if now is None:
                return
            content = {**now.content, "Cursor": place, "Position": page.position, "Waiting": None}
            content["Skipped"] += skipped
            state = RUNNING if now.state == PENDING else now.state
            rows.update(conn, row.id, state=state, total=now.total + total, content=content)

    def _try(self, row: JobRow, page: resources.Page) -> None:
        results = self._host.dry_run(row.project, page.ids) if page.ids else []
        place = seal(self._host.keys(row.project), page.cursor)
        with self._host.store.begin() as conn:
            now = rows.get(conn, row.id, lock=True)
            if now is None or now.state not in (*ACTIVE, PAUSED):
                return
            dry, studies = job_dry.count(now.content["Dry"], results)
            rows.add_studies(conn, row.id, studies)
            own = sum(result["outcome"] == job_dry.OWN for result in results)
            # Counts and place go in one transaction: after a crash nothing is counted twice.
            content = {**now.content, "Dry": dry, "Cursor": place, "Position": page.position, "Waiting": None}
            content["Skipped"] += own
            if "of" in page.cursor:
                content["Expected"] = page.cursor["of"]
            state = RUNNING if now.state == PENDING else now.state
            rows.update(conn, row.id, state=state, total=now.total + len(page.ids), content=content)

    # Once more

    def again(self, row: JobRow) -> bool:
        """Try some of what did not come out once more, in the order of the ledger; False when all of it was."""
        store, now = self._host.store, self._clock()
        with store.begin() as conn:
            job = rows.get(conn, row.id, lock=True)
            if job is None or job.state not in ACTIVE or job.content.get("Again") is None:
                return False
            after = int(job.content["Again"])
            ids = job_items.counted(conn, row.id, (*_LOST, *_UNWANTED), after, PAGE)
            ledger.retry(conn, ids, now)
            deliveries.resend(conn, ids, now)
            content = {**job.content, "Again": ids[-1] if ids else None}
            rows.update(conn, row.id, state=RUNNING, content=content)
        self._host.nudge()
        return True


def change(store: Store, job_id: str, **fields: Any) -> None:
    """Change parts of the content of a job's row."""
    with store.begin() as conn:
        row = rows.get(conn, job_id, lock=True)
        if row is not None:
            rows.update(conn, job_id, content={**row.content, **fields})
