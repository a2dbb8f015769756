"""The buttons for Orthanc Explorer 2 call routes that exist, with bodies that they take, for an existing project."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urljoin

import pytest
from orthanc_deid.api.models import DeidentifyBody, JobBody
from orthanc_deid.orthanc.resources import LEVELS

from tests.orthancs import CHECKOUT
from tests.service_double import orthanc_id

FOLDER = CHECKOUT / "orthanc-config"
PLACES = {"study": "studies", "series": "series", "instance": "instances"}
BUTTONS: dict[str, list[dict[str, Any]]] = json.loads((FOLDER / "explorer2.json").read_text())["OrthancExplorer2"][
    "UiOptions"
]["CustomButtons"]


def address(button: dict[str, Any]) -> str:
    """The path that a click asks for, seen from Orthanc Explorer 2's page behind a prefix."""
    return urljoin("/prefix/ui/app/", button["Url"].replace("{UUID}", orthanc_id("x")))


@pytest.mark.parametrize("place", PLACES)
def test_a_button_of_a_resource_starts_a_job_over_it(place: str) -> None:
    level = PLACES[place]
    assert level in LEVELS
    for button in BUTTONS[place]:
        assert button["HttpMethod"] == "POST"
        assert address(button) == f"/prefix/{level}/{orthanc_id('x')}/deidentify"
        DeidentifyBody.model_validate(button["Payload"])


def test_the_button_of_a_selection_starts_one_job_over_all_of_it() -> None:
    (button,) = BUTTONS["bulk-studies"]
    assert (button["HttpMethod"], address(button)) == ("POST", "/prefix/deid/jobs")
    # Orthanc Explorer 2 puts a list in the place of exactly this text.
    assert button["Payload"]["Resources"] == "{JsonArrayUUIDs}"
    JobBody.model_validate({**button["Payload"], "Resources": [orthanc_id("x"), orthanc_id("y")]})


def test_the_project_is_the_one_of_the_configuration_beside_it() -> None:
    projects = {button["Payload"]["Project"] for place in BUTTONS.values() for button in place}
    text = re.sub(r"^\s*//.*$", "", (FOLDER / "deid.json").read_text(), flags=re.MULTILINE)
    assert projects <= set(json.loads(text)["Deid"]["Projects"])
