"""Resend, replace and recall: what people ask for after an output has left.

All of it is written into the ledger first, so it goes on after a restart. One thread deletes at the destinations what
is to be recalled or replaced; what it cannot delete there is left to a person, as a to-do that stands until it is done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from orthanc_deid import logs
from orthanc_deid.core import standard
from orthanc_deid.core.plan import plan_digest
from orthanc_deid.orthanc import changes
from orthanc_deid.orthanc.changes import Stored
from orthanc_deid.orthanc.client import NotFound, OrthancError
from orthanc_deid.orthanc.peers import Gone
from orthanc_deid.pipeline.delivery import DeliveryTasks
from orthanc_deid.pipeline.messages import source_digest
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.tasks import SERIES
from orthanc_deid.send.base import CanDelete
from orthanc_deid.store import ledger, meta, recalls, services
from orthanc_deid.store.recalls import Source, ToDelete
from orthanc_deid.store.rows import LOCAL, ORTHANC

log = logs.get(__name__)

LOOK_SECONDS = 1.0
"""How often it is looked for what is to be deleted, unless somebody nudges."""
PAGE = 500
"""Rows that are looked at in one step when a whole project is replaced."""
PAUSE = (1.0, 300.0)
"""First and longest wait for a destination that does not answer."""
_REPLACING = "replacing "
"""How the key of a project begins that is being replaced, in the table of facts; its value is the last row's number."""


@dataclass(frozen=True)
class Begun:
    """How many instances a request is about, and how many of them cannot be made again: their sources are gone
    or hold other content."""

    instances: int
    source_missing: int = 0


class Recalls:
    """Takes orders, and one thread that carries them out."""

    def __init__(self, shared: Shared, destinations: DeliveryTasks) -> None:
        self._shared = shared
        self._destinations = destinations
        self._wake = threading.Event()
        self._resting: dict[str, tuple[float, float]] = {}  # until when, and for how long
        self._thread = threading.Thread(target=self._run, name="recall", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop; `shared.stopping` is set by now."""
        self._wake.set()
        self._thread.join(timeout)

    # Orders

    def resend(self, project: str, out_study: str, destination: str | None = None) -> Begun | None:
        """Send a study again, to one of the project's destinations (by its name in the ledger) or to all; also what was
        recalled. None for an unknown study."""
        ids = self._study(project, out_study)
        if ids is None:
            return None
        there, missing = self._remakable(project, ids, recalled=True)
        names = self._shared.destinations(project) if destination is None else [destination]
        if destination is None and self._shared.project(project).keep_research_copy:
            names = [*names, LOCAL]
        with self._shared.store.begin() as conn:
            again = recalls.resend(conn, there, names, self._shared.clock())
        self._ask(again)
        log.info("a study is sent again", project=project, count=len(again))
        return Begun(len(again), missing)

    def replace(self, project: str, out_study: str) -> Begun | None:
        """Make what of a study was made under another plan again; None for an unknown study."""
        ids = self._study(project, out_study)
        return None if ids is None else self._replace(project, ids)

    def replace_all(self, project: str) -> None:
        """Begin to make again what of a project was made under another plan; goes on after a restart."""
        with self._shared.store.begin() as conn:
            meta.put(conn, _REPLACING + project, "0")
        self._wake.set()

    def recall(self, project: str, out_study: str) -> Begun | None:
        """Take a study back from wherever it was sent; None for an unknown study."""
        ids = self._study(project, out_study)
        return None if ids is None else self.recall_rows(ids)

    def recall_rows(self, ids: Sequence[int]) -> Begun:
        """Take rows of the ledger back: nothing of them goes out any more, and what was sent is deleted."""
        with self._shared.store.begin() as conn:
            taken = recalls.recall(conn, ids, self._shared.clock())
        for row, digest in taken:
            self._shared.fresh.pop(row, None)
            if digest:
                self._shared.outbox.drop(row, digest)
        self._wake.set()
        log.info("instances are recalled", count=len(taken))
        return Begun(len(taken))

    def replace_conflict(self, row: int) -> bool:
        """Put an output in the place of what a destination holds under its UIDs; False where there is no conflict, or
        the output could not be made again: then what the destination holds would be deleted for nothing."""
        with self._shared.store.read() as conn:
            found = ledger.get(conn, row)
        if found is None or found.project not in self._shared.config.projects:
            return False
        if not self._remakable(found.project, [row])[0]:
            return False
        with self._shared.store.begin() as conn:
            begun = recalls.replace_conflicts(conn, [row], self._shared.clock())
        self._wake.set()
        return bool(begun)

    def todos(self, after: int, limit: int) -> list[ToDelete]:
        """Return what only a person can delete."""
        with self._shared.store.read() as conn:
            return recalls.todos(conn, after, limit)

    def done(self, number: int) -> bool:
        """Believe a person that something was deleted; False where there is no such to-do."""
        now = self._shared.clock()
        with self._shared.store.begin() as conn:
            found = recalls.todo(conn, number)
            if found is None:
                return False
            recalls.gone(conn, [found], now)
            ledger.settle(conn, [found.one.ledger_id], now)
        return True

    def again(self, number: int) -> bool:
        """Try to delete once more what was left to a person; False where there is no such to-do."""
        with self._shared.store.begin() as conn:
            found = recalls.again(conn, number, self._shared.clock())
        self._resting.clear()
        self._wake.set()
        return found

    def _study(self, project: str, out_study: str) -> list[int] | None:
        with self._shared.store.read() as conn:
            return recalls.of_study(conn, project, out_study) or None

    def _ask(self, again: Iterable[tuple[int, str, str]]) -> None:
        for project, series_index in {(project, series_index) for _, project, series_index in again}:
            self._shared.tasks.ask(SERIES, project, series_index)

    def _remakable(self, project: str, ids: Sequence[int], recalled: bool = False) -> tuple[list[int], int]:
        """Return which rows can be made again, and how many cannot: an outcome is not given up for a source that is
        gone, or that other content has taken the place of."""
        with self._shared.store.read() as conn:
            rows = recalls.sources(conn, ids, recalled)
        vault = self._shared.vaults[project]
        names = {row.id: vault.open("instance", row.sealed) for row in rows if row.spool is None}
        kept = [names[row.id] for row in rows if row.spool is None and row.origin == ORTHANC]
        stored = changes.describe(self._shared.orthanc, kept)
        there = [
            row.id for row in rows if row.spool is not None or self._holds(project, stored.get(names[row.id]), row)
        ]
        return there, len(rows) - len(there)

    def _holds(self, project: str, stored: Stored | None, row: Source) -> bool:
        """Whether what Orthanc has of an instance is what the row was made of."""
        if stored is None or (stored.version and stored.version == row.version):
            return stored is not None
        try:
            name = self._shared.orthanc.content_name(stored.instance)
        except NotFound:
            return False
        return source_digest(self._shared.keys[project], name) == row.digest

    def _plans(self, project: str) -> set[str]:
        """Return the digests of all plans that the project's profile makes today."""
        profile = self._shared.project(project).profile
        if profile is None:
            raise ValueError("a project without its profile")
        return {plan_digest(profile.spec, sop_class) for sop_class in standard.sop_classes()}

    def _replace(self, project: str, ids: Sequence[int]) -> Begun:
        with self._shared.store.read() as conn:
            others = recalls.among_other_plans(conn, ids, self._plans(project))
        there, missing = self._remakable(project, others)
        with self._shared.store.begin() as conn:
            again = recalls.replace(conn, there, self._shared.clock())
        self._ask(again)
        log.info("outputs of another plan are made again", project=project, count=len(again))
        return Begun(len(again), missing)

    # Carrying them out

    def _run(self) -> None:
        while not self._shared.stopping.is_set():
            try:
                while self._may() and self._delete_some():
                    pass
                self._replace_some()
                self._shared.troubles.clear("recall")
            except (SQLAlchemyError, OrthancError, OSError) as error:
                if self._shared.troubles.note("recall", type(error).__name__):
                    log.warning("recalls wait", error=type(error).__name__)
                self._shared.stopping.wait(5.0)
            except Exception as error:
                log.error("a recall failed", error=type(error).__name__, exc_info=True)
                self._shared.troubles.note("recall", type(error).__name__)
                self._shared.stopping.wait(30.0)
            self._wake.wait(LOOK_SECONDS)
            self._wake.clear()

    def _may(self) -> bool:
        """Whether this service is the one that acts. Asked before each step: one that was stopped, or cut off, goes on
        in the middle of a list, of which another one has done the rest by then."""
        shared = self._shared
        return shared.leads.is_set() and shared.held() and not shared.stopping.is_set()

    def _delete_some(self) -> bool:
        """Delete what is due; whether something was."""
        now = self._shared.clock()
        resting = [name for name, (until, _) in self._resting.items() if until > now]
        with self._shared.store.read() as conn:
            waits = recalls.uncollected(conn)
            due = recalls.due(conn, now, resting)
        if waits:
            with self._shared.store.begin() as conn:
                if recalls.collect(conn, now):
                    return True
        if not due:
            return False
        gone: list[ToDelete] = []
        left: dict[str, list[int]] = {}
        for listed in due:
            one = listed.one
            if self._resting.get(one.destination, (0.0, 0.0))[0] > now:
                continue
            # The place may be taken by now: deleted by another service, and a newer output sent there.
            with self._shared.store.read() as conn:
                item = recalls.still(conn, one.id)
            if not self._may():
                break
            if item is None:
                continue
            found = self._delete(item)
            if found in (Gone.DELETED, Gone.ABSENT):
                gone.append(item)
                self._resting.pop(one.destination, None)
            elif found is Gone.WAITS:
                pause = min(max(self._resting.get(one.destination, (0.0, 0.0))[1] * 2, PAUSE[0]), PAUSE[1])
                self._resting[one.destination] = (now + pause, pause)
            else:
                left.setdefault(found.value, []).append(one.id)
        with self._shared.store.begin() as conn:
            if self._shared.store.shared and not services.leads(conn, self._shared.owner):
                return False  # somebody else leads by now, and finds what is gone itself
            recalls.gone(conn, gone, now)
            for reason, ids in left.items():
                recalls.give_up(conn, ids, reason, now)
            ledger.settle(conn, sorted({item.one.ledger_id for item in gone}), now)
        if left:
            log.warning("what was sent has to be deleted by a person", count=sum(map(len, left.values())))
        return bool(gone or left)

    def _delete(self, item: ToDelete) -> Gone:
        sender = self._destinations.destination(item.one.destination).sender
        if not isinstance(sender, CanDelete):
            return Gone.UNABLE
        try:
            return sender.delete(item.one)
        except OSError as error:
            log.warning("a deletion failed", error=type(error).__name__, destination=item.one.destination)
            return Gone.WAITS

    def _replace_some(self) -> None:
        """Go on with the projects that are being replaced."""
        for project in self._shared.config.projects:
            while self._may():
                with self._shared.store.read() as conn:
                    after = meta.get(conn, _REPLACING + project)
                    page = None if after is None else recalls.page(conn, project, int(after), PAGE)
                if not page:
                    break
                self._replace(project, page)
                with self._shared.store.begin() as conn:
                    meta.put(conn, _REPLACING + project, str(page[-1]))
            else:
                return
            if after is not None:
                with self._shared.store.begin() as conn:
                    meta.remove(conn, _REPLACING + project)
                log.info("all outputs of another plan were looked at", project=project)
