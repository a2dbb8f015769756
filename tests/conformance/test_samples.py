"""The bundled sample is what its README and expected.json say, and the engine does with it what they promise."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from orthanc_deid.core.errors import Quarantined

from tests import builders
from tests.engine import deidentify

SAMPLES = Path(__file__).parents[2] / "samples"
FILES = sorted((SAMPLES / "files").rglob("*.dcm"))
EXPECTED = json.loads((SAMPLES / "expected.json").read_text(encoding="utf-8"))
INVENTED = {"Quilvexton^Brimbertine", "Zzyzxley^Fnardorfen", "Mordquennel^Plin^^Dr", "Gwexgrundle^Thal^^Dr"}


def name(path: Path) -> str:
    return path.relative_to(SAMPLES / "files").as_posix()


def test_counts_agree_with_the_files_and_each_has_its_licence() -> None:
    with (SAMPLES / "sources.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert {row["target"] for row in table} == {name(path) for path in FILES}
    assert all(f"| {row['target']}" in readme for row in table)
    assert EXPECTED["files"] == len(FILES) == EXPECTED["confirmed"] + EXPECTED["held"]
    headers = [builders.read(path.read_bytes()) for path in FILES]
    assert len({header.PatientID for header in headers}) == EXPECTED["patients"]
    assert len({header.StudyInstanceUID for header in headers}) == EXPECTED["studies"]
    assert {"CT", "MR", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "US"} == {header.Modality for header in headers}
    assert sum(path.stat().st_size for path in FILES) < 6_000_000


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_name_but_the_invented_ones(path: Path) -> None:
    for element in builders.read(path.read_bytes()).iterall():
        if element.VR == "PN" and element.value:
            assert str(element.value) in INVENTED, element.tag


def test_references_of_segmentations_reports_and_radiotherapy_resolve() -> None:
    headers = [builders.read(path.read_bytes()) for path in FILES]
    known = {header.SOPInstanceUID for header in headers} | {header.StudyInstanceUID for header in headers}
    for header in headers:
        if header.Modality in ("CT", "MR", "US"):
            continue
        for element in header.iterall():
            if element.keyword == "ReferencedSOPInstanceUID":
                assert element.value in known, header.Modality


@pytest.mark.parametrize("path", FILES, ids=name)
def test_each_comes_out_or_is_held_as_expected(path: Path) -> None:
    reason = EXPECTED["held_files"].get(name(path))
    if reason is None:
        assert builders.read(deidentify(path.read_bytes())).PatientIdentityRemoved == "YES"
        return
    with pytest.raises(Quarantined) as held:
        deidentify(path.read_bytes())
    assert held.value.reason == reason


def test_references_still_resolve_when_all_of_it_has_been_deidentified() -> None:
    outputs = [
        builders.read(deidentify(path.read_bytes())) for path in FILES if name(path) not in EXPECTED["held_files"]
    ]
    instances = {made.SOPInstanceUID: made for made in outputs}
    series = {made.SeriesInstanceUID for made in outputs}
    resolved = 0
    for made in outputs:
        if made.Modality not in ("SEG", "RTSTRUCT", "RTDOSE"):
            continue
        for element in made.iterall():
            if element.keyword == "SeriesInstanceUID":
                assert element.value in series
            if element.keyword == "ReferencedSOPInstanceUID" and element.value != made.StudyInstanceUID:
                assert instances[element.value].StudyInstanceUID == made.StudyInstanceUID
                resolved += 1
    assert resolved > 10
