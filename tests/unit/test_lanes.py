"""What sends is ordered by urgency and can be narrowed, never to nothing."""

from __future__ import annotations

import threading

import pytest
from orthanc_deid.pipeline import lanes as module
from orthanc_deid.pipeline.lanes import TRICKLE_SECONDS, Lanes

from tests.orthancs import until


def test_what_is_urgent_goes_first() -> None:
    lanes, gate, order = Lanes(1, "t"), threading.Event(), []
    lanes.submit(0, gate.wait, 10)
    for number, priority in enumerate([10, 10, 0, 5, 0]):
        lanes.submit(priority, order.append, (priority, number))
    gate.set()
    until(lambda: len(order) == 5, 10, "all of them")
    assert order == [(0, 2), (0, 4), (5, 3), (10, 0), (10, 1)]
    lanes.shutdown()
    with pytest.raises(RuntimeError):
        lanes.submit(0, gate.wait)


def test_it_is_narrowed_and_widened_again() -> None:
    lanes, lock = Lanes(4, "t"), threading.Lock()
    now, most, done = [0], [0], []

    def work(gate: threading.Event) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        gate.wait(10)
        with lock:
            now[0] -= 1
            done.append(1)

    gate = threading.Event()
    for _ in range(8):
        lanes.submit(0, work, gate)
    until(lambda: now[0] == 4, 10, "four at a time")
    lanes.narrow(0, 0)  # one remains
    gate.set()
    until(lambda: len(done) == 8, 10, "the end")
    most[0], slow = 0, threading.Event()
    for _ in range(4):
        lanes.submit(0, work, slow)
    until(lambda: now[0] == 1, 10, "one at a time")
    lanes.narrow(1, 1)
    until(lambda: now[0] == 4, 10, "four again")
    slow.set()
    until(lambda: len(done) == 12, 10, "the end")
    lanes.shutdown()


def test_what_is_not_fresh_is_narrowed_first() -> None:
    lanes, gate, begun = Lanes(4, "t"), threading.Event(), []

    def work(priority: int) -> None:
        begun.append(priority)
        gate.wait(10)

    lanes.narrow(1, 0.5)
    for _ in range(4):
        lanes.submit(10, work, 10)
    until(lambda: begun == [10, 10], 10, "two of the back-fill")
    for _ in range(2):
        lanes.submit(0, work, 0)
    until(lambda: begun == [10, 10, 0, 0], 10, "and two fresh ones beside")
    gate.set()
    until(lambda: len(begun) == 6, 10, "all")
    lanes.shutdown()


def test_what_is_not_fresh_only_trickles_where_its_share_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    lanes, done = Lanes(2, "t"), []  # type: ignore[var-annotated]
    lanes.narrow(1, 0)
    for number in range(3):
        lanes.submit(10, done.append, number)
    until(lambda: done == [0], 10, "one")
    lanes.submit(0, done.append, "fresh")
    until(lambda: done == [0, "fresh"], 10, "what is fresh, at once")
    now[0] += TRICKLE_SECONDS
    until(lambda: done == [0, "fresh", 1], 10, "the next, a while later")
    lanes.narrow(1, 1)
    until(lambda: done == [0, "fresh", 1, 2], 10, "the rest, as before")
    lanes.shutdown()
