"""Windows follow the clock on the wall, whatever summer time does; rates are kept over every stretch of time."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from orthanc_deid.limits import NOTHING, Gates, Limits, Pace, Windows
from orthanc_deid.store.rows import ANY_PRIORITY, BACKFILL, FRESH

BERLIN = ZoneInfo("Europe/Berlin")
MINUTES = st.integers(0, 1439)
# Two years with their four changes of the clock, to the second.
TIMES = st.integers(int(datetime(2026, 1, 1).timestamp()), int(datetime(2028, 1, 1).timestamp()))


def at(*when: int, fold: int = 0) -> float:
    return datetime(*when, tzinfo=BERLIN, fold=fold).timestamp()


def text(begin: int, end: int) -> str:
    return f"{begin // 60:02}:{begin % 60:02}-{end // 60:02}:{end % 60:02}"


@given(TIMES, st.lists(st.tuples(MINUTES, MINUTES).filter(lambda span: span[0] != span[1]), min_size=1, max_size=3))
def test_a_window_is_open_by_the_clock_on_the_wall_and_opens_when_it_says(
    now: int, spans: list[tuple[int, int]]
) -> None:
    windows = Windows.parse([text(*span) for span in spans], BERLIN)
    wall = datetime.fromtimestamp(now, BERLIN).strftime("%H:%M")

    def within(begin: str, end: str) -> bool:
        return begin <= wall < end if begin < end else wall >= begin or wall < end

    assert windows.open(now) == any(within(*text(*span).split("-")) for span in spans)
    wait = windows.opens_in(now)
    assert (wait == 0) == windows.open(now)
    assert windows.open(now + wait) and wait <= 2 * 86400
    for share in (0.0, 0.3, 0.9):
        assert wait == 0 or not windows.open(now + wait * share)
    assert windows.show() == [text(*span) for span in spans]


def test_nights_on_which_the_clock_is_set() -> None:
    night = Windows.parse(["22:00-06:00"], BERLIN)
    assert night.opens_in(at(2026, 3, 28, 21, 0)) == 3600
    # The night of spring is seven hours long, that of autumn nine.
    assert not night.open(at(2026, 3, 28, 22, 0) + 7 * 3600) and night.open(at(2026, 3, 28, 22, 0) + 7 * 3600 - 1)
    assert not night.open(at(2026, 10, 24, 22, 0) + 9 * 3600) and night.open(at(2026, 10, 24, 22, 0) + 9 * 3600 - 1)
    # Half past two does not exist on that day: the next one is waited for.
    skipped = Windows.parse(["02:15-02:45"], BERLIN)
    assert skipped.opens_in(at(2026, 3, 29, 1, 0)) == timedelta(days=1, minutes=15).total_seconds()
    assert skipped.open(at(2026, 10, 25, 2, 30)) and skipped.open(at(2026, 10, 25, 2, 30, fold=1))


@pytest.mark.parametrize("wrong", ["22-6", "22:00", "25:00-06:00", "22:00-22:00", "22:60-23:00", "24:00-06:00", ""])
def test_what_is_no_window_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="window"):
        Windows.parse([wrong])


def test_until_midnight_and_always() -> None:
    assert Windows.parse(["00:00-24:00"]).open(0.0) and Windows().open(12345.0)
    assert not Windows.parse(["00:00-23:59"], BERLIN).open(at(2026, 5, 1, 23, 59))
    assert Windows.parse(["12:00-24:00"], BERLIN).open(at(2026, 5, 1, 23, 59))


@given(
    st.floats(0.1, 1000),
    st.floats(1e3, 1e9),
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 10**8)), min_size=2, max_size=40),
)
def test_no_more_goes_than_the_rates_allow(instances: float, size: float, asked: list[tuple[float, int]]) -> None:
    pace = Pace(Limits(instances_per_second=instances, bytes_per_second=size))
    now, sent = 1000.0, []
    for pause, length in asked:
        now += pause
        sent.append((now + pace.reserve(now, length), length))
    assert [when for when, _ in sent] == sorted(when for when, _ in sent)
    for first in range(len(sent)):
        for last in range(first + 1, len(sent)):
            span = sent[last][0] - sent[first][0]
            assert last - first <= span * instances * (1 + 1e-6) + 1e-6
            assert sum(length for _, length in sent[first:last]) <= span * size * (1 + 1e-6) + 1e-3


def test_without_a_rate_nobody_waits_and_after_a_lull_nothing_was_saved_up() -> None:
    free, slow = Pace(Limits()), Pace(Limits(instances_per_second=2))
    assert not free.limited and slow.limited
    assert [free.reserve(1.0, 10**9) for _ in range(3)] == [0.0] * 3
    assert [slow.reserve(100.0, 1) for _ in range(3)] == [0.0, 0.5, 1.0]
    assert [slow.reserve(200.0, 1) for _ in range(2)] == [0.0, 0.5]


def test_who_may_go_while_a_window_is_shut() -> None:
    night = Windows.parse(["22:00-06:00"], BERLIN)
    gates = Gates({
        ("a", "peer:x"): Limits(night),
        ("b", "peer:x"): Limits(night, backfill_only=True),
        ("a", "peer:y"): Limits(night),
    })  # fmt: skip
    noon, midnight = at(2026, 5, 1, 12, 0), at(2026, 5, 1, 0, 0)
    assert gates.worst("a", "peer:x", noon) == NOTHING
    assert FRESH <= gates.worst("b", "peer:x", noon) < BACKFILL
    assert gates.worst("a", "peer:x", midnight) == gates.worst("c", "peer:z", noon) == ANY_PRIORITY
    assert gates.shut(noon) == ["peer:y"] and gates.shut(midnight) == []
    assert gates.waiting(noon) == {"peer:x": noon + 36000, "peer:y": noon + 36000} and gates.waiting(midnight) == {}
