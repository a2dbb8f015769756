"""Threads that send: what is urgent first, and only so many at a time as there is room for just now."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable
from typing import Any

from orthanc_deid.store.rows import FRESH

TRICKLE_SECONDS = 1.0
"""Between two sends of what is not fresh while that gives way as far as it can."""


class Lanes:
    """A pool of threads over a queue by priority, which can be narrowed while it works."""

    def __init__(self, size: int, name: str) -> None:
        self._size = self._width = self._unhurried_width = size
        self._name = name
        self._changed = threading.Condition()
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = self._busy = self._unhurried = 0
        self._trickles, self._trickle_at = False, 0.0
        self._stopping = False
        self._threads: list[threading.Thread] = []

    def submit(self, priority: int, work: Callable[..., None], *arguments: Any) -> None:
        """Have work done, after what is more urgent. Raises RuntimeError once it is stopped."""
        with self._changed:
            if self._stopping:
                raise RuntimeError("stopped")
            self._number += 1
            heapq.heappush(self._queue, (priority, self._number, work, arguments))
            if len(self._threads) < min(self._size, len(self._queue) + self._busy):
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()

    def narrow(self, share: float, unhurried: float) -> None:
        """Let only a share of the threads work at a time, and of those at what is not fresh; at least one each, but
        with a share of none what is not fresh is sent once in a while only."""
        with self._changed:
            self._trickles = not unhurried
            self._width = max(1, round(share * self._size))
            self._unhurried_width = max(1, round(unhurried * self._size))
            self._changed.notify_all()

    def shutdown(self) -> None:
        """Begin nothing more."""
        with self._changed:
            self._stopping = True
            self._queue.clear()
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._stopping or self._may()):
                    # A trickle has its time; else somebody notifies.
                    self._changed.wait(TRICKLE_SECONDS / 4 if self._trickles and self._queue else None)
                if self._stopping:
                    return
                priority, _, work, arguments = heapq.heappop(self._queue)
                self._busy += 1
                self._unhurried += priority > FRESH
                if self._trickles and priority > FRESH:
                    self._trickle_at = time.monotonic() + TRICKLE_SECONDS
            try:
                work(*arguments)
            finally:
                with self._changed:
                    self._busy -= 1
                    self._unhurried -= priority > FRESH
                    self._changed.notify_all()

    def _may(self) -> bool:
        """Whether the most urgent of what waits may begin."""
        if not self._queue or self._busy >= self._width:
            return False
        if self._queue[0][0] <= FRESH:
            return True
        return self._unhurried < self._unhurried_width and not (self._trickles and time.monotonic() < self._trickle_at)
