"""The task of a series: hands its queued instances to the workers until none is left.

The first instance goes alone and at once, so that it does not wait for the others; then as many are on their way as
keep every worker busy, in chunks. What a worker says is written down by the recorder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from itertools import groupby

from orthanc_deid import logs
from orthanc_deid.limits import NOTHING
from orthanc_deid.pipeline.messages import Chunk, Done, Item
from orthanc_deid.pipeline.pool import Pool, Work
from orthanc_deid.pipeline.recorder import Recorder
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.tasks import Running
from orthanc_deid.store import ledger
from orthanc_deid.store.rows import ANY_PRIORITY, FRESH

log = logs.get(__name__)

CHUNK = 6
"""Instances handed to a worker at a time."""
ON_THEIR_WAY = 60
"""Instances of one series that are claimed and not yet written down: enough that no worker waits for a commit, and few
enough that another series' first instance does not wait long. Of what is fresh as many again may be, so that it does
not wait for what is not."""
MAX_ATTEMPTS = 12
"""An instance that was begun this often without an outcome ends as `crashed`: it may take the service down with it."""
MAX_CRASHES = 2
"""Worker processes that may die over one instance."""
MAX_UNREADABLE = 3
"""How often Orthanc has to fail over a source's file before it counts as damaged."""
PATIENCE = (0.5, 60.0)
"""First and longest wait while Orthanc or the disk cannot."""


class SeriesTasks:
    """The body of the tasks of kind `series`."""

    def __init__(
        self, shared: Shared, pool: Pool, recorder: Recorder, look_again: Callable[[str, list[str]], None]
    ) -> None:
        self._shared = shared
        self._pool = pool
        self._recorder = recorder
        self._look_again = look_again
        self._crashes: dict[int, int] = {}
        self._unreadable: dict[int, tuple[int, int]] = {}  # row: how often, and how many others had been read at first
        self._read = 0

    def run(self, running: Running) -> None:
        """Do what is queued for one series of one project."""
        project, series_index = running.key
        if project not in self._shared.config.projects:
            log.warning("instances wait for a project that is not configured any more", project=project)
            return
        series = _Series(project, series_index, self._pool.size)
        running.wake = lambda: series.look(running.priority == FRESH)
        patience = PATIENCE[0]
        while running.again():
            series.look()
            while not running.stopping:
                self._hand_over(series, running)
                with series.changed:
                    series.changed.wait_for(lambda: series.stirs or running.stopping, 1.0)
                    if series.on_their_way or not (series.empty or series.pauses):
                        continue
                    changed, series.changed_sources = series.changed_sources, []
                    waits, series.waits = series.waits, False
                if changed:
                    self._look_again(project, changed)
                if not waits and not changed:
                    break
                # What could not be done is queued again; asking the same server at once would only spin.
                self._shared.stopping.wait(patience)
                patience = min(patience * 2, PATIENCE[1])
                series.look()
            patience = PATIENCE[0]

    def _hand_over(self, series: _Series, running: Running) -> None:
        """Claim and submit until enough are on their way."""
        enough = min(CHUNK, self._pool.size)
        while not self._shared.stopping.is_set():
            allowed = self._shared.worst(series.project)
            with series.changed:
                asked = series.ask(enough if series.begun else 1)
                if asked is None:
                    return
                if allowed == NOTHING:  # the keeper asks again when there is room
                    series.answered([], *asked)
                    return
            room, worst = asked[0], min(asked[1], allowed)
            if not self._shared.held():
                return  # the keeper asks again when this service counts as alive
            now = self._shared.clock()
            with self._shared.store.begin(together=True) as conn:
                works = ledger.claim(conn, series.project, series.index, room, self._shared.owner, now, worst=worst)
            self._shared.in_hand.update(work.id for work in works)
            with series.changed:
                series.answered([work.priority for work in works], *asked)
            if works:
                running.priority = works[0].priority
            vault = self._shared.vaults[series.project]
            for priority, group in groupby(works, lambda work: work.priority):
                items = []
                for work in group:
                    item = Item(work.id, vault.open("instance", work.instance_sealed), work.digest, work.spool)
                    if work.attempt > MAX_ATTEMPTS:
                        self._finish(series, Done(item.row, "quarantined", "crashed"), item, priority)
                    else:
                        items.append(item)
                size = max(1, min(CHUNK, -(-len(items) // self._pool.size)))
                for start in range(0, len(items), size):
                    self._submit(series, tuple(items[start : start + size]), priority)

    def _submit(self, series: _Series, items: tuple[Item, ...], priority: int) -> None:
        known = {item.row: item for item in items}
        self._pool.submit(
            Work(
                Chunk(series.project, items),
                lambda done: self._finish(series, done, known[done.row], priority),
                lambda item: self._crashed(series, item, priority),
                priority,
            )
        )

    def _crashed(self, series: _Series, item: Item, priority: int) -> None:
        crashes = self._crashes[item.row] = self._crashes.get(item.row, 0) + 1
        if crashes < MAX_CRASHES:
            self._submit(series, (item,), priority)
        else:
            self._finish(series, Done(item.row, "quarantined", "crashed"), item, priority)

    def _finish(self, series: _Series, done: Done, item: Item, priority: int) -> None:
        self._crashes.pop(done.row, None)
        if done.state == "unreadable":
            done = self._weigh(done)
        else:
            self._unreadable.pop(done.row, None)
            self._read += item.spool is None and done.state in ("ready", "quarantined", "rejected")
        if done.state == "wait":
            if self._shared.troubles.note(f"worker-{done.reason}", done.reason or ""):
                log.warning("workers wait", reason=done.reason, project=series.project)
            series.waits = True
        elif done.state == "changed":
            series.changed_sources.append(item.instance)
        else:
            self._shared.troubles.clear("worker-orthanc")
            self._shared.troubles.clear("worker-disk")
        self._recorder.outcome(series.project, done, partial(series.landed, priority))

    def _weigh(self, done: Done) -> Done:
        """Tell a damaged source, which is parked, from an Orthanc whose storage is away, which is waited for."""
        times, read = self._unreadable.get(done.row, (0, self._read))
        alone = bool(done.findings and done.findings["alone"])
        if times + 1 >= MAX_UNREADABLE and (alone or self._read > read):
            self._unreadable.pop(done.row, None)
            return Done(done.row, "quarantined", done.reason)
        self._unreadable[done.row] = (times + 1, read)
        return Done(done.row, "wait", "orthanc")


class _Series:
    """One series at work: how many of its instances are on their way."""

    def __init__(self, project: str, index: str, workers: int) -> None:
        self.project = project
        self.index = index
        self.changed = threading.Condition()
        self.on_their_way = 0
        self.unhurried = 0  # of those: that are not fresh
        self.urgent = True
        self.begun = False
        self.empty = False
        self.waits = False
        self.changed_sources: list[str] = []
        self._most = max(ON_THEIR_WAY, CHUNK * (workers + 1))

    @property
    def _room(self) -> int:
        """How many more may be claimed: one at the very first, then enough for a chunk and the next for each worker."""
        return (self._most if self.begun else 1) - self.on_their_way

    @property
    def stirs(self) -> bool:
        """Whether there is something to do for the task: the end, or room for a chunk."""
        return self.on_their_way == 0 or self._wants(CHUNK) is not None

    @property
    def pauses(self) -> bool:
        """Whether something is queued again that the same servers would answer alike at once."""
        return self.waits or bool(self.changed_sources)

    def _wants(self, enough: int) -> tuple[int, int] | None:
        if self.pauses:
            return None
        if not self.empty and self._room >= enough:
            return self._room, ANY_PRIORITY
        if self.urgent and self._room + self.unhurried >= enough:
            return self._room + self.unhurried, FRESH
        return None

    def ask(self, enough: int) -> tuple[int, int] | None:
        """Return how many to claim now, and of which priority at worst; None for nothing. `answered` has to follow."""
        wanted = self._wants(enough)
        if wanted is not None:
            # Unless the claim finds as much as it asks for, or somebody asks for more meanwhile.
            self.urgent = False
            self.empty = self.empty or wanted[1] == ANY_PRIORITY
        return wanted

    def answered(self, priorities: list[int], room: int, worst: int) -> None:
        """Take what a claim has found."""
        self.on_their_way += len(priorities)
        self.unhurried += sum(priority > FRESH for priority in priorities)
        self.begun = self.begun or bool(priorities)
        if len(priorities) == room:
            self.urgent = True
            self.empty = self.empty and worst != ANY_PRIORITY

    def look(self, urgent: bool = True) -> None:
        """Look into the ledger for more: somebody asked."""
        with self.changed:
            self.empty = False
            self.urgent = self.urgent or urgent
            self.changed.notify_all()

    def landed(self, priority: int) -> None:
        """Note that the outcome of one instance is written down."""
        with self.changed:
            self.on_their_way -= 1
            self.unhurried -= priority > FRESH
            if self.stirs:
                self.changed.notify_all()
