"""Dates and times of a subject (PS3.15 E.3.6, Retain Longitudinal Temporal Information with Modified Dates).

What the rest of the engine uses: values of DA, TM and DT (`datevalues`), dates within text (`datetext`), and which
attributes are about the subject at all (`never_shift`).
"""

from __future__ import annotations

import csv
from functools import lru_cache

from .datetext import MASK, shift_text
from .datevalues import Shift, parse_zone, shift_value, whole_weeks, year_value
from .syntax import STANDARD

__all__ = [
    "MASK",
    "Shift",
    "dated_text",
    "dateless",
    "never_shift",
    "parse_zone",
    "partner_of",
    "shift_text",
    "shift_value",
    "whole_weeks",
    "year_value",
]


@lru_cache(maxsize=1)
def never_shift() -> frozenset[int]:
    """Return the attributes that Table E.1-1 would move although they are not about the subject.

    They are constants of the standard, a device, a protocol, a product or a trial, alike in the objects of many
    subjects: moved by each one's offset they would tell the difference of two offsets, and to who knows the constant
    both offsets. The Basic Profile's action holds for them.
    """
    with (STANDARD / "never_shift.csv").open(newline="", encoding="utf-8") as file:
        return frozenset(int(row["tag"], 16) for row in csv.DictReader(file))


@lru_cache(maxsize=1)
def dateless() -> frozenset[int]:
    """Return those of `never_shift` that a profile may keep beside moved dates.

    They are years older than most examinations, or published. The others are not: a device is calibrated every day or
    month, so the true date of its last calibration, kept beside a moved date of the study, would tell the offset.
    """
    with (STANDARD / "never_shift.csv").open(newline="", encoding="utf-8") as file:
        return frozenset(int(row["tag"], 16) for row in csv.DictReader(file) if row["may_stay"] == "Y")


@lru_cache(maxsize=1)
def dated_text() -> frozenset[int]:
    """Return the text attributes whose dates are about the subject: there they move, in all others they are masked.

    A date in the name of a protocol or a description of a device is the same in the objects of many subjects.
    """
    with (STANDARD / "dated_text.csv").open(newline="", encoding="utf-8") as file:
        return frozenset(int(row["tag"], 16) for row in csv.DictReader(file))


@lru_cache(maxsize=1)
def _pairs() -> dict[int, int]:
    with (STANDARD / "date_time_pairs.csv").open(newline="", encoding="utf-8") as file:
        return {int(row["date_tag"], 16): int(row["time_tag"], 16) for row in csv.DictReader(file)}


def partner_of(tag: int) -> int | None:
    """Return the TM attribute that says the time on the day of a DA attribute, in the same item, or None."""
    return _pairs().get(tag)
