"""When and how fast something may be sent: windows of the day, and rates. Pure: the time is handed in.

A window is told in the server's local time and judged by what a clock on its wall shows, so it follows summer time by
itself: an hour that does not exist is not waited for, one that comes twice counts twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any

from orthanc_deid.store.rows import ANY_PRIORITY, BACKFILL

_SPAN = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)")
_MINUTE, _DAY = 60, 24 * 60
_LONGEST = 3 * _DAY
"""Minutes that an opening is looked for: a window that summer time skips opens on the day after."""
NOTHING = -1
"""Worse than no priority: nothing may go."""


@dataclass(frozen=True)
class Windows:
    """Times of the day, in minutes since midnight: from the first to before the second; none: always."""

    spans: tuple[tuple[int, int], ...] = ()
    zone: tzinfo | None = None
    """The server's own where none is given."""

    @classmethod
    def parse(cls, texts: Iterable[str], zone: tzinfo | None = None) -> Windows:
        """Read texts such as 22:00-06:00. Raises ValueError."""
        spans = []
        for text in texts:
            found = _SPAN.fullmatch(text)
            if found is None:
                raise ValueError(f"not a window of the day such as 22:00-06:00: {text!r}")
            begin = int(found[1]) * 60 + int(found[2])
            end = _DAY if found[3] is None else int(found[3]) * 60 + int(found[4])
            if begin == end:
                raise ValueError(f"a window that begins when it ends: {text!r}")
            spans.append((begin, end))
        return cls(tuple(spans), zone)

    def open(self, now: float) -> bool:
        """Whether it is open at a time of the UTC epoch."""
        if not self.spans:
            return True
        local = datetime.fromtimestamp(now, self.zone)
        minute = local.hour * 60 + local.minute
        return any(
            begin <= minute < end if begin < end else minute >= begin or minute < end for begin, end in self.spans
        )

    def opens_in(self, now: float) -> float:
        """Return the seconds until it is open; 0 while it is."""
        if self.open(now):
            return 0.0
        minute = now - now % _MINUTE
        for _ in range(_LONGEST):
            minute += _MINUTE
            if self.open(minute):
                break
        return minute - now

    def show(self) -> list[str]:
        """Return the texts."""
        return [f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}" for begin, end in self.spans]


ALWAYS = Windows()


@dataclass(frozen=True)
class Limits:
    """What a project's destination is configured for."""

    windows: Windows = field(default_factory=Windows)
    backfill_only: bool = False
    """The windows bind the back-fill alone."""
    instances_per_second: float | None = None
    bytes_per_second: float | None = None

    def worst(self, now: float) -> int:
        """Return the worst priority that may go now; NOTHING for none at all."""
        if self.windows.open(now):
            return ANY_PRIORITY
        return BACKFILL - 1 if self.backfill_only else NOTHING

    def public(self) -> dict[str, Any]:
        """Return the settings as they are shown; those that are not set are left out."""
        shown: dict[str, Any] = {}
        if self.instances_per_second or self.bytes_per_second:
            rate = {"InstancesPerSecond": self.instances_per_second}
            rate["MegabytesPerSecond"] = self.bytes_per_second and self.bytes_per_second / 1e6
            shown["Rate"] = {name: value for name, value in rate.items() if value}
        if self.windows.spans:
            shown |= {"Window": self.windows.show(), "BackfillOnly": self.backfill_only}
        return shown


class Pace:
    """Spreads what is sent over time: after each instance a pause for its share. Not for several threads at once.

    Over any stretch of time no more goes than the rates allow, and one instance.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._free = 0.0

    def reserve(self, now: float, size: int) -> float:
        """Take a turn for an instance of so many bytes; returns the seconds that it has to wait for it."""
        cost = max(
            1 / self._limits.instances_per_second if self._limits.instances_per_second else 0.0,
            size / self._limits.bytes_per_second if self._limits.bytes_per_second else 0.0,
        )
        if not cost:
            return 0.0
        begin = max(now, self._free)
        self._free = begin + cost
        return begin - now

    @property
    def limited(self) -> bool:
        """Whether there is any rate to keep."""
        return bool(self._limits.instances_per_second or self._limits.bytes_per_second)


NO_LIMITS = Limits()


class Gates:
    """The limits of all projects' destinations, with what was sent by them so far."""

    def __init__(self, limits: Mapping[tuple[str, str], Limits]) -> None:
        """`limits` by project and destination."""
        self._limits = dict(limits)
        self.paces = {key: Pace(one) for key, one in self._limits.items()}

    def worst(self, project: str, destination: str, now: float) -> int:
        """Return the worst priority that a project may send to a destination now."""
        return self._limits.get((project, destination), NO_LIMITS).worst(now)

    def waiting(self, now: float) -> dict[str, float]:
        """Return the destinations that wait for a window, for some project, and when the next one opens."""
        found: dict[str, float] = {}
        for (_, destination), one in self._limits.items():
            if not one.windows.open(now):
                opens = now + one.windows.opens_in(now)
                found[destination] = min(opens, found.get(destination, opens))
        return found

    def shut(self, now: float) -> list[str]:
        """Return the destinations that nobody may send anything to now."""
        best: dict[str, int] = {}
        for (_, destination), one in self._limits.items():
            best[destination] = max(one.worst(now), best.get(destination, NOTHING))
        return [destination for destination, worst in best.items() if worst == NOTHING]
