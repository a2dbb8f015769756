"""Work gives way by stages, the back-fill first, and comes back when Orthanc is quick again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from orthanc_deid.pipeline.pressure import CALM_SECONDS, FAR, STAGES, Pressure


class Day:
    """A pressure with a clock: a probe every half second."""

    def __init__(self, budget: float = 3.0) -> None:
        self.pressure = Pressure(budget)
        self.now = 0.0

    def probe(self, milliseconds: float, seconds: float = 0.5) -> int:
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            self.pressure.tell(milliseconds / 1000, self.now)
        return self.pressure.stage


def test_the_back_fill_gives_way_first_and_fresh_work_only_when_it_is_far_too_slow() -> None:
    day = Day()
    assert day.probe(2, 30) == 0
    assert day.probe(7) == 1, "one stage at a time"
    assert day.probe(7, 60) == 3 and day.pressure.share.fresh == 1, "fresh work goes on"
    assert day.probe(7 * FAR, 60) == len(STAGES) - 1
    assert day.probe(7, 60) == 3
    assert day.probe(2, CALM_SECONDS + 0.5) == 2
    assert day.probe(2, 60) == 0


def test_a_single_slow_answer_costs_one_stage_for_a_moment() -> None:
    day = Day()
    day.probe(2, 10)
    assert day.probe(500) == 1
    assert day.probe(2, CALM_SECONDS + 0.5) == 0


def test_an_orthanc_that_stays_slower_is_learnt() -> None:
    day = Day()
    day.probe(2, 10)
    assert day.probe(7, 60) == 3
    assert day.probe(7, 3600) == 0, "that is what it takes now"
    assert day.probe(2) == 0 and day.probe(7) == 1


def test_without_a_budget_nothing_gives_way() -> None:
    day = Day(budget=0)
    day.probe(2, 10)
    assert day.probe(5000, 60) == 0


@given(st.lists(st.floats(0.0001, 20), max_size=200))
def test_the_stage_moves_by_one_and_something_is_always_left(times: list[float]) -> None:
    pressure, stage = Pressure(3.0), 0
    for number, seconds in enumerate(times):
        after = pressure.tell(seconds, number / 2)
        assert abs(after - stage) <= 1 and 0 <= after < len(STAGES)
        stage = after
    shares = [(share.fresh, share.other) for share in STAGES]
    assert shares == sorted(shares, reverse=True) and all(share.fresh >= share.other for share in STAGES)
