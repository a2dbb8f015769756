"""The report about outputs: pairs found, only differences shown, no value in it, and what was not checked is said."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from orthanc_deid import validity
from orthanc_deid.cli import main
from orthanc_deid.validity import Finding, parse

from tests import builders

PROFILES = Path(__file__).parents[2] / "profiles"
BASIC = str(PROFILES / "basic.yaml")

MESSAGES = """\
Warning - </PatientName(0010,0010)[1]> - Value dubious for this VR [PN] = <ZZYZXLEY> - Retired Person Name form
Error - </Laterality(0020,0060)> - Missing attribute for Type 2C Conditional - Module=<GeneralSeries>
Error - </Laterality(0020,0060)> - Missing attribute for Type 2C Conditional - Module=<GeneralSeries>
CTImage
Warning - </RequestAttributesSequence(0040,0275)[1]/CodeValue(0008,0100)[1]> - Unrecognized defined term = <ZZYZXLEY>
Warning - </(0009,1010,"ZZYZXLEY")/(0010,0010)> - Unrecognized tag - explicit value representation is UN
Error - </SeriesDescription(0008,103e)[1]> - Value invalid for this VR [LO] = <first line
ZZYZXLEY the rest of it> - Character invalid for this VR
Error - Number of values 4711471 does not match
"""


def test_messages_are_read_without_values_creators_and_item_numbers() -> None:
    found = parse(MESSAGES)
    assert found == Counter(
        {
            Finding("Error", "Laterality", "Missing attribute for Type 2C Conditional, module GeneralSeries"): 2,
            Finding("Warning", "PatientName", "Value dubious for this VR [PN]"): 1,
            Finding("Warning", "RequestAttributesSequence/CodeValue", "Unrecognized defined term"): 1,
            Finding("Warning", "(private)/(unknown)", "Unrecognized tag - explicit value representation is UN"): 1,
            Finding("Error", "SeriesDescription", "Value invalid for this VR [LO]"): 1,
            Finding("Error", "", "Number of values … does not match"): 1,
        }
    )
    assert "ZZYZXLEY" not in repr(found) and "4711" not in repr(found)


def test_a_difference_counts_how_often() -> None:
    one, other = Finding("Error", "A", "x"), Finding("Error", "B", "y")
    comparison = validity.Comparison(Counter({one: 2, other: 1}), Counter({one: 3}))
    assert comparison.added == Counter({one: 1})
    assert comparison.gone == Counter({other: 1})
    assert validity.Comparison(None, Counter({one: 1})).added == Counter()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two CT slices and an ultrasound, which is held, as `before`; what `basic` makes of them as `after`."""
    folder = tmp_path_factory.mktemp("study")
    before = folder / "before"
    before.mkdir()
    for number in (1, 2):
        data = builders.to_bytes(builders.ct(builders.origin(1, 1, 1, number), rows=8, columns=8))
        (before / f"ct{number}.dcm").write_bytes(data)
    (before / "us.dcm").write_bytes(builders.to_bytes(builders.us()))
    command = [sys.executable, "-m", "orthanc_deid", "deidentify", "--profile", BASIC, "--out", folder / "after"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run(
        [*command, "--key-file", folder / "key", before], env=environment, check=True, capture_output=True, timeout=120
    )
    return folder


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    """A copy of it, its report included."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    report = tmp_path / "after.report.jsonl"
    report.write_text(report.read_text().replace(str(template), str(tmp_path)))
    return tmp_path


def script(folder: Path, text: str) -> str:
    """A validator that says what it is told to."""
    path = folder / "validator"
    path.write_text(f"#!{sys.executable}\nimport sys\ndata = open(sys.argv[-1], 'rb').read()\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


NEW_ERROR = """
if b'orthanc-deid' in data:
    print('Error - </StudyID(0020,0010)> - Value invalid for this VR [SH] = <ZZYZX>', file=sys.stderr)
else:
    print('Error - </PatientName(0010,0010)> - Something that goes = <ZZYZX>', file=sys.stderr)
print('Error - </Laterality(0020,0060)> - Something that stays', file=sys.stderr)
"""


def run(study: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    folders = ["--before", str(study / "before"), "--after", str(study / "after")]
    code = main(["conformance", BASIC, *folders, *arguments])
    return code, " ".join(capsys.readouterr().out.split())


def test_only_differences_are_shown_and_a_new_error_is_a_finding(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validity, "tool", lambda: script(study, NEW_ERROR))
    code, text = run(study, capsys)
    assert code == 1
    assert "Judged before and after: 2 of 2 instances. New errors: 2." in text
    assert "StudyID Value invalid for this VR [SH] 2" in text
    assert "PatientName Something that goes 2" in text
    assert "that stays" not in text and "ZZYZX" not in text
    assert "Sources without output (quarantined: pixels-not-cleaned): 1." in text
    assert "CT Image Storage 2 4 4 2 2" in text


def test_nothing_of_the_sources_is_in_the_report(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validity, "tool", lambda: script(study, NEW_ERROR))
    _code, text = run(study, capsys)
    source = builders.read((study / "before" / "ct1.dcm").read_bytes())
    for element in source.iterall():
        value = str(element.value)
        if value and element.VR in ("PN", "UI", "DA") and "SOPClass" not in element.keyword:
            assert value not in text, element.keyword
    for value in (source.PatientID, source.AccessionNumber, source.InstitutionName, "ct1"):
        assert value not in text


@pytest.mark.parametrize("how", ["report", "default", "key", "names"])
def test_pairs_are_found(
    study: Path, how: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validity, "tool", lambda: script(study, "pass"))
    report = study / "after.report.jsonl"
    arguments: list[str] = []
    if how == "report":
        report = report.rename(study / "elsewhere.jsonl")
        arguments = ["--report", str(report)]
    elif how == "key":
        arguments = ["--key-file", str(study / "key")]
    elif how == "names":
        for line in report.read_text().splitlines():
            entry = json.loads(line)
            if entry["output"]:
                Path(entry["output"]).rename(study / "after" / Path(entry["source"]).name)
        report.unlink()
    code, text = run(study, capsys, *arguments)
    assert code == 0
    assert "2 of 2 instances. New errors: 0." in text
    assert "Sources without output" in text


def test_the_key_of_another_project_finds_no_pair(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validity, "tool", lambda: script(study, "pass"))
    code, text = run(study, capsys, "--key-file", str(study / "key"), "--project", "other")
    assert code == 1
    assert "0 of 0 instances" in text and "All outputs" not in text
    assert "Sources without output (no output): 3." in text
    assert "have no source here, and were not compared: 2." in text


def test_a_missing_validator_is_said_plainly(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validity, "tool", lambda: None)
    code, text = run(study, capsys)
    assert code == 1
    assert "Validity was NOT checked: dciodvfy is not installed" in text
    assert "New errors" not in text and "not checked" in text


@pytest.mark.parametrize(
    ("text", "words", "code"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGABRT)", "gave up on the source already: 2.", 0),
        (
            "import os, signal\nif b'orthanc-deid' in data: os.kill(os.getpid(), signal.SIGABRT)",
            "but not on the source: 2.",
            1,
        ),
    ],
)
def test_a_validator_that_dies_judges_nothing(
    study: Path, text: str, words: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validity, "tool", lambda: script(study, text))
    got, said = run(study, capsys)
    assert words in said and "0 of 2 instances" in said
    assert got == code


def test_outputs_of_another_profile_are_a_finding(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(validity, "tool", lambda: script(study, "pass"))
    folders = ["--before", str(study / "before"), "--after", str(study / "after")]
    assert main(["conformance", str(PROFILES / "ct-research-age-bands.yaml"), *folders]) == 1
    assert "not made by this profile in this version, by their own mark: 2." in " ".join(
        capsys.readouterr().out.split()
    )


def test_what_is_no_report_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "wrong.jsonl").write_text('{"something": "else"}\n')
    code, _text = run(study, capsys, "--report", str(study / "wrong.jsonl"))
    assert code == 2


@pytest.mark.skipif(validity.tool() is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
def test_debians_validator_finds_nothing_new(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = run(study, capsys)
    assert code == 0
    assert "Validator dciodvfy (dicom3tools 1." in text
    assert "Judged before and after: 2 of 2 instances. New errors: 0." in text
