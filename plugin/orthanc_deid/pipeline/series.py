"""The task of a series: hands its queued instances to the workers until none is left.

The first instance goes alone and at once, so that it does not wait for the others; then as many are on their way as
keep every worker busy, in chunks. What a worker says is written down by the recorder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from orthanc_deid import logs
from orthanc_deid.pipeline.pool import Pool, Work
from orthanc_deid.pipeline.recorder import Recorder
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.tasks import Running
from orthanc_deid.pipeline.worker import Chunk, Done, Item
from orthanc_deid.store import ledger

log = logs.get(__name__)

CHUNK = 6
"""Instances handed to a worker at a time."""
ON_THEIR_WAY = 60
"""Instances of one series that are claimed and not yet written down: enough that no worker waits for a commit, and few
enough that another series' first instance does not wait long."""
MAX_ATTEMPTS = 12
"""An instance that was begun this often without an outcome ends as `crashed`: it may take the service down with it."""
MAX_CRASHES = 2
"""Worker processes that may die over one instance."""
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

    def run(self, running: Running) -> None:
        """Do what is queued for one series of one project."""
        project, series_index = running.key
        if project not in self._shared.config.projects:
            log.warning("instances wait for a project that is not configured any more", project=project)
            return
        series = _Series(project, series_index, self._pool.size)
        running.wake = series.look
        patience = PATIENCE[0]
        while running.again():
            series.look()
            while not running.stopping:
                self._hand_over(series)
                with series.changed:
                    series.changed.wait_for(lambda: series.stirs or running.stopping, 1.0)
                    if series.on_their_way or not series.empty:
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

    def _hand_over(self, series: _Series) -> None:
        """Claim and submit until enough are on their way."""
        while not self._shared.stopping.is_set():
            with series.changed:
                room = series.room
                if series.empty or room < (min(CHUNK, self._pool.size) if series.begun else 1):
                    return
                series.empty = (
                    True  # unless the claim finds as much as it asks for, or somebody asks for more meanwhile
                )
            with self._shared.store.begin() as conn:
                works = ledger.claim(conn, series.project, series.index, room, self._shared.owner, self._shared.clock())
            with series.changed:
                series.empty = series.empty and len(works) < room
                series.begun = series.begun or bool(works)
                series.on_their_way += len(works)
            vault = self._shared.vaults[series.project]
            items = [Item(work.id, vault.open("instance", work.instance_sealed), work.digest) for work in works]
            tired = {work.id for work in works if work.attempt > MAX_ATTEMPTS}
            for item in items:
                if item.row in tired:
                    self._finish(series, Done(item.row, "quarantined", "crashed"), item)
            items = [item for item in items if item.row not in tired]
            size = max(1, min(CHUNK, -(-len(items) // self._pool.size)))
            for start in range(0, len(items), size):
                self._submit(series, tuple(items[start : start + size]))

    def _submit(self, series: _Series, items: tuple[Item, ...]) -> None:
        known = {item.row: item for item in items}
        self._pool.submit(
            Work(
                Chunk(series.project, items),
                lambda done: self._finish(series, done, known[done.row]),
                lambda item: self._crashed(series, item),
            )
        )

    def _crashed(self, series: _Series, item: Item) -> None:
        crashes = self._crashes[item.row] = self._crashes.get(item.row, 0) + 1
        if crashes < MAX_CRASHES:
            self._submit(series, (item,))
        else:
            self._finish(series, Done(item.row, "quarantined", "crashed"), item)

    def _finish(self, series: _Series, done: Done, item: Item) -> None:
        self._crashes.pop(done.row, None)
        if done.state == "wait":
            if self._shared.troubles.note(f"worker-{done.reason}", done.reason or ""):
                log.warning("workers wait", reason=done.reason, project=series.project)
            series.waits = True
        elif done.state == "changed":
            series.changed_sources.append(item.instance)
        else:
            self._shared.troubles.clear("worker-orthanc")
            self._shared.troubles.clear("worker-disk")
        self._recorder.outcome(series.project, done, series.landed)


class _Series:
    """One series at work: how many of its instances are on their way."""

    def __init__(self, project: str, index: str, workers: int) -> None:
        self.project = project
        self.index = index
        self.changed = threading.Condition()
        self.on_their_way = 0
        self.begun = False
        self.empty = False
        self.waits = False
        self.changed_sources: list[str] = []
        self._most = max(ON_THEIR_WAY, CHUNK * (workers + 1))

    @property
    def room(self) -> int:
        """How many more may be claimed: one at the very first, then enough for a chunk and the next for each worker."""
        return (self._most if self.begun else 1) - self.on_their_way

    @property
    def stirs(self) -> bool:
        """Whether there is something to do for the task: the end, or room for a chunk."""
        return self.on_their_way == 0 or (not self.empty and self.room >= CHUNK)

    def look(self) -> None:
        """Look into the ledger for more: somebody asked."""
        with self.changed:
            self.empty = False
            self.changed.notify_all()

    def landed(self) -> None:
        """Note that the outcome of one instance is written down."""
        with self.changed:
            self.on_their_way -= 1
            if self.stirs:
                self.changed.notify_all()
