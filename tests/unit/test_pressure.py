"""Work gives way by stages, the back-fill first, and comes back when Orthanc is quick again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from orthanc_deid.pipeline.pressure import (
    BREATH_SECONDS,
    CALM_SECONDS,
    FAR,
    IN_VAIN_SECONDS,
    RUSH_SECONDS,
    STAGES,
    Arrivals,
    Pressure,
)


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


def test_a_rush_is_told_by_the_first_and_lasts_until_a_second_after_the_last() -> None:
    arrivals = Arrivals(2)
    assert not arrivals.rush(0.0)
    arrivals.stir(10.0)
    assert arrivals.rush(10.0), "before anybody knows how many came"
    arrivals.tell(2, 10.1)
    arrivals.tell(3, 10.2)
    assert arrivals.rush(10.2 + RUSH_SECONDS - 0.01) and not arrivals.rush(10.2 + RUSH_SECONDS)
    arrivals.tell(5, 11.0)
    arrivals.stir(11.1)
    arrivals.tell(0, 11.5)
    assert arrivals.rush(11.9) and not arrivals.rush(12.0), "nor does the last of them begin another breath"
    arrivals.stir(12.0)
    assert arrivals.rush(12.1)


def test_a_larger_machine_takes_more_for_a_rush() -> None:
    assert [Arrivals(number).enough for number in (1, 2, 4, 16)] == [2, 5, 10, 40]
    arrivals = Arrivals(16)
    arrivals.tell(39, 10.0)
    assert not arrivals.rush(10.0)
    arrivals.tell(1, 10.5)
    assert arrivals.rush(10.5)


def test_single_arrivals_cost_a_breath_now_and_then() -> None:
    arrivals, held, step = Arrivals(2), 0, 0.05
    for tick in range(round(100 / step)):
        now = tick * step
        if tick % round(0.5 / step) == 0:  # two a second: no rush
            arrivals.stir(now)
            arrivals.tell(1, now)
        held += arrivals.rush(now)
    assert 0 < held * step <= 100 * BREATH_SECONDS / (BREATH_SECONDS + IN_VAIN_SECONDS) * 1.5


@given(st.lists(st.tuples(st.floats(0.01, 3), st.integers(0, 9), st.booleans()), max_size=100))
def test_without_enough_arrivals_within_a_second_there_is_no_rush_but_a_breath(
    said: list[tuple[float, int, bool]],
) -> None:
    arrivals, now = Arrivals(2), 0.0
    seen: list[tuple[float, int]] = []
    for pause, number, stirred in said:
        now += pause
        if stirred:
            arrivals.stir(now)
        else:
            arrivals.tell(number, now)
            seen.append((now, number))
        lately = [
            sum(n for then, n in seen if at - then < RUSH_SECONDS and then <= at)
            for at, n in seen
            if n and now - at < RUSH_SECONDS
        ]
        if any(count >= arrivals.enough for count in lately):
            assert arrivals.rush(now)
        elif not any(s for _, _, s in said):
            assert not arrivals.rush(now)


@given(st.lists(st.floats(0.0001, 20), max_size=200))
def test_the_stage_moves_by_one_and_something_is_always_left(times: list[float]) -> None:
    pressure, stage = Pressure(3.0), 0
    for number, seconds in enumerate(times):
        after = pressure.tell(seconds, number / 2)
        assert abs(after - stage) <= 1 and 0 <= after < len(STAGES)
        stage = after
    shares = [(share.fresh, share.other) for share in STAGES]
    assert shares == sorted(shares, reverse=True) and all(share.fresh >= share.other for share in STAGES)
