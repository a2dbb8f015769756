"""The doctor on running servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from orthanc_deid.doctor import ERROR, OK, findings

from tests.orthancs import Orthanc, clinical_orthanc, deid_section

pytestmark = pytest.mark.integration


def found(clinical: Orthanc) -> dict[str, str]:
    """The level of each thing that the doctor looks at."""
    return {finding.what: finding.level for finding in findings(clinical.folder / "orthanc.json")}


def test_a_running_installation_is_well_until_its_peer_stops(clinical: Orthanc, research: Orthanc) -> None:
    levels = found(clinical)
    for what in (
        "configuration",
        "data folder",
        "master key",
        "database",
        "Orthanc",
        "clock",
        "plugin",
        "peer research",
    ):
        assert levels[what] == OK, what
    assert ERROR not in levels.values()
    research.stop()
    levels = found(clinical)
    assert levels["peer research"] == ERROR
    assert levels["plugin"] == OK


def test_an_orthanc_that_runs_without_the_plugin_is_found_out(tmp_path: Path, research: Orthanc) -> None:
    with clinical_orthanc(tmp_path, {"research": research}, plugin=False, Deid=deid_section()) as clinical:
        assert found(clinical)["plugin"] == ERROR
