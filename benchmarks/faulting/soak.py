"""A soak: instances of ever new patients for as long as is asked, memory sampled all the time."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

from benchmarks.faulting.many import Watch
from benchmarks.faulting.measure import MB, Sweep, states
from tests import builders, flow
from tests.objects.base import Origin, person
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

SLICES = 25
SENDERS = 2
AHEAD = 400
"""So many may wait: what is measured is the pipeline at work, not its backlog."""
MOST_GROWTH = 15 * MB
"""Of the service and of each worker, from a tenth of the time to the end."""
SWEPT = 200
"""Patients that are looked for everywhere afterwards."""


class Stream:
    """Instances without end: each patient has a study of four series."""

    def __init__(self, clinical: Orthanc, most: int, seconds: float) -> None:
        self._clinical = clinical
        self._most = most
        self._until = time.monotonic() + seconds
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.sent = 0
        self.done = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def origin(number: int) -> Origin:
        """Where instance `number` stands."""
        series, slice_ = divmod(number, SLICES)
        return Origin(person(2000 + series // 4), 1, 1 + series % 4, 1 + slice_)

    def _run(self) -> None:
        while True:
            with self._lock:
                if self.sent >= self._most or time.monotonic() > self._until:
                    return
                number = next(self._numbers) if self.sent - self.done < AHEAD else None
                self.sent += number is not None
            if number is None:
                time.sleep(0.05)
                continue
            self._clinical.store(builders.to_bytes(builders.ct(self.origin(number), rows=64, columns=64)))

    @property
    def ended(self) -> bool:
        """Whether all was sent."""
        return not any(thread.is_alive() for thread in self._threads)


def run(folder: Path, instances: int, minutes: float) -> bool:
    """Feed, look, count; whether each had its outcome and memory stayed flat."""
    quick = {"SyncStorageArea": False}
    with (
        research_orthanc(folder / "research", **quick) as peer,
        clinical_orthanc(folder / "clinical", {"research": peer}, deid_section(Workers=2), **quick) as clinical,
    ):
        watch = Watch(clinical)
        began = told = time.monotonic()
        stream = Stream(clinical, instances, minutes * 60)

        def over() -> bool:
            nonlocal told
            now = states(clinical)
            stream.done = sum(now.get(state, 0) for state in flow.TERMINAL)
            if time.monotonic() - told > 60:
                told = time.monotonic()
                print(f"  {told - began:.0f} s: {now}, service {watch.memory[-1][1] / MB:.0f} MB", flush=True)
            return stream.ended and stream.done == stream.sent

        until(over, minutes * 60 + 900, "the end", 1.0)
        seconds = time.monotonic() - began
        watch.stop()
        final = states(clinical)
        restarts = clinical.wait_ready()["Service"]["Workers"]["Restarts"]
        at_peer = len(peer.instances())
        patients = range(0, stream.sent, max(1, stream.sent // SWEPT))
        found = Sweep([Stream.origin(number) for number in patients]).over(clinical, peer)
    watch.show("soak")
    rate = f"{stream.sent / seconds:.0f}/s"
    print(f"soak: {stream.sent} instances in {seconds / 60:.0f} minutes, {rate}; {final}, worker restarts {restarts}")
    print(f"soak: at the peer {at_peer}, leaked {len(found)}, slowest answer {watch.slowest:.1f} s", flush=True)
    return (
        final == {"confirmed": stream.sent} and at_peer == stream.sent and not found and watch.growth() <= MOST_GROWTH
    )
