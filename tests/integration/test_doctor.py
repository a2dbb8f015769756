"""The doctor on running servers, run by the Python that runs the service."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.orthancs import CHECKOUT, Orthanc, clinical_orthanc, deid_section, source

pytestmark = pytest.mark.integration


def doctor(clinical: Orthanc) -> tuple[int, str]:
    """The doctor's exit status, and what it says with single spaces."""
    argv = [source().python, "-m", "orthanc_deid", "doctor", "--config", str(clinical.folder / "orthanc.json")]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT / "plugin"), "COLUMNS": "200"}
    done = subprocess.run(
        source().command(argv, [clinical.folder]), capture_output=True, text=True, env=environment, check=False
    )
    assert not done.stderr
    return done.returncode, " ".join(done.stdout.split())


def test_a_running_installation_is_well_until_its_peer_stops(clinical: Orthanc, research: Orthanc) -> None:
    code, told = doctor(clinical)
    assert code in (0, 2), told  # a machine may deserve warnings
    for what in (
        "configuration",
        "interpreter",
        "data folder",
        "master key",
        "database",
        "Orthanc",
        "clock",
        "plugin",
        "time zone",
        "packages",
    ):
        assert f"ok {what} " in told
    assert "ok peer research Orthanc 1." in told
    research.stop()
    code, told = doctor(clinical)
    assert code == 1
    assert "error peer research " in told
    assert told.count("error ") == 1


def test_an_orthanc_that_runs_without_the_plugin_is_found_out(tmp_path: Path, research: Orthanc) -> None:
    with clinical_orthanc(tmp_path, {"research": research}, plugin=False, Deid=deid_section()) as clinical:
        code, told = doctor(clinical)
        assert code == 1
        assert "error plugin not loaded" in told
