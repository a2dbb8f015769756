"""The command `deidentify`, called as a user calls it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from tests import builders
from tests.engine import PROFILES
from tests.objects.base import origin
from tests.objects.images import ct, us

BASIC = PROFILES / "basic.yaml"


def deidentify(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "orthanc_deid", "deidentify", "--profile", str(BASIC), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two slices of one patient, one of another, an ultrasound and a text file, in folders."""
    source = tmp_path / "in"
    (source / "a").mkdir(parents=True)
    (source / "a" / "one").write_bytes(builders.to_bytes(ct(origin(1, 1, 1, 1), rows=16, columns=16)))
    (source / "a" / "two").write_bytes(builders.to_bytes(ct(origin(1, 2, 1, 1), rows=16, columns=16)))
    (source / "three").write_bytes(builders.to_bytes(ct(origin(2, 1, 1, 1), rows=16, columns=16)))
    (source / "us").write_bytes(builders.to_bytes(us(origin(1, 3, 1, 1))))
    (source / "note.txt").write_text("not DICOM")
    return source


def test_every_source_has_a_line_and_names_are_derived(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = deidentify("--out", out, folder)
    assert done.returncode == 0, done.stderr
    assert "no --key-file" in done.stderr
    report = tmp_path / "out.report.jsonl"
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    by_name = {Path(str(line["source"])).name: line for line in lines(report)}
    assert {name: (line["outcome"], line["reason"]) for name, line in by_name.items()} == {
        "one": ("deidentified", None),
        "two": ("deidentified", None),
        "three": ("deidentified", None),
        "us": ("quarantined", "pixels-not-cleaned"),
        "note.txt": ("rejected", "not-dicom"),
    }
    outputs = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert len(outputs) == 3 and {len(path.parts) for path in outputs} == {4}
    for path in outputs:
        made = pydicom.dcmread(out / path)
        assert path.parts == (
            made.PatientID,
            made.StudyInstanceUID,
            made.SeriesInstanceUID,
            made.SOPInstanceUID + ".dcm",
        )
    assert len({path.parts[0] for path in outputs}) == 2


def test_a_key_file_makes_runs_agree_and_projects_differ(folder: Path, tmp_path: Path) -> None:
    key = tmp_path / "master.key"
    names = {}
    for run, project in (("first", "lung"), ("second", "lung"), ("third", "heart")):
        out = tmp_path / run
        done = deidentify("--out", out, "--key-file", key, "--project", project, folder)
        assert done.returncode == 0, done.stderr
        names[run] = sorted(path.relative_to(out) for path in out.rglob("*.dcm"))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert names["first"] == names["second"]
    assert not {path.parts[0] for path in names["first"]} & {path.parts[0] for path in names["third"]}


def test_names_of_the_sources_are_kept_on_request(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = deidentify("--out", out, "--names", "source", folder, folder / "a" / "one")
    assert done.returncode == 0, done.stderr
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert found == ["a/one", "a/two", "one", "three"]


def test_two_sources_for_one_target_are_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (folder / "b").mkdir()
    (folder / "a" / "one").rename(folder / "b" / "two")
    done = deidentify("--out", out, "--names", "source", folder / "a", folder / "b")
    assert done.returncode == 2
    assert "two sources for" in done.stderr
    assert not out.exists()


def test_the_same_file_twice_is_one_output_and_other_content_is_held(tmp_path: Path) -> None:
    first = ct(origin(1, 1, 1, 1), rows=16, columns=16)
    (tmp_path / "one.dcm").write_bytes(builders.to_bytes(first))
    (tmp_path / "same.dcm").write_bytes(builders.to_bytes(first))
    first.PixelData = bytes(len(first.PixelData))
    (tmp_path / "zchanged.dcm").write_bytes(builders.to_bytes(first))
    sources = sorted(tmp_path.glob("*.dcm"))
    assert deidentify("--out", tmp_path / "out", *sources).returncode == 0
    outcomes = [(line["outcome"], line["reason"]) for line in lines(tmp_path / "out.report.jsonl")]
    assert outcomes == [("deidentified", None), ("deidentified", None), ("quarantined", "source-changed")]
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 1


def test_contradicting_objects_of_one_patient_id_are_held(tmp_path: Path) -> None:
    a = ct(origin(1, 1, 1, 1), rows=16, columns=16)
    b = ct(origin(1, 2, 1, 1), rows=16, columns=16)
    b.PatientBirthDate = "19010203"
    (tmp_path / "a").write_bytes(builders.to_bytes(a))
    (tmp_path / "b").write_bytes(builders.to_bytes(b))
    assert deidentify("--out", tmp_path / "out", tmp_path / "a", tmp_path / "b").returncode == 0
    assert [(line["outcome"], line["reason"], line.get("tag")) for line in lines(tmp_path / "out.report.jsonl")] == [
        ("deidentified", None, None),
        ("quarantined", "identity-contradiction", "(0010,0030)"),
    ]


@pytest.mark.parametrize("wrong", ["missing-path", "missing-profile", "report-inside"])
def test_wrong_use_is_said_in_a_line(wrong: str, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    args: list[object] = ["--out", out, folder]
    if wrong == "missing-path":
        args[2] = tmp_path / "nowhere"
    elif wrong == "missing-profile":
        args += ["--profile", tmp_path / "nowhere.yaml"]
    else:
        args += ["--report", out / "report.jsonl"]
    done = deidentify(*args)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert not out.exists()


def test_the_report_holds_no_value_of_the_patient(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = deidentify("--out", out, folder)
    source = pydicom.dcmread(folder / "three")
    text = (tmp_path / "out.report.jsonl").read_text() + done.stdout + done.stderr
    for value in (source.PatientID, str(source.PatientName), source.StudyInstanceUID, source.SOPInstanceUID):
        assert value not in text
