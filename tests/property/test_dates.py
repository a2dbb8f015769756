"""Properties of moved dates: intervals stay, nothing comes ahead, forms stay, and masking is final."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from orthanc_deid.core.ages import Ages, change_age
from orthanc_deid.core.dates import MASK, Shift, shift_text, shift_value, whole_weeks, year_value

DAYS = st.integers(-3650, -366)
SECONDS = st.integers(-86399, -1)
TIMES = st.sampled_from(["keep", "shift", "round"])
ZONES = st.none() | st.integers(-12 * 60, 14 * 60)
SHIFTS = st.builds(Shift, DAYS, SECONDS, TIMES, ZONES)
FIRST, LAST = datetime(1902, 1, 1), datetime(2099, 12, 31)
REAL = st.datetimes(FIRST, LAST).filter(
    lambda when: (when.month, when.day) not in ((1, 1), (1, 6), (1, 19), (11, 11), (12, 31))
)  # without the dates that stand for none


def da(when: datetime) -> bytes:
    return when.strftime("%Y%m%d").encode()


def tm(when: datetime) -> bytes:
    return when.strftime("%H%M%S.%f").encode()


def read(day: bytes, time: bytes = b"") -> datetime:
    return datetime.strptime((day + time).decode(), "%Y%m%d" + ("%H%M%S.%f" if time else ""))


@settings(deadline=None)
@given(REAL, REAL, DAYS, SECONDS, TIMES)
def test_intervals_between_days_stay(one: datetime, two: datetime, days: int, seconds: int, times: str) -> None:
    shift = Shift(days, seconds, times)
    moved = [shift_value(b"DA", da(when), shift) for when in (one, two)]
    assert moved[0] is not None and moved[1] is not None
    assert read(moved[0]) - read(moved[1]) == read(da(one)) - read(da(two))
    assert read(moved[0]) == read(da(one)) + timedelta(days)


@settings(deadline=None)
@given(REAL, REAL, DAYS, SECONDS)
def test_intervals_between_moments_stay_to_the_microsecond(
    one: datetime, two: datetime, days: int, seconds: int
) -> None:
    """DA with its TM, and DT, alike: also where midnight lies between them."""
    assume(all((when.hour, when.minute, when.second, when.microsecond) != (0, 0, 0, 0) for when in (one, two)))
    shift = Shift(days, seconds, "shift")
    for when in (one, two):
        day, time = shift_value(b"DA", da(when), shift, tm(when)), shift_value(b"TM", tm(when), shift)
        assert day is not None and time is not None
        assert shift_value(b"DT", da(when) + tm(when), shift) == day + time
        assert read(day, time) - when == timedelta(days, seconds)


@settings(deadline=None)
@given(REAL, st.integers(0, 12 * 3600), DAYS, SECONDS)
def test_what_decays_between_injection_and_acquisition_is_the_same(
    injected: datetime, uptake: int, days: int, seconds: int
) -> None:
    """Radiopharmaceutical Start Time has no date of its own: it is a time of the day before, at most."""
    acquired = injected + timedelta(seconds=uptake)
    assume(
        all((when.hour, when.minute, when.second, when.microsecond) != (0, 0, 0, 0) for when in (injected, acquired))
    )
    for times in ("keep", "shift"):
        shift = Shift(days, seconds, times)
        start, stop = shift_value(b"TM", tm(injected), shift), shift_value(b"TM", tm(acquired), shift)
        assert start is not None and stop is not None
        waited = (read(b"20200303", stop) - read(b"20200303", start)) % timedelta(days=1)
        assert waited == timedelta(seconds=uptake)


@settings(deadline=None)
@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), st.integers(0, 6), SHIFTS)
def test_nothing_comes_ahead_and_precision_stays(when: datetime, precision: int, shift: Shift) -> None:
    value = when.strftime("%Y").rjust(4, "0").encode() + when.strftime("%m%d%H%M%S.%f").encode()
    value = value[: (4, 6, 8, 10, 12, 14, 21)[precision]]
    moved = shift_value(b"DT", value, shift)
    if moved is None:
        assert (
            when.year < 1901
            or when.year > 2099
            or len(value) == 8
            or (when.month, when.day) in [(1, 1), (1, 6), (1, 19), (11, 11), (12, 31)]
        )
        return
    assert len(moved) == len(value) or shift.times != "keep"
    assert moved[: len(value)] < value


@settings(deadline=None)
@given(REAL, st.integers(-12 * 4, 14 * 4), st.integers(-12 * 4, 14 * 4), DAYS)
def test_moments_of_several_zones_come_into_one(when: datetime, quarter: int, home: int, days: int) -> None:
    """One moment, written in another zone, comes out as the same."""
    zone = b"%c%02d%02d" % (b"-+"[quarter >= 0], *divmod(abs(quarter) * 15, 60))
    elsewhere = when + timedelta(minutes=15 * quarter)
    assume(date(1902, 1, 7) < elsewhere.date() < date(2099, 12, 30))
    assume((elsewhere.month, elsewhere.day) not in ((1, 1), (1, 6), (1, 19), (11, 11), (12, 31)))
    shift = Shift(days, 0, "keep", home * 15)
    expected = when + timedelta(minutes=15 * home) + timedelta(days)
    assert shift_value(b"DT", da(elsewhere) + tm(elsewhere) + zone, shift) == da(expected) + tm(expected)


@settings(deadline=None)
@given(
    st.binary(max_size=30),
    st.sampled_from([b"DA", b"TM", b"DT", b"LO", b"OB"]),
    SHIFTS,
    st.none() | st.binary(max_size=8),
)
def test_any_bytes_have_an_answer(value: bytes, vr: bytes, shift: Shift, partner: bytes | None) -> None:
    for found in (shift_value(vr, value, shift, partner), year_value(vr, value)):
        assert found is None or re.fullmatch(rb"[\d.:\-\\]*", found)


@settings(deadline=None)
@given(st.text("0123456789.-:+ TZ", max_size=26).map(str.encode), st.sampled_from([b"DA", b"TM", b"DT"]), SHIFTS)
def test_what_comes_out_is_a_legal_value(value: bytes, vr: bytes, shift: Shift) -> None:
    legal = {
        b"DA": rb"(?:\d{4}(\.?)\d\d\1\d\d)?",
        b"TM": rb"(?:\d\d(?:(:?)\d\d(?:\1\d\d(?:\.\d{1,6})?)?)?)?",
        b"DT": rb"(?:\d{4}(?:\d\d){0,5}(?:\.\d{1,6})?)?",
    }
    moved = shift_value(vr, value, shift)
    if moved is not None:
        one = re.compile(legal[vr])
        begin, _, end = moved.partition(b"-")
        assert one.fullmatch(begin) and one.fullmatch(end)
        assert begin or end or not value.strip(b" \0")


@settings(deadline=None)
@given(DAYS, DAYS)
def test_whole_weeks_follow_the_offset(one: int, two: int) -> None:
    assert whole_weeks(one) % 7 == 0
    assert -3650 <= whole_weeks(one) <= -366
    assert one > two or whole_weeks(one) <= whole_weeks(two)


PIECES = st.sampled_from(
    [
        *(
            "12.03.2020",
            "2020-03-12",
            "12/03/2020",
            "3.5.19",
            "20200312",
            "March 12, 2020",
            "12. März 2020",
            "14:30",
            "2 pm",
        ),
        *(
            "12",
            "3",
            "2020",
            "Mar",
            "May",
            "march",
            "de",
            "um",
            "at",
            "do",
            "Do",
            "KW",
            "Q1",
            "T",
            "Z",
            "令和",
            "年",
            "元",
            "月",
        ),
        *(".", "-", "/", ":", ",", " ", "  ", "\n", "***", "*", "(", ")", "h", "Uhr", "+01:00", "b", "mm", "v", "'"),
    ]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join) | st.text(max_size=40)


@settings(deadline=None)
@given(TEXTS)
def test_masking_is_final(text: str) -> None:
    masked = shift_text(text, None)
    assert shift_text(masked, None) == masked


@settings(deadline=None)
@given(TEXTS, SHIFTS)
def test_texts_change_in_their_dates_only(text: str, shift: Shift) -> None:
    """Whatever is found: letters other than names of months, halves of the day and zones stay."""
    moved = shift_text(text, shift)
    assert moved.count("\n") <= text.count("\n")
    for sign in ("(", ")"):
        assert moved.count(sign) <= text.count(sign)
    if not any(c.isdigit() or c == "元" for c in text):
        assert moved == text


@settings(deadline=None)
@given(
    REAL, SHIFTS, st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%d %B %Y", "%B %d, %Y", "%Y%m%d", "%d-%b-%Y", "%Y/%m/%d"])
)
def test_a_date_in_text_moves_like_the_attribute(when: datetime, shift: Shift, spelling: str) -> None:
    expected = when.date() + timedelta(shift.days)
    moved = shift_text(f"seen ({when.strftime(spelling)})", shift)
    assert MASK not in moved
    assert datetime.strptime(moved, f"seen ({spelling})").date() == expected


@settings(deadline=None)
@given(st.integers(0, 999), st.sampled_from(b"DWMY"), st.none() | st.integers(0, 120), st.none() | st.integers(1, 30))
def test_ages_are_never_over_the_cap(number: int, unit: int, cap: int | None, band: int | None) -> None:
    value = b"%03d%c" % (number, unit)
    for representative in ("upper", "lower", "middle"):
        ages = Ages(cap, band, representative)
        found = change_age(value, ages)
        assert found is not None and re.fullmatch(rb"\d{3}[DWMY]", found)
        if cap is not None and found.endswith(b"Y"):
            assert int(found[:3]) <= cap + 1
        if band is not None and found.endswith(b"Y") and unit == ord("Y"):
            assert abs(int(found[:3]) - number) <= band or (cap is not None and int(found[:3]) == cap + 1)


@settings(deadline=None)
@given(st.integers(0, 998), st.integers(1, 30), st.none() | st.integers(0, 120))
def test_who_is_older_never_seems_younger(years: int, band: int, cap: int | None) -> None:
    for representative in ("upper", "lower", "middle"):
        ages = Ages(cap, band, representative)
        one, two = (change_age(b"%03dY" % age, ages) for age in (years, years + 1))
        assert one is not None and two is not None and one <= two
