"""Sees to it that the work stays within what the machine has to spare: Orthanc's time, room on the disk, memory.

One thread asks Orthanc something small twice a second and narrows workers and sends when that takes long, or when
instances arrive in a rush (pressure.py). It measures the outbox too: when it is full of what destinations have not
taken, or the disk is nearly full, nothing new is begun until there is room again. What is on its way goes on.
Once a minute it gives back what memory is free.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable

from orthanc_deid import logs
from orthanc_deid.orthanc.client import OrthancError
from orthanc_deid.pipeline.pressure import OTHERS_LAST, STAGES, Arrivals, Pressure, Share
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.store import deliveries
from orthanc_deid.tuning import trim

log = logs.get(__name__)

PROBE_SECONDS = 0.5
"""How often Orthanc is asked."""
PROBES = 3
"""Requests in a row, of which the quickest counts: what makes one slow here is mostly this process itself."""
STALL_SECONDS = 0.5
"""Nothing in this process takes so long: one request that does tells enough."""
SILENT_SECONDS = 10.0
"""What an Orthanc that does not answer counts as taking."""
LOOK_SECONDS, LOOK_SHARE = 2.0, 50
"""How often the outbox is measured, and how many times as long as that took passes before the next time."""
TRIM_SECONDS = 60.0
"""How often free memory is given back; a few milliseconds each time."""
RESUME = 0.9
"""Share of the limit below which a full outbox has room again."""


class Governor:
    """One thread."""

    def __init__(self, shared: Shared, apply: Callable[[Share], None], resumed: Callable[[], None]) -> None:
        """`apply` is told how much may be used from now on, `resumed` that there is room again."""
        self._shared = shared
        self._apply = apply
        self._resumed = resumed
        self._look_at = self._trim_at = 0.0
        self._thread = threading.Thread(target=self._run, name="governor", daemon=True)
        self._lock = threading.Lock()
        self._arrivals = Arrivals(len(os.sched_getaffinity(0)))
        self.pressure = Pressure(shared.config.latency_budget)
        self.stage = 0
        """How far work gives way now, as in pressure.STAGES."""
        self.outbox_bytes = 0

    def start(self) -> None:
        """Start the thread, after a first look."""
        self.look()
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Stop; `shared.stopping` is set by now."""
        self._thread.join(timeout)

    def stir(self) -> None:
        """Something was stored in Orthanc: what is not fresh holds its breath until `arrived` tells how many came."""
        if not self._shared.stored_here:  # else it may be a copy of our own
            with self._lock:
                self._arrivals.stir(time.monotonic())
            self.settle()

    def arrived(self, number: int) -> None:
        """So many instances, not our own, came in since the last time; 0: none."""
        with self._lock:
            self._arrivals.tell(number, time.monotonic())
        if number:
            self.settle()

    def settle(self) -> None:
        """Let as much be used as latency and arrivals allow now."""
        if not self._shared.config.latency_budget:
            return
        with self._lock:
            rush = self._arrivals.rush(time.monotonic())
            stage = max(self.pressure.stage, OTHERS_LAST if rush else 0)
            if rush:
                self._shared.rush.set()
            else:
                self._shared.rush.clear()
            if stage != self.stage:
                self.stage = stage
                self._apply(STAGES[stage])

    def _run(self) -> None:
        while not self._shared.stopping.wait(PROBE_SECONDS):
            try:
                if self._shared.config.latency_budget:
                    self.pressure.tell(self.probe(), time.monotonic())
                    self.settle()
                if time.monotonic() >= self._look_at:
                    began = time.monotonic()
                    self.look()
                    now = time.monotonic()
                    self._look_at = now + max(LOOK_SECONDS, LOOK_SHARE * (now - began))
                if time.monotonic() >= self._trim_at:
                    trim()
                    self._trim_at = time.monotonic() + TRIM_SECONDS
            except Exception as error:  # what cannot be measured changes nothing
                if self._shared.troubles.note("governor", type(error).__name__):
                    log.error("the governor failed", error=type(error).__name__, exc_info=True)
            else:
                self._shared.troubles.clear("governor")

    def probe(self) -> float:
        """Return the seconds that something small takes at Orthanc."""
        times = []
        for _ in range(PROBES):
            began = time.monotonic()
            try:
                self._shared.orthanc.get_json("/system")
            except OrthancError:
                return SILENT_SECONDS
            times.append(time.monotonic() - began)
            if times[-1] > STALL_SECONDS:
                return times[-1]
        return min(times)

    def look(self) -> None:
        """Measure the outbox and its disk, and begin nothing more, or again."""
        config, folder = self._shared.config, self._shared.outbox.folder
        self.outbox_bytes = measure(folder)
        before = self._shared.paused
        limit = config.outbox_limit * (RESUME if before == "outbox" else 1.0)
        if shutil.disk_usage(folder).free < config.free_disk:
            reason = "disk"
        elif self.outbox_bytes > limit and self._drains():
            reason = "outbox"
        else:
            reason = ""
        self._shared.paused = reason
        for kind in ("outbox", "disk"):
            part = f"room-{kind}"
            if reason == kind:
                if self._shared.troubles.note(part, "full"):
                    log.warning("no more is de-identified until there is room", reason=kind)
            elif self._shared.troubles.clear(part):
                log.info("there is room again", reason=kind)
        if before and not reason:
            self._resumed()

    def _drains(self) -> bool:
        """Whether destinations will make room. Where outputs wait for the rest of their studies only, going on does.

        A destination that is down counts: it takes them some day. What waits to be made again does not: its row is
        worked on only once this goes on.
        """
        if self._shared.sending:
            return True
        with self._shared.store.read() as conn:
            return deliveries.next_due(conn, self._shared.clock(), self._shared.here) is not None


def measure(folder: os.PathLike[str]) -> int:
    """Return the bytes of the files in the shelves of an outbox."""
    total = 0
    for shelf in os.scandir(folder):
        if not shelf.is_dir(follow_symlinks=False):
            continue
        for file in os.scandir(shelf):
            try:
                total += file.stat(follow_symlinks=False).st_size
            except FileNotFoundError:  # taken meanwhile
                continue
    return total
