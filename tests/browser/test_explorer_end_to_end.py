"""The button with the real plugin and service behind it: from a study to its research copy, by clicks only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import Browser
from tests.builders import Origin, ct, person, to_bytes, us
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = [pytest.mark.browser, pytest.mark.integration]

WHO = person(1)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Orthanc, Orthanc]]:
    """A clinical Orthanc with one project that keeps its copies and pushes, and the peer."""
    project = {
        "Profile": "basic",
        "Destinations": [{"Peer": "research"}],
        "Release": "instance",
        "KeepResearchCopy": True,
    }
    with (
        research_orthanc(tmp_path / "research") as peer,
        clinical_orthanc(
            tmp_path / "clinical", {"research": peer}, deid_section(Projects={"lung": project})
        ) as clinical,
    ):
        yield clinical, peer


def test_a_study_is_deidentified_from_its_page(browser: Browser, servers: tuple[Orthanc, Orthanc]) -> None:
    clinical, peer = servers
    stored = [clinical.store(to_bytes(ct(Origin(WHO, 1, 1, number)))) for number in range(1, 9)]
    clinical.store(to_bytes(us(Origin(WHO, 1, 2))))
    browser.open(f"{clinical.url}/app/explorer.html#study?uuid={stored[0]['ParentStudy']}")
    browser.one("#study-deidentify").click()
    assert "goes to research" in browser.wait_text("for the project lung?")
    browser.one("#deid-start").click()
    shown = browser.wait_text("Done: 9 instances.", seconds=60)
    assert "8 de-identified and confirmed" in shown and "1 held in quarantine" in shown
    assert "1 pixels-not-cleaned" in shown
    assert len(peer.instances()) == 8
    browser.one("#deid-links a").click()
    until(lambda: browser.all("#study-info li"), 20, "the page of the research study")
    shown = until(lambda: browser.text("#study-info"), 20, "what the page says of the study")
    pseudonym = str(peer.datasets()[0].PatientID)
    assert pseudonym in shown
    assert WHO.patient_id not in shown and WHO.name.split("^")[0] not in shown
    assert browser.script_errors() == []
