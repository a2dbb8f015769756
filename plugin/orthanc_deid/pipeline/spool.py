"""Gateway mode's way in: what the plugin has spooled becomes rows of the ledger, and goes when they are done.

The folder is the truth about what is there, the ledger about what became of it. A file is moved on only after the
transaction that knows it, and doing a step again finds the same rows: so a crash at any moment loses no file and makes
no second output. The same content sent twice has one row, and its second file goes at once; other content under the
same ids is a new row, as with instances that Orthanc stores.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from orthanc_deid import gateway, logs
from orthanc_deid.config import Gateway
from orthanc_deid.core.errors import DeidError
from orthanc_deid.orthanc import changes
from orthanc_deid.orthanc.changes import Stored
from orthanc_deid.orthanc.client import OrthancError
from orthanc_deid.pipeline.messages import source_digest
from orthanc_deid.pipeline.routing import REFERRING
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.spoolfolder import Entry, Spool
from orthanc_deid.pipeline.spoolrouter import SpoolRouter
from orthanc_deid.pipeline.tasks import SERIES
from orthanc_deid.store import expected, ledger, spooled, studies
from orthanc_deid.store.ledger import NewSource

log = logs.get(__name__)

POLL_SECONDS = 2.0
"""How often the folder is looked at when nobody nudges."""
GATHER_SECONDS = 0.05
"""How long arrivals are gathered after a nudge."""
BATCH = 200
"""Files that are taken in one transaction."""
SWEEP_SECONDS = 1.0
"""How often files are deleted that are done."""
COUNT_SECONDS = 10.0
"""How often the folder is counted, for health and metrics."""
ORPHAN_SECONDS = 600.0
"""A file that has waited for its AE titles this long is asked after: its placeholder may be gone, or never stored."""
REFERRING_SECONDS = 86400.0
"""With `discard`, what refers to others is kept this long: what it refers to may come later."""
REFUSES_SECONDS = 300.0
"""So long after the last refusal it is shown as a trouble."""
PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A file that no project takes: why, and what it may have to be looked at again for."""

    reason: str
    since: float
    size: int
    study: str = ""
    modality: str = ""


class SpoolIntake:
    """Takes what is in the spool, and deletes what is done; one thread."""

    def __init__(self, shared: Shared, spool: Spool, settings: Gateway) -> None:
        self._shared = shared
        self._spool = spool
        self._settings = settings
        self._router = SpoolRouter(shared.config.projects.values(), self._study_known)
        self._wake = threading.Event()
        self._unmatched: dict[str, Unmatched] = {}
        self._lock = threading.Lock()  # over the list of the unmatched, which routes read
        self._leaving: list[str] = []  # files that no row needs, and that are not deleted yet
        self._sweep_at = self._orphans_at = self._count_at = 0.0
        self._files: dict[str, int] = {}
        self._bytes = 0
        self._refused, self._refused_at = 0, 0.0
        self.discarded = 0
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._spool.prepare()
        self._thread.start()

    def look_anew(self) -> None:
        """Look at everything again: rules may have changed, and a restored database may have forgotten rows.

        What was to be deleted when the service ended is known by its content, and goes then.
        """
        self._leaving = []
        with self._lock:
            self._unmatched.clear()
        with self._shared.store.read() as conn:
            known = spooled.named(conn, self._spool.names(gateway.TAKEN)) - spooled.lost(conn)
        for part, names in (
            (gateway.UNMATCHED, self._spool.names(gateway.UNMATCHED)),
            (gateway.TAKEN, [name for name in self._spool.names(gateway.TAKEN) if name not in known]),
        ):
            for name in names:
                self._spool.move(name, part, gateway.NEW)

    def stop(self, timeout: float) -> None:
        """Stop; `shared.stopping` is set by now."""
        self._wake.set()
        self._thread.join(timeout)

    def nudge(self) -> None:
        """Look now."""
        self._wake.set()

    def _run(self) -> None:
        anew = True
        while not self._shared.stopping.is_set():
            if not self._shared.leads.is_set():
                self._shared.stopping.wait(POLL_SECONDS)
                anew = True  # another service may have had it meanwhile
                continue
            try:
                if anew:
                    self.look_anew()
                    anew = False
                more = self.look()
                if self._shared.troubles.clear("spool-intake"):
                    log.info("the spool is worked off again")
            except (SQLAlchemyError, OSError, OrthancError) as error:
                more = False
                if self._shared.troubles.note("spool-intake", type(error).__name__):
                    log.warning("the spool waits", error=type(error).__name__)
                self._shared.stopping.wait(PATIENCE)
            except Exception as error:
                more = False
                log.error("the spool failed", error=type(error).__name__, exc_info=True)
                self._shared.troubles.note("spool-intake", type(error).__name__)
                self._shared.stopping.wait(PATIENCE)
            if not more:
                busy = self._files.get(gateway.TAKEN) or self._files.get(gateway.NEW)
                self._wake.wait(SWEEP_SECONDS if busy else POLL_SECONDS)
                self._shared.stopping.wait(GATHER_SECONDS)
                self._wake.clear()

    def look(self) -> bool:
        """Do what there is to do; whether more files wait."""
        names = self._spool.names(gateway.NEW)
        if names:
            self._take(names[:BATCH])
        now = time.monotonic()
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_SECONDS
            self._sweep()
        if now >= self._orphans_at:
            self._orphans_at = now + ORPHAN_SECONDS / 10
            self._orphans()
        if now >= self._count_at:
            self._count_at = now + COUNT_SECONDS
            self._count()
        return len(names) > BATCH

    # Taking files

    def _take(self, names: list[str]) -> None:
        entries: list[Entry] = []
        for name in names:
            try:
                entries.append(self._spool.read(name))
            except FileNotFoundError:
                continue
            except DeidError as error:
                self._set_aside(name, Unmatched(error.reason, self._shared.clock(), self._spool.size(name)))
        wanted: dict[str, list[tuple[NewSource, Entry]]] = {}
        taken: set[str] = set()
        joined: set[str] = set()
        self._router.begin()
        for entry in self._not_own(entries):
            projects, joins = self._router.route(entry)
            if joins:
                joined.add(entry.study_uid)
            for project in projects:
                wanted.setdefault(project, []).append((self._source(project, entry), entry))
                taken.add(entry.name)
            if not projects:
                what = Unmatched("unmatched", self._shared.clock(), entry.size, entry.study_uid, entry.modality)
                self._set_aside(entry.name, what)
        self._add(wanted)
        self._come_back(joined)
        self._router.settle()
        self._move_on(taken)

    def _add(self, wanted: dict[str, list[tuple[NewSource, Entry]]]) -> None:
        tasks: set[tuple[str, str]] = set()
        now = self._shared.clock()
        if not wanted:
            return
        with self._shared.store.begin() as conn:
            for project, new in wanted.items():
                added = ledger.add_many(conn, project, [source for source, _ in new], now)
                tasks.update((project, row.series_index) for row in added if row.state == "queued")
                for source, entry in new:
                    # A file that was lost (by whose hand ever) has its place taken by the one that was sent again.
                    holder = spooled.holder(conn, project, source.instance.index, source.digest)
                    if holder and holder != entry.name and not self._spool.there(holder):
                        spooled.rename(conn, holder, entry.name)
        for project, series_index in tasks:
            self._shared.tasks.ask(SERIES, project, series_index)

    def _move_on(self, names: Iterable[str]) -> None:
        """Keep the files that are the source of a row; the others hold what is known already."""
        names = list(names)
        with self._shared.store.read() as conn:
            needed = spooled.named(conn, names)
        for name in names:
            if name in needed:
                self._spool.move(name, gateway.NEW, gateway.TAKEN)
            else:
                self._spool.drop(name)

    def _not_own(self, entries: list[Entry]) -> list[Entry]:
        """Leave out, and delete, our own research copies: bytes of ours that came without an announcement."""
        with self._shared.store.read() as conn:
            own = expected.find(conn, [entry.instance for entry in entries])
        rest = []
        for entry in entries:
            if entry.instance in own:
                with entry.path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                if digest == own[entry.instance].digest:
                    log.warning("an output of our own came in again, and was dropped")
                    self._spool.drop(entry.name)
                    continue
            rest.append(entry)
        return rest

    def _source(self, project: str, entry: Entry) -> NewSource:
        vault = self._shared.vaults[project]
        return NewSource(
            instance=vault.ref("instance", entry.instance),
            series=vault.ref("series", entry.series),
            study=vault.ref("study", entry.study_uid),
            digest=source_digest(self._shared.keys[project], entry.md5),
            spool=entry.name,
        )

    def _study_known(self, project: str, study_uid: str) -> bool:
        index = self._shared.vaults[project].index("study", study_uid)
        with self._shared.store.read() as conn:
            return bool(studies.known(conn, project, [index]))

    # What no project takes

    def _set_aside(self, name: str, what: Unmatched) -> None:
        if what.reason == "unmatched" and self._settings.unmatched == "discard" and what.modality not in REFERRING:
            self._spool.drop(name)
            self.discarded += 1
            return
        self._spool.move(name, gateway.NEW, gateway.UNMATCHED)
        with self._lock:
            self._unmatched[name] = what

    def _come_back(self, study_uids: set[str]) -> None:
        """Look again at what refers to others of these studies, since they are a project's now."""
        with self._lock:
            names = [
                name
                for name, what in self._unmatched.items()
                if what.study in study_uids and what.modality in REFERRING
            ]
        for name in names:
            with self._lock:
                what = self._unmatched.pop(name, None)
            if what is None:  # discarded meanwhile
                continue
            try:
                self._spool.move(name, gateway.UNMATCHED, gateway.NEW)
            except OSError:
                with self._lock:
                    self._unmatched[name] = what
                raise
        if names:
            self._wake.set()

    def unmatched(self, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """Return a page of what waits for a decision, by name; names are random."""
        with self._lock:
            names = sorted(name for name in self._unmatched if name > after)[:limit]
            rows = [(name, self._unmatched[name]) for name in names]
        return [{"ID": name, "Reason": w.reason, "Since": w.since, "Size": w.size} for name, w in rows]

    def discard(self, name: str) -> bool:
        """Delete a file that no project takes; False when there is none of this name."""
        with self._lock:
            if self._unmatched.pop(name, None) is None:
                return False
        self._spool.drop(name)
        self.discarded += 1
        log.info("a file of the spool was discarded by hand")
        return True

    # AE titles

    def titles(self, placeholders: Iterable[Stored]) -> None:
        """Take the AE titles that Orthanc noted with placeholders, and remove these. Raises OrthancError."""
        gone = []
        waiting = {changes.placeholder_id(name): name for name in self._spool.names(gateway.WAITING)}
        for stored in placeholders:
            name = waiting.get(stored.instance)
            if name is not None:
                self._spool.set_titles(name, stored.remote_aet, stored.called_aet)
                with self._lock:
                    self._unmatched.pop(name, None)
            gone.append(stored.instance)
        if gone:
            changes.remove(self._shared.orthanc, gone)
            self._wake.set()

    def _orphans(self) -> None:
        """Ask after files whose placeholder has not been seen: it may be gone, or the sender was refused after all."""
        old = self._spool.names(gateway.WAITING, older=ORPHAN_SECONDS)
        for stored in changes.describe(self._shared.orthanc, [changes.placeholder_id(name) for name in old]).values():
            self.titles([stored])
        for name in self._spool.names(gateway.WAITING, older=ORPHAN_SECONDS):
            try:
                entry = self._spool.read(name)
            except (DeidError, FileNotFoundError):
                entry = None
            if entry is not None and self._known(entry):
                self._spool.drop(name)  # the sender tried again, and that one was taken
                with self._lock:
                    self._unmatched.pop(name, None)
                continue
            with self._lock:
                self._unmatched.setdefault(
                    name, Unmatched("sender-unknown", self._shared.clock(), self._spool.size(name))
                )

    def _known(self, entry: Entry) -> bool:
        for project, vault in self._shared.vaults.items():
            digest = source_digest(self._shared.keys[project], entry.md5)
            with self._shared.store.read() as conn:
                if spooled.knows(conn, project, vault.index("instance", entry.instance), digest):
                    return True
        return False

    # What is done

    def _sweep(self) -> None:
        while not self._shared.stopping.is_set():
            if not self._leaving:
                with self._shared.store.read() as conn:
                    names = spooled.done(conn, BATCH)
                if not names:
                    break
                # Before the files go: nobody is told any more that an output could be made again from them.
                with self._shared.store.begin() as conn:
                    self._leaving = spooled.let_go(conn, names)
            for name in self._leaving:
                self._spool.drop(name)
            with self._shared.store.begin() as conn:
                spooled.forget(conn, self._leaving)
            self._leaving = []
        if self._settings.unmatched == "discard":
            old = self._shared.clock() - REFERRING_SECONDS
            with self._lock:
                late = [n for n, w in self._unmatched.items() if w.reason == "unmatched" and w.since < old]
            for name in late:
                self.discard(name)

    def _count(self) -> None:
        self._files, self._bytes = self._spool.count()
        told = self._spool.told()
        refused = int(told.get("Refused", 0))
        now = time.monotonic()
        if refused > self._refused:
            self._refused_at = now
        self._refused = refused
        refuses = bool(self._refused_at) and now - self._refused_at < REFUSES_SECONDS
        full = self._bytes > 0.9 * self._settings.maximum_size
        if refuses or full:
            self._shared.troubles.note("spool", str(told.get("LastRefusal")) if refuses else "nearly-full")
        else:
            self._shared.troubles.clear("spool")

    def health(self) -> dict[str, Any]:
        """How full the spool is, and what waits in it; sizes in bytes."""
        told = self._spool.told()
        with self._lock:
            reasons = Counter(what.reason for what in self._unmatched.values())
        return {
            "Files": dict(self._files),
            "Size": self._bytes,
            "MaximumSize": self._settings.maximum_size,
            "Unmatched": dict(reasons),
            "Discarded": self.discarded,
            "Refused": int(told.get("Refused", 0)),
            "LastRefusal": str(told.get("LastRefusal", "")),
        }
