"""The time that is written down and waited for.

It tells the time of day, but runs evenly: when somebody sets the machine's clock, the keeper moves what waits along
with it (store.waits) before it shows here, so that a wait is neither cut short nor lasts a day.
"""

from __future__ import annotations

import time
from collections.abc import Callable

JUMP_SECONDS = 2.0
"""The machine's clock was set when it is so far from where it would have come to by itself."""


class Clock:
    """Seconds since 1970, for one service."""

    def __init__(self, wall: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._steady = wall, steady
        self._ahead = wall() - steady()

    def __call__(self) -> float:
        """Return the time now."""
        return self._ahead + self._steady()

    def jump(self) -> float:
        """Return by how many seconds the machine's clock was set and this one was not yet; 0 where it was not set."""
        by = self._wall() - self()
        return by if abs(by) >= JUMP_SECONDS else 0.0

    def follow(self, by: float) -> None:
        """Take over what `jump` told."""
        self._ahead += by
