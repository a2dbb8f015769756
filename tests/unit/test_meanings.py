"""Code Meanings of the standard stay whole; others are cleaned like any text."""

from __future__ import annotations

import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.changes import Changer
from orthanc_deid.core.meanings import CODE_MEANING, is_standard
from orthanc_deid.core.plan import Act, Rule

RULE = Rule(CODE_MEANING, "LO", Act.CLEAN, "1", Act.DUMMY, "test")


@pytest.mark.parametrize("value", [b"Mass", b"millimeter", b"Suprasternal short axis view", b"nodule ", b"HEAD\0"])
def test_a_meaning_of_the_standard_stays(value: bytes) -> None:
    assert is_standard(value)
    assert Changer().change(RULE, b"LO", value, ("iso8859",), None) is value


@pytest.mark.parametrize("value", [b"Mass of Vorxxander", b"Vorxxander", b"", b"\xff\xfe", b"XR from Quillby Hospital"])
def test_anything_around_it_makes_it_a_text(value: bytes) -> None:
    assert not is_standard(value)


def test_the_table_is_read_as_csv_would_read_it() -> None:
    for (meaning,) in standard.rows("code_meanings.csv"):
        assert is_standard(meaning.encode()), meaning


def test_a_local_meaning_is_cleaned() -> None:
    made = Changer().change(RULE, b"LO", b"XR SHOULDER from Quillbyx", ("iso8859",), None)
    assert made is not None
    assert b"Quillbyx" not in made


def test_only_code_meanings_are_meant() -> None:
    comment = Rule(0x00204000, "LT", Act.CLEAN, "3", Act.REMOVE, "test")
    made = Changer().change(comment, b"LT", b"Herniated implant of Foley", ("iso8859",), None)
    assert made is None or b"Foley" not in made
