"""Ages are capped and put into bands, each with its representative."""

from __future__ import annotations

import pytest
from orthanc_deid.core.ages import Ages, change_age

CAP = Ages(cap=89)
PAPER = Ages(cap=None, band=5, representative="upper")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"045Y", b"045Y"),
        (b"089Y", b"089Y"),
        (b"090Y", b"090Y"),
        (b"104Y", b"090Y"),
        (b"999Y", b"090Y"),
        (b"018M", b"018M"),
        (b"999M", b"999M"),  # 83 years
        (b"003W", b"003W"),
        (b"010D", b"010D"),
        (b"", b""),
        (b"  ", b""),
        (b"45Y ", b"045Y"),
        (b"045y", b"045Y"),
        (b"045Y\\095Y", b"045Y\\090Y"),
    ],
)
def test_cap(value: bytes, expected: bytes) -> None:
    assert change_age(value, CAP) == expected


@pytest.mark.parametrize("value", [b"45", b"old", b"0045Y", b"45X", b"Y", b"-45Y", b"045Y\\ninety", b"\xff\xfe"])
def test_what_is_no_age_is_none(value: bytes) -> None:
    assert change_age(value, CAP) is None
    assert change_age(value, PAPER) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"025Y", b"025Y"),
        (b"026Y", b"030Y"),
        (b"030Y", b"030Y"),
        (b"031Y", b"035Y"),
        (b"101Y", b"105Y"),
        (b"001Y", b"005Y"),
        (b"000Y", b"005Y"),
        (b"003W", b"005Y"),
        (b"071M", b"005Y"),  # five completed years, as '005Y' says
        (b"072M", b"010Y"),
        (b"366D", b"005Y"),
    ],
)
def test_bands_of_the_two_stage_process(value: bytes, expected: bytes) -> None:
    assert change_age(value, PAPER) == expected


@pytest.mark.parametrize(("representative", "expected"), [("upper", b"030Y"), ("lower", b"025Y"), ("middle", b"027Y")])
def test_representatives(representative: str, expected: bytes) -> None:
    for age in range(26, 31):
        assert change_age(b"%03dY" % age, Ages(None, 5, representative)) == expected


def test_a_band_that_reaches_over_the_cap_is_not_told_from_those_above() -> None:
    ages = Ages(cap=85, band=10)
    assert [change_age(age, ages) for age in (b"080Y", b"081Y", b"085Y", b"086Y", b"101Y")] == [b"080Y"] + [b"086Y"] * 4


@pytest.mark.parametrize(("weeks", "years"), [(52, 0), (53, 1), (104, 1), (105, 2)])
def test_weeks_and_days_count_as_completed_years(weeks: int, years: int) -> None:
    lower = Ages(None, 1, "upper")
    expected = b"%03dY" % max(1, years)
    assert change_age(b"%03dW" % weeks, lower) == expected
    assert change_age(b"%03dD" % (weeks * 7), lower) == expected


def test_a_cap_holds_for_months_too() -> None:
    assert change_age(b"121M", Ages(cap=9)) == b"010Y"
    assert change_age(b"119M", Ages(cap=9)) == b"119M"
