"""How far work gives way to Orthanc: judged by how long a small request takes, beside how long it takes on an idle one.

In stages, one at a time: first what is not fresh, down to an instance a second, and only when requests take several
times longer still what has just arrived. Nothing ever stops altogether. Pure: times are handed in.
"""

from __future__ import annotations

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
_OTHERS_LAST = 3
"""The last stage in which only what is not fresh gives way."""


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
        last = _OTHERS_LAST if over <= FAR else len(STAGES) - 1
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
