"""Threads that send: what is urgent first, and only so many at a time as there is room for just now."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from typing import Any

from orthanc_deid.store.rows import FRESH


class Lanes:
    """A pool of threads over a queue by priority, which can be narrowed while it works."""

    def __init__(self, size: int, name: str) -> None:
        self._size = self._width = self._unhurried_width = size
        self._name = name
        self._changed = threading.Condition()
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = self._busy = self._unhurried = 0
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
        """Let only a share of the threads work at a time, and of those at what is not fresh; at least one each."""
        with self._changed:
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
                self._changed.wait_for(lambda: self._stopping or self._may())
                if self._stopping:
                    return
                priority, _, work, arguments = heapq.heappop(self._queue)
                self._busy += 1
                self._unhurried += priority > FRESH
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
        return self._queue[0][0] <= FRESH or self._unhurried < self._unhurried_width
