"""How fast a job goes: the time that it ran, instances per second of the last minutes, and when it will have ended.

The time of a job is kept in its row, without the time that it was paused or the service was down; its rate is taken
from what the last minutes brought, since the last start or resume.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

WINDOW = 300.0
"""Seconds over which the rate is taken."""
LEAST = 2.0
"""A rate over a shorter time says nothing."""
NOTED = 5.0
"""Seconds between two notes of the rate in the job's row."""

Pace = dict[str, Any]
"""`Ran`: seconds until the last start; `Since`: that start, none while the job rests; `Seen`: the last sign of life;
`Rate`: instances per second at that time."""


def begin(now: float) -> Pace:
    """Return the pace of a job that starts."""
    return {"Ran": 0.0, "Since": now, "Seen": now, "Rate": None}


def rest(pace: Mapping[str, Any], now: float) -> Pace:
    """Stop the clock: the job is paused, or has ended."""
    return {"Ran": runtime(pace, now), "Since": None, "Seen": now, "Rate": None}


def go_on(pace: Mapping[str, Any], now: float) -> Pace:
    """Start the clock again; what passed since the last sign of life does not count."""
    ran = float(pace["Ran"])
    if pace["Since"] is not None:
        ran += max(0.0, pace["Seen"] - pace["Since"])
    return {"Ran": ran, "Since": now, "Seen": now, "Rate": None}


def due(pace: Mapping[str, Any], now: float, rate: float | None) -> bool:
    """Whether a sign of life is to be noted: every few seconds, and at once when the first rate is known."""
    return now - float(pace["Seen"]) >= NOTED or (rate is not None and pace.get("Rate") is None)


def seen(pace: Mapping[str, Any], now: float, rate: float | None) -> Pace:
    """Note a sign of life, with the rate."""
    return {**pace, "Seen": max(now, pace["Seen"]), "Rate": rate}


def runtime(pace: Mapping[str, Any], now: float) -> float:
    """Return the seconds that a job has run."""
    since = pace["Since"]
    return float(pace["Ran"]) + (0.0 if since is None else max(0.0, now - since))


def shown(pace: Mapping[str, Any], remaining: int | None, now: float) -> dict[str, Any]:
    """Return what a running job tells of its pace."""
    rate = pace.get("Rate")
    if rate is None:
        return {}
    told: dict[str, Any] = {"InstancesPerSecond": round(rate, 2)}
    if remaining is not None and rate > 0:
        # A year and more is no estimate.
        end = datetime.fromtimestamp(now + min(remaining / rate, 400 * 86400.0), UTC)
        told["EstimatedEnd"] = end.strftime("%Y%m%dT%H%M%S.%f")
    return told


class Rates:
    """What the last minutes brought, job by job; kept in memory only."""

    def __init__(self) -> None:
        self._samples: dict[str, tuple[float | None, deque[tuple[float, int]]]] = {}

    def add(self, job_id: str, now: float, done: int, since: float | None) -> float | None:
        """Note how many instances are done by a job that runs since then; returns the rate, None while nothing can be
        said."""
        known, samples = self._samples.get(job_id, (None, deque()))
        if known != since or job_id not in self._samples:
            samples = deque()
            self._samples[job_id] = since, samples
        if samples and (now < samples[-1][0] or done < samples[0][1]):
            samples.clear()  # the clock went back, or the job begins again
        if not samples or now - samples[-1][0] >= 1.0:
            samples.append((now, done))
        while len(samples) > 2 and now - samples[1][0] >= WINDOW:
            samples.popleft()
        first, before = samples[0]
        return None if now - first < LEAST else (done - before) / (now - first)

    def forget(self, job_id: str) -> None:
        """Begin anew: the job was paused, or is no more."""
        self._samples.pop(job_id, None)
