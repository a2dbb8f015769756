"""Moves values of DA, TM and DT (PS3.5 section 6.2) by a subject's offset: in the same precision, never ahead.

A date that stands for no date (typed in, or a clock that was never set) is the same in many objects: moved by the
offset it would show the offset, so such a date counts as none. So does midnight on the second where times are moved.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache

from .syntax import STANDARD

_DAY = 86400
_DA = re.compile(rb"(\d{4})([.\-/]?)(\d\d)\2(\d\d)")
_TM = re.compile(rb"(\d\d)(?:(:?)(\d\d)(?:\2(\d\d)(?:\.(\d{1,9}))?)?)?")
_ZONE = rb"[+-](?:0\d|1[0-4])[0-5]\d"
_DT = re.compile(rb"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:\.(\d{1,9}))?)?)?)?)?)?(" + _ZONE + rb")?")
_ISO = re.compile(  # never legal in DICOM, and sent all the same
    rb"(\d{4})-(\d\d)(?:-(\d\d)(?:[ T](\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:?\d\d)?)?)?"
)
_ENDS = {
    b"DA": rb"\d{4}(?:\.?\d\d){2}",
    b"TM": rb"\d\d(?::?\d\d){0,2}(?:\.\d{1,9})?",
    b"DT": rb"\d{4,14}(?:\.\d{1,9})?(?:" + _ZONE + rb")?",
}
_RANGE = {vr: re.compile(rb"(" + end + rb")? ?- ?(" + end + rb")?") for vr, end in _ENDS.items()}


@dataclass(frozen=True, slots=True)
class Shift:
    """How the dates of one subject move in one data set.

    `days` and `seconds` are the subject's offsets, both negative (identity/pseudonyms.py). What happens to times of
    day, `times`, is 'keep' (nothing), 'shift' (all move by `seconds`, and the day with them where midnight is passed)
    or 'round' (down to the hour, so that no time passes into the next day). `zone` is the data set's Timezone Offset
    From UTC (0008,0201) in minutes east of UTC, None where it has none.
    """

    days: int
    seconds: int
    times: str
    zone: int | None = None


def whole_weeks(days: int) -> int:
    """Return the multiple of 7 next to an offset of -3650 … -366 days, within that range: days of the week stay."""
    return max(-3647, min(-371, 7 * round(days / 7)))


@lru_cache(maxsize=1)
def _placeholders() -> frozenset[date]:
    with (STANDARD / "placeholder_dates.csv").open(newline="", encoding="utf-8") as file:
        return frozenset(date.fromisoformat(row["date"]) for row in csv.DictReader(file))


def real_date(year: int, month: int, day: int) -> date | None:
    """Return the date, None where the calendar has none such, or where it stands for no date."""
    if not 1901 <= year <= 2099:
        return None
    try:
        found = date(year, month, day)
    except ValueError:
        return None
    return None if found in _placeholders() else found


def moved(day: date | None, days: int) -> date | None:
    """Return the date moved, None where there is none or it falls out of the calendar."""
    if day is None:
        return None
    try:
        return day + timedelta(days=days)
    except OverflowError:
        return None


@lru_cache(maxsize=8192)
def shift_value(vr: bytes, value: bytes, shift: Shift, partner: bytes | None = None) -> bytes | None:
    """Return a value of DA, TM or DT moved, unpadded; an empty one stays empty, None: not a date or time at all.

    Several values, ranges ('a-b', '-b', 'a-'), partial precision (DT 'YYYY', TM 'HH') and the old forms YYYY.MM.DD and
    HH:MM:SS come out in the form they have. A part stands for its middle: 2020 moves as the second of July does. One
    bad value makes all of them bad.

    Where times are shifted, `partner` is the TM that belongs to a DA, so that the day changes with it; without one only
    the days move, as they do for a DT without hour. DT comes out in the data set's time zone, without suffix: its own
    suffix is applied first, and only dropped where the data set does not say its zone, since DA and TM then are in the
    same unknown zone.
    """
    value = value.strip(b" \0")
    if not value:
        return b""
    if b"\\" in value:
        parts = value.split(b"\\")
        others = partner.split(b"\\") if partner is not None else []
        pairs: list[bytes | None] = list(others) if len(others) == len(parts) else [None] * len(parts)
        results = [shift_value(vr, part, shift, pair) for part, pair in zip(parts, pairs, strict=True)]
        return None if None in results else b"\\".join(result for result in results if result is not None)
    one = _one(vr, value, shift, partner)
    if one is None and b"-" in value and vr in _RANGE:
        ends = _RANGE[vr].fullmatch(value)
        if ends is None or value == b"-":
            return None
        moved_ends = [b"" if end is None else _one(vr, end, shift, None) for end in ends.groups()]
        return None if None in moved_ends else b"-".join(end for end in moved_ends if end is not None)
    return one


def _one(vr: bytes, value: bytes, shift: Shift, partner: bytes | None) -> bytes | None:
    if vr == b"DA":
        return _date(value, shift, partner)
    if vr == b"TM":
        return _time(value, shift)
    return _datetime(value, shift) if vr == b"DT" else None


def _date(value: bytes, shift: Shift, partner: bytes | None) -> bytes | None:
    found = _DA.fullmatch(value)
    if found is None:
        return None
    day = real_date(int(found[1]), int(found[3]), int(found[4]))
    days = shift.days
    if shift.times == "shift" and partner is not None:
        time = _TM.fullmatch(partner.strip(b" \0"))
        seconds = _seconds(time[1], time[3], time[4]) if time is not None else None
        if time is not None and seconds is not None and not _midnight(time[3], time[4], time[5], seconds):
            days += (seconds + shift.seconds) // _DAY
    day = moved(day, days)
    if day is None:
        return None
    separator = b"." if found[2] == b"." else b""  # with '-' or '/' it was never legal
    return separator.join((b"%04d" % day.year, b"%02d" % day.month, b"%02d" % day.day))


def _time(value: bytes, shift: Shift) -> bytes | None:
    found = _TM.fullmatch(value)
    if found is None:
        return None
    hour, colon, minute, second, fraction = found.groups()
    seconds = _seconds(hour, minute, second)
    if seconds is None:
        return None
    if shift.times == "keep":
        # Some senders write a seventh digit.
        return value if fraction is None or len(fraction) <= 6 else value[: 6 - len(fraction)]
    if shift.times == "shift":
        if _midnight(minute, second, fraction, seconds):
            return None
        clock = (seconds + shift.seconds) % _DAY
    else:
        clock, fraction = seconds - seconds % 3600, None
    parts = [b"%02d" % (clock // 3600)]
    if minute is not None:
        parts.append(b"%02d" % (clock // 60 % 60))
    if second is not None:
        parts.append(b"%02d" % (clock % 60))
    return (colon or b"").join(parts) + (b"." + fraction[:6] if fraction is not None else b"")


def _seconds(hour: bytes, minute: bytes | None, second: bytes | None) -> int | None:
    """Seconds since midnight, the middle of an hour or minute where there is no more; None: the clock has none such."""
    h, m, s = int(hour), int(minute or b"0"), int(second or b"0")
    if h > 23 or m > 59 or s > 60:  # 60: a leap second
        return None
    return h * 3600 + (1800 if minute is None else m * 60 + (30 if second is None else s))


def _midnight(minute: bytes | None, second: bytes | None, fraction: bytes | None, seconds: int) -> bool:
    """Whether a time is midnight as exactly as it is written: what is filled in where a time is not known."""
    filled = 1800 if minute is None else 30 if second is None else 0
    return seconds == filled and not (fraction or b"0").strip(b"0")


def _datetime(value: bytes, shift: Shift) -> bytes | None:
    found = _DT.fullmatch(value) or _ISO.fullmatch(value)
    if found is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    if month is None or day is None:
        return _partial(int(year), month, shift.days)
    start = real_date(int(year), int(month), int(day))
    if start is None:
        return None
    days = shift.days
    seconds = _seconds(hour, minute, second) if hour is not None else None
    if hour is not None:
        if seconds is None:
            return None
        if shift.times == "shift" and _midnight(minute, second, fraction, seconds):
            hour = None  # a midnight that was filled in: the day is all that is known
        else:
            east = parse_zone(zone) if zone is not None else None
            if east is not None and shift.zone is not None:
                seconds += 60 * (shift.zone - east)
            if shift.times == "shift":
                seconds += shift.seconds
            days += seconds // _DAY
            seconds %= _DAY
    start = moved(start, days)
    if start is None:
        return None
    out = b"%04d%02d%02d" % (start.year, start.month, start.day)
    if hour is None or seconds is None:
        return out
    if shift.times == "round":
        seconds, fraction = seconds - seconds % 3600, None
    out += b"%02d" % (seconds // 3600)
    if minute is not None:
        out += b"%02d" % (seconds // 60 % 60)
    if second is not None:
        out += b"%02d" % (seconds % 60)
    return out + (b"." + fraction[:6] if fraction is not None else b"")


def _partial(year: int, month: bytes | None, days: int) -> bytes | None:
    """A year or a month moves as its middle does."""
    middle = real_date(year, 7, 2) if month is None else real_date(year, int(month), 15)
    target = moved(middle, days)
    if target is None:
        return None
    return b"%04d" % target.year if month is None else b"%04d%02d" % (target.year, target.month)


def parse_zone(value: bytes) -> int | None:
    """Read a value of Timezone Offset From UTC (0008,0201) or a suffix &ZZXX: minutes east of UTC, None for no zone."""
    if value == b"Z":
        return 0
    found = re.fullmatch(rb"([+-])(\d\d):?(\d\d)", value.strip(b" \0"))
    if found is None or int(found[2]) > 14 or int(found[3]) > 59:
        return None
    minutes = int(found[2]) * 60 + int(found[3])
    return -minutes if found[1] == b"-" else minutes


@lru_cache(maxsize=1024)
def year_value(vr: bytes, value: bytes) -> bytes | None:
    """Return a value of DA or DT with nothing left but the year: DA YYYY0101, DT YYYY; None for any other VR or form.

    Several values and ranges come out as such; an empty value stays empty.
    """
    value = value.strip(b" \0")
    if not value:
        return b""
    if b"\\" in value:
        parts = [year_value(vr, part) for part in value.split(b"\\")]
        return None if None in parts else b"\\".join(part for part in parts if part is not None)
    if vr not in (b"DA", b"DT"):
        return None
    year = _year(vr, value)
    if year is None:
        found = _RANGE[vr].fullmatch(value)
        if found is None or value == b"-":
            return None
        years = [b"" if end is None else _year(vr, end) for end in found.groups()]
        return None if None in years else b"-".join(end for end in years if end is not None)
    return year


def _year(vr: bytes, value: bytes) -> bytes | None:
    if vr == b"DA":
        found = _DA.fullmatch(value)
        return found[1] + b"0101" if found is not None and _in_calendar(found[1], found[3], found[4]) else None
    found = _DT.fullmatch(value) or _ISO.fullmatch(value)
    return found[1] if found is not None and _in_calendar(found[1], found[2], found[3]) else None


def _in_calendar(year: bytes, month: bytes | None, day: bytes | None) -> bool:
    try:
        date(int(year), int(month or b"1"), int(day or b"1"))
    except ValueError:
        return False
    return True
