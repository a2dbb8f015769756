"""Cohorts from another archive: a second Orthanc that is asked by C-FIND and C-MOVE, and by DICOMweb."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.builders import Origin, ct, person, to_bytes
from tests.flow import identifying, sweep
from tests.orthancs import clinical_orthanc, deid_section, research_orthanc, until

pytestmark = pytest.mark.integration

PROJECT: dict[str, Any] = {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "instance"}
SLICES = 4


class Archive:
    """A clinical server, a research peer, and a PACS that the clinical server knows by both protocols."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.pacs = stack.enter_context(research_orthanc(folder / "pacs", Name="pacs", DicomAet="PACS"))
        self.peer = stack.enter_context(research_orthanc(folder / "research"))
        self.clinical = stack.enter_context(
            clinical_orthanc(
                folder / "clinical",
                {"research": self.peer},
                deid_section(Projects={"lung": PROJECT}),
                start=False,
                DicomModalities={"pacs": ["PACS", "127.0.0.1", self.pacs.dicom_port]},
                DicomWeb={"Enable": True, "Servers": {"web": [self.pacs.url + "/dicom-web/"]}},
            )
        )
        self.pacs.stop()
        self.pacs.configuration["DicomModalities"] = {
            "clinical": [self.clinical.configuration["DicomAet"], "127.0.0.1", self.clinical.dicom_port]
        }
        self.pacs.start()
        self.clinical.start()
        self.clinical.wait_ready()

    def fill(self, number: int, studies: tuple[int, ...] = (1,)) -> None:
        """Store studies of a patient in the PACS."""
        for study in studies:
            for slice_ in range(1, SLICES + 1):
                self.pacs.store(to_bytes(ct(Origin(person(number), study, 1, slice_))))

    def start(self, source: dict[str, str], cohort: list[dict[str, str]], **more: Any) -> str:
        """Start a job over a cohort; return its path."""
        body = {"Project": "lung", "From": source, "Cohort": cohort, **more}
        return f"/deid/jobs/{self.clinical.post('/deid/jobs', body)['ID']}"

    def job(self, path: str) -> dict[str, Any]:
        """The job, {} while the service is away."""
        try:
            response = self.clinical.request("GET", path)
        except requests.RequestException:
            return {}
        return dict(response.json()) if response.ok else {}

    def end(self, path: str, seconds: float = 90) -> dict[str, Any]:
        """Wait until a job has ended."""
        until(lambda: self.job(path).get("State") in ("Success", "Failure"), seconds, f"the job's end {self.job(path)}")
        return self.job(path)

    def lines(self, path: str) -> list[tuple[str, str, str]]:
        """(line, state, reason) as the report tells them."""
        table = csv.DictReader(io.StringIO(self.clinical.get_bytes(f"{path}/report.csv").decode()))
        return [(row["Key"], row["Outcome"], row["Reason"]) for row in table if row["Section"] == "line"]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Servers of one test."""
    with contextlib.ExitStack() as stack:
        yield Archive(tmp_path, stack)


@pytest.mark.parametrize("source", [{"Modality": "pacs"}, {"DicomWeb": "web"}])
def test_a_cohort_is_fetched_deidentified_and_reported_by_line(archive: Archive, source: dict[str, str]) -> None:
    archive.fill(1, (1, 2))
    archive.fill(2)
    archive.fill(3)
    here = archive.clinical.store(to_bytes(ct(Origin(person(2), 1, 1, 1))))["ID"]
    more = {"PatientBirthDate": person(1).birth_date, "StudyDate": "19000101-20991231", "ModalitiesInStudy": "CT"}
    if "Modality" in source:  # Orthanc's QIDO-RS does not find what is in small letters
        more["PatientName"] = person(1).name.split("^")[0].lower() + "*"
    cohort = [
        {"PatientID": person(1).patient_id, **more},
        {"StudyInstanceUID": Origin(person(2), 1).study_uid},
        {"AccessionNumber": person(3).accession(1)},
        {"PatientID": "NOBODY-AT-ALL"},
    ]
    dry = archive.end(archive.start(source, cohort, DryRun=True))
    assert dry["Content"]["Lines"] == {"found": 3, "not-found": 1}
    assert archive.clinical.instances() == {here}
    path = archive.start(source, cohort, KeepOriginals=False)
    job = archive.end(path)
    assert job["State"] == "Success" and job["Content"]["Outcomes"] == {"confirmed": 4 * SLICES}
    assert job["Content"]["From"] == source and job["Content"]["Lines"] == {"fetched": 3, "not-found": 1}
    states = ["fetched", "fetched", "fetched", "not-found"]
    assert archive.lines(path) == [(str(number), state, "") for number, state in enumerate(states, start=1)]
    assert len(archive.peer.instances()) == 4 * SLICES
    until(lambda: archive.clinical.instances() == {here}, 60, "what was fetched to be deleted, and nothing else")
    until(
        lambda: archive.job(path)["Content"]["OriginalsDeleted"] == 4 * SLICES - 1, 20, "the count of what was deleted"
    )
    values = identifying((1, 2, 3), (1, 2))
    sweep(values, archive.clinical, archive.peer)
    shown = archive.clinical.get_bytes("/deid/jobs") + archive.clinical.get_bytes(f"{path}/report.csv")
    if archive.clinical.request("DELETE", "/jobs/none").status_code != 405:  # 1.10 forgets no job
        shown += archive.clinical.get_bytes("/jobs?expand")
    assert [what for what, value in values.items() if value.encode() in shown] == []


@pytest.mark.one_orthanc
def test_what_is_here_already_is_not_fetched_again_and_what_stays_is_kept(archive: Archive) -> None:
    archive.fill(1)
    for slice_ in range(1, SLICES + 1):
        archive.clinical.store(to_bytes(ct(Origin(person(1), 1, 1, slice_))))
    before = archive.clinical.instances()
    moves = len(archive.clinical.get("/jobs"))
    path = archive.start({"Modality": "pacs"}, [{"PatientID": person(1).patient_id}], KeepOriginals=False)
    job = archive.end(path)
    assert job["Content"]["Outcomes"] == {"confirmed": SLICES}
    assert len(archive.clinical.get("/jobs")) == moves
    assert archive.clinical.instances() == before and job["Content"]["OriginalsDeleted"] == 0


@pytest.mark.one_orthanc
def test_a_table_is_a_cohort_and_faults_name_lines_and_no_values(archive: Archive) -> None:
    archive.fill(1)
    table = f"PatientID;StudyDate\r\n{person(1).patient_id};\r\nNOBODY-AT-ALL;\r\n".encode()

    def post(modality: str, data: bytes) -> requests.Response:
        headers = {"Content-Type": f"text/csv; Project=lung; Modality={modality}"}
        return archive.clinical.request("POST", "/deid/jobs", data=data, headers=headers)

    started = post("pacs", table)
    assert started.status_code == 201, started.text
    job = archive.end(f"/deid/jobs/{started.json()['ID']}")
    assert job["Content"]["Lines"] == {"fetched": 1, "not-found": 1}
    bad = post("pacs", table + b"SECRET*;\r\n")
    assert bad.status_code == 400 and "line 3" in bad.text and "SECRET" not in bad.text
    unknown = post("other", table)
    assert unknown.status_code == 404 and unknown.json()["error"] == "unknown source"


@pytest.mark.parametrize("source", [{"Modality": "pacs"}, {"DicomWeb": "web"}])
def test_an_archive_that_is_down_is_waited_for_and_a_crash_loses_nothing(
    archive: Archive, source: dict[str, str]
) -> None:
    numbers = range(1, 7)
    for number in numbers:
        archive.fill(number)
    archive.pacs.stop()
    cohort = [
        {"PatientID": person(number).patient_id, "AccessionNumber": person(number).accession(1)} for number in numbers
    ]
    path = archive.start(source, cohort, KeepOriginals=False)
    until(
        lambda: "source" in archive.job(path).get("Content", {}).get("Waiting", ""), 60, "the job to say that it waits"
    )
    sweep(identifying(numbers), archive.clinical)
    archive.pacs.start()
    until(lambda: archive.job(path).get("Content", {}).get("Lines", {}).get("fetched"), 90, "a first line")
    os.kill(archive.clinical.service_pid, signal.SIGKILL)
    archive.clinical.wait_ready()
    job = archive.end(path, 120)
    assert job["Content"]["Outcomes"] == {"confirmed": SLICES * len(numbers)}, job
    assert job["Content"]["Lines"] == {"fetched": len(numbers)}
    assert len(archive.peer.instances()) == SLICES * len(numbers)
    until(lambda: not archive.clinical.instances(), 60, "all that was fetched to be deleted")
    sweep(identifying(numbers), archive.clinical, archive.peer)
