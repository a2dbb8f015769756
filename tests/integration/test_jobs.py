"""Jobs on real servers: over what is stored already, by REST through the plugin, until the peer has confirmed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.builders import Origin, ct, mr, person, to_bytes, us
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = pytest.mark.integration

JOBS_ONLY: dict[str, Any] = {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "instance"}
PROJECTS: dict[str, dict[str, Any]] = {
    "lung": JOBS_ONLY,
    "kept": {"Profile": "basic", "KeepResearchCopy": True, "Release": "instance"},
    "trial": {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "manual"},
}
PEOPLE = (person(1), person(2))


class Hospital:
    """A clinical server with two patients of two studies each (a series of 3 CT, one MR), and a research peer."""

    def __init__(self, clinical: Orthanc, peer: Orthanc) -> None:
        self.clinical, self.peer = clinical, peer
        self.ids: dict[str, str] = {}
        self.instances: list[str] = []
        for who in PEOPLE:
            for study in (1, 2):
                objects = [ct(Origin(who, study, 1, number)) for number in (1, 2, 3)] + [mr(Origin(who, study, 2))]
                for one in objects:
                    stored = clinical.store(to_bytes(one))
                    self.instances.append(stored["ID"])
                    name = f"{who.number}/{study}"
                    self.ids.setdefault(f"patients {who.number}", stored["ParentPatient"])
                    self.ids.setdefault(f"studies {name}", stored["ParentStudy"])
                    self.ids.setdefault(f"series {name}", stored["ParentSeries"])
                    self.ids.setdefault(f"instances {name}", stored["ID"])

    def start(self, level: str, name: str, project: str = "lung", **body: Any) -> str:
        """Start a job beside one of Orthanc's resources; return its path."""
        resource = self.ids[f"{level} {name}"]
        started = self.clinical.post(f"/{level}/{resource}/deidentify", {"Project": project, **body})
        assert started["Path"] == f"/deid/jobs/{started['ID']}"
        return str(started["Path"])

    def end(self, path: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until a job has ended; return it."""

        def ended() -> dict[str, Any] | None:
            response = self.clinical.request("GET", path)
            job = response.json() if response.ok else {}
            return job if job.get("State") in ("Success", "Failure") else None

        job = until(ended, seconds, f"the job to end ({self.clinical.tail(3)})")
        assert job is not None
        return job

    def run(self, level: str, name: str, project: str = "lung", **body: Any) -> dict[str, Any]:
        """Start a job and wait for its end."""
        return self.end(self.start(level, name, project, **body))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    """One such pair of servers for the tests that do not disturb each other; nothing is processed but by jobs."""
    folder = tmp_path_factory.mktemp("hospital")
    with (
        research_orthanc(folder / "research") as peer,
        clinical_orthanc(folder / "clinical", {"research": peer}, deid_section(Projects=PROJECTS)) as clinical,
    ):
        yield Hospital(clinical, peer)


def test_jobs_of_every_level_bring_exactly_their_instances_to_the_peer(hospital: Hospital) -> None:
    assert hospital.peer.instances() == set()
    counts = []
    for level, name in (("instances", "1/1"), ("series", "1/1"), ("studies", "1/1"), ("patients", "1")):
        job = hospital.run(level, name)
        assert (job["State"], job["Progress"], job["ErrorCode"]) == ("Success", 100, 0)
        assert set(job["Content"]["Outcomes"]) == {"confirmed"}
        counts.append((job["Content"]["Instances"], len(hospital.peer.instances())))
    assert counts == [(1, 1), (3, 3), (4, 4), (8, 8)]
    names = {str(dataset.PatientName) for dataset in hospital.peer.datasets()}
    assert len(names) == 1 and PEOPLE[0].name not in names


def test_a_job_over_a_query_and_one_over_everything(hospital: Hospital) -> None:
    query = {"Project": "lung", "Query": {"PatientID": PEOPLE[1].patient_id, "ModalitiesInStudy": "MR"}}
    job = hospital.end(f"/deid/jobs/{hospital.clinical.post('/deid/jobs', query)['ID']}")
    assert job["State"] == "Success" and job["Content"]["Instances"] == 8
    job = hospital.end(f"/deid/jobs/{hospital.clinical.post('/deid/jobs', {'Project': 'lung', 'Query': {}})['ID']}")
    assert job["State"] == "Success" and job["Content"]["Instances"] >= 16
    assert len(hospital.peer.instances()) == 16


def test_a_dry_run_says_what_would_happen_and_leaves_no_trace(hospital: Hospital) -> None:
    held = hospital.clinical.store(to_bytes(us(Origin(person(3)))))
    body = {"Project": "trial", "Resources": [held["ID"], hospital.ids["studies 1/1"]], "DryRun": True}
    job = hospital.end(f"/deid/jobs/{hospital.clinical.post('/deid/jobs', body)['ID']}")
    assert job["Type"] == "DeidentifyDryRun"
    assert job["Content"]["Outcomes"] == {"deidentified": 4, "quarantined": 1}
    assert job["Content"]["Reasons"] == {"pixels-not-cleaned": 1} and job["Content"]["Actions"]
    assert hospital.clinical.get("/deid/projects/trial")["Outcomes"] == {}
    assert hospital.clinical.get("/deid/projects/trial/studies") == []
    outbox = hospital.clinical.folder / "orthanc-deid" / "outbox"
    assert [path for path in outbox.glob("*/*") if path.is_file()] == []


def test_the_research_copy_is_named_and_not_processed_again(hospital: Hospital) -> None:
    job = hospital.run("studies", "2/2", "kept")
    (study,) = job["Content"]["ResearchStudies"]
    copy = hospital.clinical.get(f"/studies/{study['ID']}")
    assert copy["MainDicomTags"]["StudyInstanceUID"] == study["StudyInstanceUID"]
    again = hospital.clinical.post(f"/studies/{study['ID']}/deidentify", {"Project": "lung"})
    job = hospital.end(again["Path"])
    assert (job["State"], job["Content"]["Instances"], job["Content"]["Skipped"]) == ("Success", 0, 4)


def test_a_manual_release_sends_what_the_job_made(hospital: Hospital) -> None:
    before = hospital.peer.instances()
    job = hospital.run("studies", "2/1", "trial")
    assert job["State"] == "Success" and job["Content"]["Outcomes"] == {"ready": 4}
    assert hospital.peer.instances() == before
    (study,) = hospital.clinical.get("/deid/projects/trial/studies")
    path = f"/deid/projects/trial/studies/{study['StudyInstanceUID']}"
    hospital.clinical.post(f"{path}/hold")
    hospital.clinical.post(f"{path}/release")
    until(lambda: len(hospital.peer.instances()) == len(before) + 4, 30, "the released study at the peer")


def test_what_is_held_is_listed_tried_again_and_left_out(hospital: Hospital) -> None:
    stored = hospital.clinical.store(to_bytes(us(Origin(person(4)))))
    job = hospital.end(hospital.clinical.post(f"/instances/{stored['ID']}/deidentify", {"Project": "lung"})["Path"])
    assert job["State"] == "Failure" and "pixels-not-cleaned 1" in job["ErrorDescription"]
    items = hospital.clinical.get("/deid/quarantine?project=lung&reason=pixels-not-cleaned")
    item = items[-1]
    hospital.clinical.post(f"/deid/quarantine/{item['ID']}", {"Action": "retry"})
    until(
        lambda: hospital.clinical.request("GET", f"/deid/quarantine/{item['ID']}").ok,
        30,
        "the second attempt to end in quarantine too",
    )
    hospital.clinical.post(f"/deid/quarantine/{item['ID']}", {"Action": "exclude"})
    assert hospital.clinical.request("GET", f"/deid/quarantine/{item['ID']}").status_code == 404


def test_errors_come_through_the_plugin_as_they_are(hospital: Hospital) -> None:
    study = f"/studies/{hospital.ids['studies 1/1']}/deidentify"
    cases: list[tuple[str, str, dict[str, Any], int, str]] = [
        ("POST", study, {"json": {"Project": "liver"}}, 404, "unknown project"),
        ("POST", "/studies/0/deidentify", {"json": {"Project": "lung"}}, 404, "unknown resource"),
        ("POST", study, {"json": {"Projekt": "lung"}}, 400, "bad request"),
        ("POST", study, {"data": "{", "headers": {"Content-Type": "application/json"}}, 400, "bad request"),
        ("POST", study, {"data": "Project=lung"}, 415, "unsupported media type"),
        ("POST", study, {"json": {"Project": "lung"}, "headers": {"Origin": "http://evil.example"}}, 403, "forbidden"),
        ("GET", "/deid/jobs/nothing", {}, 404, "unknown job"),
        ("POST", "/deid/jobs/nothing/cancel", {}, 404, "unknown job"),
        ("GET", "/deid/nothing", {}, 404, "not found"),
    ]
    for method, path, options, status, error in cases:
        response = hospital.clinical.request(method, path, **options)
        assert response.status_code == status, (path, response.text)
        assert response.json()["error"] == error and response.json()["detail"]


def test_the_description_and_the_metrics_are_served(hospital: Hospital) -> None:
    assert "/deid/jobs" in hospital.clinical.get("/deid/openapi.json")["paths"]
    metrics = hospital.clinical.request("GET", "/deid/metrics")
    assert metrics.ok and "deid_" in metrics.text


def test_no_source_stands_in_lists_logs_or_database(hospital: Hospital) -> None:
    hospital.run("patients", "1")
    routes = ("/deid/jobs", "/deid/projects", "/deid/projects/lung/studies", "/deid/quarantine", "/deid/health")
    places = {route: hospital.clinical.get_bytes(route) for route in routes}
    places["log"] = hospital.clinical.log.read_bytes()
    folder = hospital.clinical.folder / "orthanc-deid"
    for path in folder.rglob("*.sqlite3*"):
        places[path.name] = path.read_bytes()
    assert "deid.sqlite3" in places
    wanted = [*hospital.ids.values(), *hospital.instances]
    for who in PEOPLE:
        wanted += [who.patient_id, who.name, who.name.split("^")[0], who.other_id]
    for place, text in places.items():
        assert [value for value in wanted if value.encode() in text] == [], place


def many(clinical: Orthanc, count: int) -> str:
    """Store one study of so many slices; return the study's id."""
    ids = {clinical.store(to_bytes(ct(Origin(person(5), 1, 1, n))))["ParentStudy"] for n in range(1, count + 1)}
    (study,) = ids
    return str(study)


def test_a_job_survives_the_death_of_the_service(tmp_path: Path) -> None:
    with (
        research_orthanc(tmp_path / "research") as peer,
        clinical_orthanc(tmp_path / "clinical", {"research": peer}, deid_section(Projects=PROJECTS)) as clinical,
    ):
        study = many(clinical, 60)
        path = clinical.post(f"/studies/{study}/deidentify", {"Project": "lung"})["Path"]
        os.kill(clinical.service_pid, signal.SIGKILL)
        clinical.wait_ready()
        until(lambda: len(peer.instances()) > 5, 60, "the first instances at the peer")
        os.kill(clinical.service_pid, signal.SIGKILL)
        clinical.wait_ready()

        def done() -> bool:
            try:
                return bool(clinical.get(path)["State"] == "Success")
            except (AssertionError, requests.RequestException):
                return False

        until(done, 120, "the job to end")
        job = clinical.get(path)
        assert job["Content"]["Outcomes"] == {"confirmed": 60}
        assert len(peer.instances()) == 60


def test_a_job_is_paused_resumed_cancelled_and_resubmitted(tmp_path: Path) -> None:
    with (
        research_orthanc(tmp_path / "research") as peer,
        clinical_orthanc(tmp_path / "clinical", {"research": peer}, deid_section(Projects=PROJECTS)) as clinical,
    ):
        study = many(clinical, 150)
        path = clinical.post(f"/studies/{study}/deidentify", {"Project": "lung"})["Path"]
        clinical.post(f"{path}/pause")
        assert clinical.get(path)["State"] == "Paused"
        in_hand = ("queued", "working", "ready", "released")

        def rests() -> bool:
            outcomes = clinical.get(path)["Content"]["Outcomes"]
            return not any(outcomes.get(state) for state in in_hand)

        until(rests, 60, "what was begun to be finished")
        assert clinical.get(path)["Content"]["Outcomes"].get("confirmed", 0) == len(peer.instances())
        clinical.post(f"{path}/resume")
        clinical.post(f"{path}/cancel")
        until(rests, 60, "what was begun to be finished")
        job = clinical.get(path)
        assert (job["State"], job["ErrorCode"]) == ("Failure", 37)
        clinical.post(f"{path}/resubmit")
        until(lambda: clinical.get(path)["State"] == "Success", 120, "the job to end")
        assert clinical.get(path)["Content"]["Outcomes"] == {"confirmed": 150}
        assert len(peer.instances()) == 150
