"""Outputs are read again by others: pydicom strictly, and DCMTK's dcmdump, neither of which has a word to say."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pydicom
import pytest

from tests import builders
from tests.engine import deidentify, shipped

EVERY = ["basic", "research", "full-dates", "teaching-file", "radiotherapy", "ct-research-age-bands"]
LENGTHS = [{}, {"undefined": True, "undefined_items": True}]


@pytest.mark.parametrize("profile", EVERY)
@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
def test_dcmtk_reads_every_object(tmp_path: Path, syntax: str, profile: str) -> None:
    files = []
    for name, make in builders.PASS.items():
        for number, options in enumerate(LENGTHS):
            path = tmp_path / f"{name}-{number}.dcm"
            path.write_bytes(deidentify(builders.to_bytes(make(), syntax, **options), profile=shipped(profile)))
            files.append(path)
    assert len(files) > 40
    done = subprocess.run(["dcmdump", "-q", "+E", *map(str, files)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    loud = subprocess.run(["dcmdump", "-v", *map(str, files)], capture_output=True, text=True, timeout=120)
    assert loud.stdout.count("(0012,0062) CS [YES]") == len(files)
    assert not [line for line in loud.stderr.splitlines() if line.startswith(("W:", "E:"))]


@pytest.mark.parametrize("profile", EVERY)
@pytest.mark.parametrize("name", sorted(builders.PASS))
def test_pydicom_reads_every_value(name: str, profile: str) -> None:
    data = deidentify(builders.to_bytes(builders.PASS[name]()), profile=shipped(profile))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pydicom.config.settings, "reading_validation_mode", pydicom.config.RAISE)
        dataset = pydicom.dcmread(io.BytesIO(data))
        values = [element.value for element in dataset.iterall()]
    assert len(values) > 10
