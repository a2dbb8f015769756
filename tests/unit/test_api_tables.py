"""A cohort may be sent as a table: the rest of the request are parameters of its type."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from orthanc_deid.api.app import create_app
from orthanc_deid.api.guard import SECRET_HEADER

from tests.asgi import Client
from tests.orthancs import CHECKOUT
from tests.unit.test_cohort import PROJECTS, Pacs, Service

CSV = {"Content-Type": "text/csv; charset=utf-8"}
TABLE = b"PatientID;StudyDate\r\nA;\r\nB;20240101-20241231\r\n"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """The routes of a service with a PACS."""
    service = Service(tmp_path, PROJECTS, CHECKOUT / "profiles")
    service.orthanc = Pacs()
    yield Client(create_app(service, "secret"), {SECRET_HEADER: "secret"})
    service.close()


def post(client: Client, parameters: str, table: bytes = TABLE) -> httpx.Response:
    """Send a table."""
    return client.post("/deid/jobs", content=table, headers={"Content-Type": f"text/csv; {parameters}"})


def test_a_table_starts_a_job_as_its_json_does(client: Client) -> None:
    answer = post(client, 'Project=lung; Modality="pacs"; DryRun=true; KeepOriginals=false; Priority=2; charset=utf-8')
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert (job["Type"], job["Priority"], job["Content"]["From"]) == ("DeidentifyDryRun", 2, {"Modality": "pacs"})
    assert job["Content"]["KeepOriginals"] is False
    body: dict[str, Any] = {"Project": "lung", "From": {"Modality": "pacs"}, "Cohort": [{"PatientID": "A"}]}
    assert client.post("/deid/jobs", json=body).status_code == 201


@pytest.mark.parametrize(
    ("parameters", "table", "status", "text"),
    [
        ("Project=lung", TABLE, 400, "exactly one of"),
        ("Modality=pacs", TABLE, 400, "body.Project"),
        ("Project=lung; Modality=pacs; Pusch=true", TABLE, 400, "body.pusch: unknown key"),
        ("Project=lung; Modality=pacs", TABLE + b"SECRET*;\r\n", 400, "line 3: PatientID has to be one value"),
        ("Project=lung; Modality=pacs", b"PatientID\r\n", 400, "needs a header"),
        ("Project=lung; Modality=other", TABLE, 404, "no modality"),
        ("Project=lungs; Modality=pacs", TABLE, 404, "no project"),
    ],
)
def test_a_wrong_table_is_refused_and_not_quoted(
    client: Client, parameters: str, table: bytes, status: int, text: str
) -> None:
    answer = post(client, parameters, table)
    assert answer.status_code == status and text in answer.text and "SECRET" not in answer.text


def test_other_routes_take_no_table(client: Client) -> None:
    answer = client.post("/deid/jobs/x/cancel", content=TABLE, headers=CSV)
    assert answer.status_code == 415
