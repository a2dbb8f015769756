"""The command `curate`: the words that a profile masks in text, without those that may identify."""

from __future__ import annotations

import csv
import io
import stat
from pathlib import Path

import pytest
from orthanc_deid.cli import main

from tests import builders
from tests.engine import PROFILES
from tests.objects.base import origin
from tests.objects.images import ct

RESEARCH = PROFILES / "research.yaml"
DESCRIPTIONS = {
    1: ["SIREVIEW fastcurl CT chest 12345678 2020-03-01", "SIREVIEW Quimby"],
    2: ["Sireview abdomen Dr. Zwork", "onlyhere thorax"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two slices each of two patients; the operator of one is called as a word in the other's text."""
    source = tmp_path / "in"
    source.mkdir()
    for person, texts in DESCRIPTIONS.items():
        for number, text in enumerate(texts):
            dataset = ct(origin(person, number, 1, 1), rows=16, columns=16)
            dataset.StudyDescription = "CT CHEST W CONTRAST"
            dataset.SeriesDescription = text
            dataset.OperatorsName = "Fastcurl^Ann" if person == 2 else "Zwirk^Bo"
            (source / f"{person}-{number}").write_bytes(builders.to_bytes(dataset))
    (source / "note.txt").write_text("not DICOM")
    return source


def table(text: str) -> dict[str, dict[str, str]]:
    return {row["word"]: row for row in csv.DictReader(io.StringIO(text))}


def test_words_of_several_subjects_are_listed_with_counts_and_attributes(folder, capsys):
    assert main(["curate", "--profile", str(RESEARCH), str(folder)]) == 0
    out, err = capsys.readouterr()
    found = table(out)
    assert found["sireview"] == {
        "word": "sireview",
        "count": "3",
        "subjects": "2",
        "attributes": "SeriesDescription",
    }
    for withheld in ("onlyhere", "quimby", "fastcurl", "zwork", "12345678", "2020", "chest", "contrast"):
        assert withheld not in found
    assert "4 files of 2 subjects read, 1 not read" in err
    assert "withheld: " in err
    assert "fastcurl" not in err


def test_words_of_single_subjects_are_listed_when_asked_for_but_never_values(folder, capsys):
    assert main(["curate", "--profile", str(RESEARCH), "--min-subjects", "1", str(folder)]) == 0
    found = table(capsys.readouterr().out)
    assert {"sireview", "onlyhere", "quimby"} <= set(found)
    assert found["onlyhere"]["subjects"] == "1"
    # the name of another subject's operator, a name behind a title, numbers and dates
    assert set(found).isdisjoint({"fastcurl", "zwork", "12345678", "2020-03-01"})


def test_what_the_profile_allows_is_not_listed_again(folder, tmp_path, capsys):
    profile = tmp_path / "own.yaml"
    text = RESEARCH.read_text(encoding="utf-8")
    profile.write_text(text + "\ntext:\n  allow: [sireview]\n", encoding="utf-8")
    assert main(["curate", "--profile", str(profile), str(folder)]) == 0
    assert "sireview" not in table(capsys.readouterr().out)


def test_the_table_is_written_to_a_file_that_only_its_owner_reads(folder, tmp_path, capsys):
    out = tmp_path / "words.csv"
    out.write_text("from before")
    assert main(["curate", "--profile", str(RESEARCH), "--out", str(out), str(folder)]) == 0
    assert capsys.readouterr().out == ""
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "sireview" in table(out.read_text(encoding="utf-8"))


def test_wrong_use_is_told(folder, tmp_path, capsys):
    assert main(["curate", "--profile", str(tmp_path / "none.yaml"), str(folder)]) == 2
    assert main(["curate", "--profile", str(RESEARCH), str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_a_profile_without_cleaning_masks_no_words(folder, capsys):
    assert main(["curate", "--profile", str(PROFILES / "basic.yaml"), str(folder)]) == 0
    assert table(capsys.readouterr().out) == {}
