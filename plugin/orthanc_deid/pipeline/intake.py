"""Turns what arrives at Orthanc into rows of the ledger.

The change log is read from a cursor in the database, which moves in the same transaction that holds the rows; Orthanc's
callback only says "look now". Since the log is not the whole truth, all instances are compared with the ledger at
start, after a gap in the log, and once a day. Nothing here waits for the work itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from orthanc_deid import logs
from orthanc_deid.identity.vault import Kind, Ref
from orthanc_deid.orthanc import changes, push
from orthanc_deid.orthanc.changes import Series, Stored
from orthanc_deid.orthanc.client import UNREADABLE, Failed, NotFound, OrthancError
from orthanc_deid.pipeline.messages import source_digest
from orthanc_deid.pipeline.routing import Router
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.tasks import SERIES
from orthanc_deid.store import expected, ledger, meta, services, studies
from orthanc_deid.store.ledger import NewSource
from orthanc_deid.store.rows import BACKFILL, CATCH_UP, FRESH

log = logs.get(__name__)

POLL_SECONDS = 2.0
"""How often the log is read when nobody nudges."""
GATHER_SECONDS = 0.02
"""How long arrivals are gathered after a nudge, so that they share requests and a transaction."""
STREAM_SECONDS = 0.15
"""In a stream of arrivals the log is read in this interval, and needs no nudges."""
QUIET_READS = 4
"""So many reads without an arrival end a stream."""
PATIENCE = (0.5, 15.0)
"""First and longest wait while Orthanc or the database does not answer."""
RECONCILE_SECONDS = 86400.0
"""All instances are compared with the ledger at least this often."""
GAP_PAUSE = 30.0
"""Between two comparisons that gaps in the log ask for."""
LEADER_SECONDS = 1.0
"""How often a service that does not lead looks whether it does by now."""
REFS_REMEMBERED = 2000
READERS = 2
"""Requests for digests that run at the same time."""


class Intake:
    """Reads the change log and reconciles; two threads."""

    def __init__(
        self,
        shared: Shared,
        take_titles: Callable[[Sequence[Stored]], None] = lambda _placeholders: None,
        arrived: Callable[[int], None] = lambda _number: None,
    ) -> None:
        """`take_titles` is told of placeholders of gateway mode, with the AE titles that Orthanc noted for them;
        `arrived` of how many instances, not our own, have just come."""
        self._shared = shared
        self._take_titles = take_titles
        self._arrived = arrived
        self._copies = any(project.keep_research_copy for project in shared.config.projects.values())
        self._wake = threading.Event()
        self._reconcile = threading.Event()
        self._thorough = False
        self._lock = threading.Lock()  # one at a time looks at instances and adds them
        self._router = Router(shared.orthanc, shared.config.projects.values(), self._study_known)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="digest")
        self._threads = [
            threading.Thread(target=self._read_on, name="intake", daemon=True),
            threading.Thread(target=self._reconcile_on, name="reconcile", daemon=True),
        ]
        self._taken = 0
        self._log: changes.Log | None = None
        self._refs: dict[tuple[str, Kind, str], Ref] = {}
        self.last_sequence = 0
        self.last_reconciled = 0.0

    def start(self) -> None:
        """Begin at the cursor, and compare everything once."""
        self._reconcile.set()
        for thread in self._threads:
            thread.start()

    def stop(self, timeout: float) -> None:
        """Stop; `shared.stopping` is set by now."""
        self._wake.set()
        self._reconcile.set()
        for thread in self._threads:
            thread.join(timeout)
        self._readers.shutdown(wait=False, cancel_futures=True)

    def nudge(self) -> None:
        """Read the log now."""
        self._wake.set()

    def reconcile(self, thorough: bool = True) -> None:
        """Compare all instances with the ledger soon; thorough: the contents of all, and not only of other files."""
        self._thorough = self._thorough or thorough
        self._reconcile.set()

    # The log

    def _read_on(self) -> None:
        patience = PATIENCE[0]
        quiet = QUIET_READS
        while not self._shared.stopping.is_set():
            if not self._shared.leads.is_set():
                self._log = None  # what it remembers is old by the time this service leads
                self._shared.leads.wait(LEADER_SECONDS)
                continue
            before = self._taken
            try:
                more = self._page()
                patience = PATIENCE[0]
                if self._shared.troubles.clear("intake"):
                    log.info("the intake works again")
            except (OrthancError, SQLAlchemyError, OSError) as error:
                if self._shared.troubles.note("intake", type(error).__name__):
                    log.warning("the intake waits", error=type(error).__name__)
                self._shared.stopping.wait(patience)
                patience = min(patience * 2, PATIENCE[1])
                continue
            except Exception as error:
                log.error("the intake failed", error=type(error).__name__, exc_info=True)
                self._shared.troubles.note("intake", type(error).__name__)
                self._shared.stopping.wait(PATIENCE[1])
                continue
            quiet = 0 if self._taken > before else quiet + 1
            if more:
                continue
            if quiet < QUIET_READS:
                self._shared.stopping.wait(STREAM_SECONDS)
            else:
                self._wake.wait(POLL_SECONDS)
                self._shared.stopping.wait(GATHER_SECONDS)
            self._wake.clear()

    def _page(self) -> bool:
        """Take one page of the log; whether more follows at once."""
        with self._shared.store.read() as conn:
            cursor = meta.cursor(conn)
        if self._log is None:
            self._log = changes.open_log(self._shared.orthanc)
        page = self._log.read(cursor)
        if not self._shared.leads.is_set():
            return False
        if page.gap:
            log.info("the change log has a gap: all instances are compared", since=cursor, sequence=page.cursor)
            self.reconcile()
        self.last_sequence = page.cursor
        # What is more than a page behind came before anybody looked; what comes now does not wait for it.
        priority = FRESH if page.done else CATCH_UP
        self.take(page.instances, cursor=page.cursor if page.cursor != cursor else None, priority=priority)
        self._log.taken()
        return not page.done

    # Taking instances

    def take(
        self, instances: Sequence[str], cursor: int | None = None, trusting: bool = False, priority: int = FRESH
    ) -> None:
        """Add arrived instances to the projects whose rules want them, and move the cursor with them.

        `trusting`: what has the id of an own research copy is one, without a look at its bytes.
        """
        self._taken += len(instances)
        with self._lock:
            self._router.begin()
            wanted: dict[str, dict[str, tuple[Stored, Series]]] = {}
            if instances and (self._router.wanted or self._copies):
                instances = self._not_own(instances, trusting)
            if priority == FRESH and cursor is not None:
                self._arrived(len(instances))
            if instances and self._router.wanted:
                for stored, series, projects in self._routed(instances):
                    for project in projects:
                        wanted.setdefault(project, {})[stored.instance] = (stored, series)
            self._add(wanted, cursor=cursor, priority=priority)
            self._router.settle()

    def enqueue(
        self,
        project: str,
        instances: Iterable[str],
        job_id: str | None,
        push: bool,
        again: bool,
        priority: int = BACKFILL,
    ) -> int:
        """Add instances to one project whatever its rules say, for a job; returns how many the ledger now links to
        it."""
        ids = list(dict.fromkeys(instances))
        with self._lock:
            wanted = {}
            for instance, stored in changes.describe(self._shared.orthanc, self._not_own(ids, True)).items():
                if stored.series == changes.PLACEHOLDERS:
                    continue
                try:
                    wanted[instance] = (stored, self._router.series(stored.series))
                except NotFound:
                    continue
            return self._add({project: wanted}, job_id=job_id, push=push, again=again, priority=priority)

    def look_again(self, project: str, instances: list[str]) -> None:
        """Add the present content of instances that were found to differ from their rows, and end these rows.

        The present content may be known already: then nothing else would end them, and they would be tried for ever.
        """
        try:
            self.enqueue(project, instances, None, push=True, again=False, priority=FRESH)
            vault, keys = self._shared.vaults[project], self._shared.keys[project]
            # Asked for once more, since not everything is taken that is there; what is gone the worker finds.
            present = {
                vault.index("instance", instance): source_digest(keys, name)
                for instance, name in self._digests(instances).items()
            }
            with self._shared.store.begin() as conn:
                ended = ledger.mark_changed(conn, project, present, self._shared.clock())
            if ended:
                log.info("other content stands in the place of queued sources", project=project, count=ended)
        except (OrthancError, SQLAlchemyError) as error:  # the task comes back to them
            log.warning("changed instances could not be looked at", error=type(error).__name__, count=len(instances))

    def _not_own(self, instances: Sequence[str], trusting: bool) -> list[str]:
        """Leave out our own research copies; one that was changed since is an input like any other."""
        with self._shared.store.read() as conn:
            own = expected.find(conn, list(instances))
        rest = []
        for instance in instances:
            if instance in own:
                # What this run has just stored needs no second look; it comes by once.
                if trusting or self._shared.stored_here.pop(instance, instance) is None:
                    continue
                try:
                    if push.holds(self._shared.orthanc, instance, own[instance].digest, self._shared.outbox.folder):
                        continue
                except NotFound:
                    continue
                except Failed as failure:
                    self._unreadable(failure)
                    continue
            rest.append(instance)
        return rest

    def _unreadable(self, failure: Failed) -> None:
        """Pass by an instance that Orthanc cannot read, so that the others do not wait for it: comparing everything
        comes back to it. Raises the failure where that is not what it says."""
        if failure.number not in UNREADABLE:
            raise failure
        if self._shared.troubles.note("sources", "unreadable"):
            log.error("instances that Orthanc cannot read are passed by", status=failure.status)

    def _routed(self, instances: Sequence[str]) -> Iterable[tuple[Stored, Series, tuple[str, ...]]]:
        """Yield instances with their projects, and referring instances that came before what they refer to."""
        found = changes.describe(self._shared.orthanc, instances).values()
        placeholders = [stored for stored in found if stored.series == changes.PLACEHOLDERS]
        if placeholders:
            self._take_titles(placeholders)
        for stored in found:
            if stored.series == changes.PLACEHOLDERS:
                continue
            try:
                routed = self._router.route(stored)
            except NotFound:
                continue
            except Failed as failure:
                self._unreadable(failure)
                continue
            yield stored, routed.series, routed.projects
            for project, others in routed.also.items():
                for other in others:
                    try:
                        ids = self._not_own(changes.instances_of_series(self._shared.orthanc, other), True)
                        for one in changes.describe(self._shared.orthanc, ids).values():
                            yield one, self._router.series(other), (project,)
                    except NotFound:
                        continue

    def _add(
        self,
        wanted: dict[str, dict[str, tuple[Stored, Series]]],
        cursor: int | None = None,
        job_id: str | None = None,
        push: bool = True,
        again: bool = False,
        priority: int = FRESH,
    ) -> int:
        """Write rows and cursor in one transaction, then see to it that tasks run."""
        digests = self._digests({instance for instances in wanted.values() for instance in instances})
        sources = {
            project: [
                self._source(project, stored, series, digests[instance])
                for instance, (stored, series) in instances.items()
                if instance in digests
            ]
            for project, instances in wanted.items()
        }
        linked = 0
        tasks: set[tuple[str, str]] = set()
        if cursor is not None or any(sources.values()):
            with self._shared.store.begin() as conn:
                if cursor is not None and self._shared.store.shared and not services.leads(conn, self._shared.owner):
                    return 0  # somebody else leads by now, and reads the same
                for project, new in sources.items():
                    if new:
                        linked += self._rows(conn, project, new, tasks, job_id, push, again, priority)
                if cursor is not None:
                    meta.set_cursor(conn, cursor)
        for project, series_index in tasks:
            self._shared.tasks.ask(SERIES, project, series_index, priority=priority)
        return linked

    def _rows(
        self,
        conn: Connection,
        project: str,
        new: list[NewSource],
        tasks: set[tuple[str, str]],
        job_id: str | None,
        push: bool,
        again: bool,
        priority: int,
    ) -> int:
        now = self._shared.clock()
        added = ledger.add_many(conn, project, new, now, job_id=job_id, push=push, again=again, priority=priority)
        tasks.update((project, row.series_index) for row in added if row.state == "queued")
        return len(added)

    def _digests(self, instances: Iterable[str]) -> dict[str, str]:
        """Return what names each instance's content (mostly its MD5); those that are gone are missing."""

        def ask(instance: str) -> tuple[str, str | None]:
            try:
                return instance, self._shared.orthanc.content_name(instance)
            except NotFound:
                return instance, None

        ids = list(instances)
        found = map(ask, ids) if len(ids) < 4 else self._readers.map(ask, ids)
        return {instance: name for instance, name in found if name is not None}

    def _source(self, project: str, stored: Stored, series: Series, content: str) -> NewSource:
        vault = self._shared.vaults[project]
        return NewSource(
            instance=vault.ref("instance", stored.instance),
            series=self._ref(project, "series", series.series),
            study=self._ref(project, "study", series.study_uid),
            digest=source_digest(self._shared.keys[project], content),
            version=stored.version,
        )

    def _ref(self, project: str, kind: Kind, value: str) -> Ref:
        """Seal the id of a series or study once for all of its instances."""
        key = (project, kind, value)
        if key not in self._refs:
            if len(self._refs) >= REFS_REMEMBERED:
                self._refs.clear()
            self._refs[key] = self._shared.vaults[project].ref(kind, value)
        return self._refs[key]

    def _study_known(self, project: str, study_uid: str) -> bool:
        index = self._shared.vaults[project].index("study", study_uid)
        with self._shared.store.read() as conn:
            return bool(studies.known(conn, project, [index]))

    # Everything

    def _reconcile_on(self) -> None:
        while not self._shared.stopping.is_set():
            self._reconcile.wait(RECONCILE_SECONDS)
            self._reconcile.clear()
            if self._shared.stopping.is_set():
                return
            if not self._shared.leads.is_set():
                self._reconcile.set()
                self._shared.stopping.wait(LEADER_SECONDS)
                continue
            thorough, self._thorough = self._thorough, False
            try:
                self._compare(thorough)
                self.last_reconciled = self._shared.clock()
                self._shared.troubles.clear("reconcile")
            except (OrthancError, SQLAlchemyError, OSError) as error:
                self._shared.troubles.note("reconcile", type(error).__name__)
                self._reconcile.set()
                self._thorough = thorough or self._thorough
                self._shared.stopping.wait(PATIENCE[1] / 3)
                continue
            self._shared.stopping.wait(GAP_PAUSE)

    def _compare(self, thorough: bool) -> None:
        """Take what the ledger does not know, and end rows whose source has gone."""
        new = 0
        self._shared.troubles.clear("sources")
        if self._router.wanted:
            for page in changes.all_instances(self._shared.orthanc):
                if self._shared.stopping.is_set():
                    return
                unknown = page if thorough else self._unknown(page)
                if unknown:
                    new += len(unknown)
                    self.take(unknown, trusting=True, priority=CATCH_UP)
        lost = sum(self._lost(project) for project in self._shared.config.projects)
        log.info("all instances were compared with the ledger", count=new, total=lost)

    def _unknown(self, instances: list[str]) -> list[str]:
        """Return those that some project has no row for as they are now stored.

        An id alone says little: its source may have been lost and come back, or hold other bytes. Both show by the file
        that Orthanc keeps it in, which one request tells for a whole page; bytes are compared where it is another one.
        """
        unknown: set[str] = set()
        files: dict[str, list[set[str | None]]] = {}
        with self._shared.store.read() as conn:
            for name, project in self._shared.config.projects.items():
                if project.match.empty:
                    continue
                by_index = {self._shared.vaults[name].index("instance", i): i for i in instances}
                known = ledger.known_sources(conn, name, list(by_index))
                for index, instance in by_index.items():
                    rows = [row for row in known.get(index, ()) if row.state not in ledger.GONE]
                    if rows:
                        files.setdefault(instance, []).append({row.version for row in rows})
                    else:
                        unknown.add(instance)
        rest = [instance for instance in instances if instance not in unknown]
        for instance, stored in changes.describe(self._shared.orthanc, rest).items():
            if any(stored.version not in versions for versions in files[instance]):
                unknown.add(instance)
        return [instance for instance in instances if instance in unknown]

    def _lost(self, project: str) -> int:
        """End the rows of a project whose source has gone before its outcome."""
        vault = self._shared.vaults[project]
        lost = after = 0
        while not self._shared.stopping.is_set():
            with self._shared.store.read() as conn:
                rows = ledger.unfinished(conn, project, after_id=after, limit=changes.PAGE)
            if not rows:
                break
            after = rows[-1].id
            ids = [vault.open("instance", row.instance_sealed) for row in rows]
            there = changes.describe(self._shared.orthanc, ids)
            gone = [vault.index("instance", instance) for instance in ids if instance not in there]
            if gone:
                with self._shared.store.begin() as conn:
                    lost += ledger.mark_lost(conn, project, gone, self._shared.clock())
        return lost
