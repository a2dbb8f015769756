"""How far work gives way to Orthanc: judged by how long a small request takes, beside how long it takes on an idle one,
and by whether instances arrive in a rush.

In stages, one at a time: first what is not fresh, down to an instance a second, and only when requests take several
times longer still what has just arrived. A rush, which may be over before latency tells, stops what is not fresh at
once. Nothing ever stops altogether. Pure: times are handed in.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

FAR = 5.0
"""So many times beyond the budget, fresh work gives way too."""
CALM_SECONDS = 3.0
"""How long requests have to be quick again before the next stage back."""
FLOOR = 0.001
"""An idle Orthanc that answers faster than this counts as answering in this time: below it noise is measured."""
DRIFT = 0.01 / 60
"""By how much a second the idle time grows until a request is as quick again: a slower disk is learnt in the end."""


@dataclass(frozen=True, slots=True)
class Share:
    """How much of what there is may be used at a time: shares of workers and of sends; 0: one, now and then."""

    fresh: float
    other: float


STAGES = (
    Share(1, 1),
    Share(1, 0.5),
    Share(1, 0.01),
    Share(1, 0),
    Share(0.5, 0),
    Share(0.01, 0),
    Share(0, 0),
)
OTHERS_LAST = 3
"""The last stage in which only what is not fresh gives way."""
RUSH = 2.5
"""So many arrivals within RUSH_SECONDS, for each processor, are a rush. A sender that is slower waits for itself, not
for Orthanc, and a larger machine has more to spare."""
RUSH_SECONDS = 1.0
"""And as long after the last of them it is over."""
BREATH_SECONDS = 0.4
"""Until it is known how many follow a first arrival, it is taken for a rush for so long: the log is read meanwhile."""
IN_VAIN_SECONDS = 5.0
"""Unless that turned out to be wrong less than this ago: who sends one now and then stops little."""


class Pressure:
    """Learns the idle time and finds the stage."""

    def __init__(self, budget: float) -> None:
        """`budget` times the idle time is allowed; 0: everything is."""
        self._budget = budget
        self._at = 0.0
        self._calm_since: float | None = None
        self.idle: float | None = None
        self.latency = 0.0
        self.stage = 0

    @property
    def share(self) -> Share:
        """What may be used now."""
        return STAGES[self.stage]

    def tell(self, seconds: float, now: float) -> int:
        """Take how long a request took, at a time; returns the stage from now on."""
        self.latency = seconds
        grown = self.idle * (1 + DRIFT * max(0.0, now - self._at)) if self.idle is not None else seconds
        self.idle, self._at = min(grown, seconds), now
        if not self._budget:
            return 0
        over = seconds / (self._budget * max(self.idle, FLOOR))
        last = OTHERS_LAST if over <= FAR else len(STAGES) - 1
        if over > 1 and self.stage < last:
            self.stage += 1
            self._calm_since = None
        elif over <= 1 or self.stage > last:
            self._calm_since = now if self._calm_since is None else self._calm_since
            if now - self._calm_since >= CALM_SECONDS and self.stage:
                self.stage -= 1
                self._calm_since = now
        else:
            self._calm_since = None
        return self.stage


class Arrivals:
    """Tells a rush of arrivals from single ones."""

    def __init__(self, processors: int) -> None:
        """`processors`: how many Orthanc and this service share."""
        self.enough = max(2, round(RUSH * processors))
        """How many arrivals within RUSH_SECONDS are a rush."""
        self._seen: deque[tuple[float, int]] = deque()
        self._until = self._breath = float("-inf")

    def stir(self, now: float) -> None:
        """Something was stored; how many came is not known yet."""
        if not self.rush(now) and now - self._breath >= BREATH_SECONDS + IN_VAIN_SECONDS:
            self._breath = now

    def tell(self, number: int, now: float) -> None:
        """Take how many have come since the last time."""
        while self._seen and now - self._seen[0][0] >= RUSH_SECONDS:
            self._seen.popleft()
        if number:
            self._seen.append((now, number))
        if number and sum(number for _, number in self._seen) >= self.enough:
            self._until = now + RUSH_SECONDS
            self._breath = float("-inf")  # it was not in vain

    def rush(self, now: float) -> bool:
        """Whether they come in a rush."""
        return now < self._until or 0 <= now - self._breath < BREATH_SECONDS
