"""Explanations use words for every act, and name what stays of private attributes and content items."""

from __future__ import annotations

from pathlib import Path

import pytest
from orthanc_deid.core.explain import CODE_WORDS, WORDS, explain, private_blocks
from orthanc_deid.core.plan import Act
from orthanc_deid.core.profile import ACTIONS

PROFILES = Path(__file__).parents[2] / "profiles"

EVERYTHING = """\
name: everything
options: [retain-longitudinal-modified-dates, retain-patient-characteristics, clean-descriptors, retain-safe-private,
          clean-structured-content]
ages: {cap: 89}
attributes:
  - {attribute: StationName, action: set, value: SCANNER, reason: for this test}
"""


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    path = tmp_path / "everything.yaml"
    path.write_text(EVERYTHING)
    return path


def line(text: str, keyword: str) -> str:
    return next(line for line in text.splitlines() if line[12:].startswith(f"{keyword} "))


def test_there_is_a_word_for_every_act_and_code() -> None:
    assert set(WORDS) == set(Act)
    assert len(set(WORDS.values())) == len(WORDS)
    assert set(ACTIONS.values()) <= set(CODE_WORDS)


@pytest.mark.parametrize(
    ("keyword", "words"),
    [
        ("StudyDate", "shift"),
        ("PatientAge", "change age"),
        ("StudyDescription", "clean"),
        ("StationName", "set"),
        ("PatientName", "pseudonym"),
        ("StudyInstanceUID", "map UID"),
    ],
)
def test_acts_are_named_in_general_and_for_a_sop_class(everything: Path, keyword: str, words: str) -> None:
    general, resolved = explain(everything), explain(everything, "CT Image")
    assert line(general, keyword).count(f" {words} ") == 3  # whatever the Type
    assert f" {words} " in line(resolved, keyword)


def test_a_year_that_stays_is_named(tmp_path: Path) -> None:
    path = tmp_path / "year.yaml"
    path.write_text("name: year\nattributes: [{attribute: SeriesDate, action: year, reason: for this test}]\n")
    assert line(explain(path), "SeriesDate").count(" keep year ") == 3
    assert " keep year " in line(explain(path, "CT Image"), "SeriesDate")


def test_private_attributes_that_stay_are_listed_where_they_stay(everything: Path) -> None:
    blocks = list(private_blocks())
    assert len(blocks) > 100
    assert all(len(cells) == 6 and all(cells) for cells in blocks)
    assert "Private attributes that stay:" in explain(everything)
    assert "Private attributes that stay:" not in explain(PROFILES / "basic.yaml")
    assert "Private attributes: removed, always." in explain(PROFILES / "basic.yaml")


def test_values_of_content_items_are_shown_by_value_type(everything: Path) -> None:
    heading = "Values of items of ContentSequence, where no table names their concept:"
    report = explain(everything, "Comprehensive SR")
    after = report.split(heading)[1].splitlines()[1:9]
    assert [text.split()[1] for text in after] == [
        "DateTime",
        "Date",
        "Time",
        "PersonName",
        "UID",
        "TextValue",
        "ConceptCodeSequence",
        "MeasuredValueSequence",
    ]
    assert " clean " in after[5]
    assert heading not in explain(PROFILES / "basic.yaml", "Comprehensive SR")
