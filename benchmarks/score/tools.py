"""What is scored: the engine as `orthanc-deid deidentify` runs it, and tools of which the score is known.

A tool takes a patient's files and a folder, and writes outputs under the sources' names. The saboteurs and the oracle
show that the scorer can fail and the key can be met.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pydicom
from orthanc_deid.cli_deidentify import Batch
from orthanc_deid.core.profile import Profile
from orthanc_deid.identity.keys import MasterKey
from pydicom.dataset import Dataset

from benchmarks.score.key import Answer, index

Tool = Callable[[list[Path], Path, list[Answer]], dict[Path, str]]
"""(sources, folder for outputs, their answers) → why each source without output was held."""

PROFILES = Path(__file__).resolve().parents[2] / "profiles"


def engine(profile: str, key: bytes) -> Tool:
    """The product with a profile of the profiles folder (or a path) and a master key of 32 bytes."""
    path = PROFILES / f"{profile}.yaml" if not profile.endswith((".yaml", ".yml")) else Path(profile)
    loaded = Profile.load(path)

    def run(sources: list[Path], out: Path, answers: list[Answer]) -> dict[Path, str]:
        report = io.StringIO()
        batch = Batch(loaded, MasterKey({1: key}).project("default"), out)
        for source in sources:
            batch.one(source, out / source.name, report)
        lines = [json.loads(line) for line in report.getvalue().splitlines()]
        return {
            Path(line["source"]): f"{line['reason']} {line.get('tag', '')} {line.get('detail', '')}".strip()
            for line in lines
            if line["outcome"] != "deidentified"
        }

    return run


def identity(sources: list[Path], out: Path, answers: list[Answer]) -> dict[Path, str]:
    """Change nothing: every check of removal, of dates and of UIDs must fail."""
    for source in sources:
        shutil.copyfile(source, out / source.name)
    return {}


def wipe(sources: list[Path], out: Path, answers: list[Answer]) -> dict[Path, str]:
    """Leave the identifiers of the instance, renewed, and nothing else: every check of retention must fail."""
    for source in sources:
        before = pydicom.dcmread(source)
        after = Dataset()
        for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "PatientID"):
            value = str(before[keyword].value)
            setattr(after, keyword, value if keyword == "SOPClassUID" else _renewed(value))
        _save(after, before, out / source.name)
    return {}


def oracle(sources: list[Path], out: Path, answers: list[Answer]) -> dict[Path, str]:
    """Do what the key says and nothing else, so that every check passes if the key contradicts itself nowhere."""
    for source, answer in zip(sources, answers, strict=True):
        dataset = pydicom.dcmread(source)
        places = dict(index(dataset))
        for check in answer.checks:
            element = places[check.path]
            if check.action in ("uid_changed", "patid_consistent"):
                if element.VR in ("UI", "LO") and not _texts(element.value, check):
                    element.value = _renewed(str(element.value))
                else:
                    element.value = _without(element.value, check.value)
            elif check.action == "text_removed" and element.keyword != "PatientID":
                gone = check.text if element.VR in ("LO", "SH", "ST", "LT", "UT", "PN", "UC") else str(element.value)
                element.value = _without(element.value, gone) if not isinstance(element.value, bytes) else b""
                if not element.value and element.VR == "AS":
                    element.value = "090Y"
            elif check.action == "date_shifted":
                if element.VR in ("DA", "DT"):
                    element.value = "1901" + str(element.value)[4:]
                else:
                    element.value = _without(element.value, check.value)
        _save(dataset, dataset, out / source.name)
    return {}


def _texts(value: object, check: object) -> bool:
    text, whole = str(value), str(getattr(check, "value", ""))
    return text != whole and whole in text


def _without(value: object, part: str) -> object:
    if isinstance(value, (int, float)):
        return None
    if isinstance(value, list) or hasattr(value, "insert"):
        return [_without(one, part) for one in value]  # type: ignore[attr-defined]
    text = str(value)
    return "" if text == part else text.replace(part, "")


def _renewed(uid: str) -> str:
    return "2.25." + str(int.from_bytes(hashlib.sha256(uid.encode()).digest()[:16], "big"))


def _save(dataset: Dataset, source: Dataset, path: Path) -> None:
    dataset.file_meta = source.file_meta
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
