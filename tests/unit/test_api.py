"""The routes: what they take, what they answer, and what they refuse, on the real database with work done on call."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from orthanc_deid.api.app import create_app
from orthanc_deid.api.guard import MAX_BODY, SECRET_HEADER

from tests.asgi import Client
from tests.orthancs import CHECKOUT
from tests.service_double import ServiceDouble, orthanc_id

SECRET = "the secret of this start-up"
PROJECTS: dict[str, dict[str, Any]] = {
    "lung": {
        "Profile": "basic",
        "Destinations": [{"Peer": "research"}],
        "Release": "instance",
        "KeepResearchCopy": True,
    },
    "trial": {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "manual"},
}
ONE = orthanc_id("PAT-SECRET/one")


class Api:
    """The application with a service behind it; requests carry the secret unless told otherwise."""

    def __init__(self, service: ServiceDouble) -> None:
        self.service = service
        self.client = Client(create_app(service, SECRET), {SECRET_HEADER: SECRET})

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET."""
        return self.client.get(path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """POST of JSON, or of nothing."""
        return self.client.post(path, **({} if body is None else {"json": body}), **options)

    def turns(self, count: int = 10) -> None:
        """Let the jobs get on."""
        self.service.jobs._runner.wake()
        for _ in range(count):
            self.service.jobs._runner.turn()

    def run(self, path: str = f"/studies/{ONE}/deidentify", project: str = "lung", **work: Any) -> str:
        """A job over a resource, done to its end. Returns its id."""
        job = str(self.post(path, {"Project": project}).json()["ID"])
        self.turns()
        self.service.work(**work)
        self.turns()
        return job


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A service with one patient of 3 + 2 instances in two studies, and its routes."""
    service = ServiceDouble(tmp_path, PROJECTS, CHECKOUT / "profiles")
    service.orthanc.add("PAT-SECRET", "one", "a", 3)
    service.orthanc.add("PAT-SECRET", "two", "b", 2)
    yield Api(service)
    service.close()


def refused(response: httpx.Response, status: int, error: str) -> Any:
    """Check that an answer is this error, in the form of all errors; return its detail."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "detail"} and body["error"] == error
    return body["detail"]


# Jobs


@pytest.mark.parametrize("level", ["patients", "studies", "series", "instances"])
def test_a_job_starts_beside_orthancs_own_routes(api: Api, level: str) -> None:
    name = {"patients": "PAT-SECRET", "studies": "PAT-SECRET/one", "series": "PAT-SECRET/one/a"}
    resource = orthanc_id(name.get(level, "PAT-SECRET/one/a/0"))
    answer = api.post(f"/{level}/{resource}/deidentify", {"Project": "lung"})
    assert answer.status_code == 200
    started = answer.json()
    assert started == {"ID": started["ID"], "Path": f"/deid/jobs/{started['ID']}"}
    assert api.get(started["Path"]).json()["Content"]["Project"] == "lung"


def test_a_resource_of_another_level_is_not_found(api: Api) -> None:
    for path in (f"/series/{ONE}/deidentify", f"/studies/{orthanc_id('x')}/deidentify", "/studies/x/deidentify"):
        refused(api.post(path, {"Project": "lung"}), 404, "unknown resource")


def test_a_job_over_several_resources(api: Api) -> None:
    answer = api.post("/deid/jobs", {"Project": "lung", "Resources": [ONE, orthanc_id("PAT-SECRET/two/b/0"), ONE]})
    assert answer.status_code == 201
    job = answer.json()
    assert answer.headers["location"] == f"/deid/jobs/{job['ID']}"
    assert (job["State"], job["Content"]["Resources"]) == ("Pending", 2)
    api.turns()
    assert api.get(f"/deid/jobs/{job['ID']}").json()["Content"]["Outcomes"] == {"queued": 4}


def test_a_job_over_a_query(api: Api) -> None:
    answer = api.post("/deid/jobs", {"Project": "lung", "Query": {"StudyDescription": "two"}})
    api.turns()
    assert api.get(f"/deid/jobs/{answer.json()['ID']}").json()["Content"]["Instances"] == 2


def test_a_job_from_start_to_success(api: Api) -> None:
    job = api.get(f"/deid/jobs/{api.run()}").json()
    assert (job["State"], job["Progress"], job["Content"]["Outcomes"]) == ("Success", 100, {"confirmed": 3})
    assert len(job["Content"]["ResearchStudies"]) == 1


def test_no_answer_names_a_source(api: Api) -> None:
    api.run(f"/patients/{orthanc_id('PAT-SECRET')}/deidentify", fate=lambda id_: "ready" if id_ < "8" else "value-left")
    paths = ["/deid/jobs", "/deid/projects", "/deid/projects/lung/studies", "/deid/quarantine"]
    texts = "".join(api.get(path).text for path in paths)
    assert "value-left" in texts and "PAT-SECRET" not in texts
    assert not [id_ for id_ in api.service.orthanc.kind if id_ in texts]


def test_jobs_are_listed(api: Api) -> None:
    made = [api.post(f"/studies/{ONE}/deidentify", {"Project": "lung"}).json()["ID"] for _ in range(3)]
    assert [job["ID"] for job in api.get("/deid/jobs").json()] == made[::-1]
    assert api.get("/deid/jobs?expand").json()[0]["Type"] == "Deidentify"
    assert api.get("/deid/jobs?expand=false&since=1&limit=1").json() == [made[1]]
    assert api.get("/deid/jobs?project=trial").json() == []
    refused(api.get("/deid/jobs?limit=0"), 400, "bad request")


def test_jobs_are_cancelled_paused_resumed_and_resubmitted(api: Api) -> None:
    path = api.post(f"/studies/{ONE}/deidentify", {"Project": "lung"}).json()["Path"]
    api.turns()
    for verb, state in (("pause", "Paused"), ("resume", "Running"), ("cancel", "Failure"), ("resubmit", "Pending")):
        answer = api.post(f"{path}/{verb}")
        assert (answer.status_code, answer.json()) == (200, {})
        assert api.get(path).json()["State"] == state
    assert "Pending" in refused(api.post(f"{path}/resume"), 409, "wrong state")
    for verb in ("cancel", "pause", "resume", "resubmit"):
        refused(api.post(f"/deid/jobs/nothing/{verb}"), 404, "unknown job")
    refused(api.get("/deid/jobs/nothing"), 404, "unknown job")


def test_a_dry_run(api: Api) -> None:
    job = api.post(f"/studies/{ONE}/deidentify", {"Project": "lung", "DryRun": True}).json()["ID"]
    api.turns()
    shown = api.get(f"/deid/jobs/{job}").json()
    assert shown["Type"] == "DeidentifyDryRun" and shown["Content"]["Outcomes"] == {"deidentified": 3}
    assert api.get("/deid/projects/lung").json()["Outcomes"] == {}


def test_without_push_nothing_is_delivered_to_a_peer(api: Api) -> None:
    job = api.post(f"/studies/{ONE}/deidentify", {"Project": "lung", "Push": False}).json()["ID"]
    api.turns()
    api.service.work()
    api.turns()
    assert api.get(f"/deid/jobs/{job}").json()["State"] == "Success"
    assert api.get("/deid/projects/lung").json()["Destinations"] == []
    answer = api.post("/deid/jobs", {"Project": "trial", "Resources": [ONE], "Push": False})
    assert "research copy" in refused(answer, 400, "bad request")


@pytest.mark.parametrize(
    ("body", "paths"),
    [
        ({}, ["body.Project"]),
        ({"Project": "lung"}, ["body"]),
        ({"Project": "lung", "Resources": [ONE], "Query": {}}, ["body"]),
        ({"Project": "lung", "Resources": []}, ["body.Resources"]),
        ({"Project": "lung", "Resources": [ONE, "x", 3]}, ["body.Resources[1]", "body.Resources[2]"]),
        ({"Project": 1, "Resources": [ONE], "DryRun": "yes", "Dry": 1}, ["body.Project", "body.DryRun", "body.Dry"]),
        ({"Project": "lung", "Query": {"PatientID": 5}}, ["body.Query.PatientID"]),
        ({"Project": "lung", "Query": {}, "Level": "study"}, ["body.Level"]),
        ({"Project": "lung", "Resources": [ONE], "Level": "Study"}, ["body"]),
        ([1], ["body"]),
    ],
)
def test_every_error_of_a_body_is_listed_with_its_path(api: Api, body: Any, paths: list[str]) -> None:
    detail = refused(api.post("/deid/jobs", body), 400, "bad request")
    assert sorted(line.split(":")[0] for line in detail) == sorted(paths)
    assert api.get("/deid/jobs").json() == []


def test_errors_of_a_body_do_not_repeat_its_values(api: Api) -> None:
    body = {
        "Project": "PAT-SECRET" * 20,
        "Resources": ["PAT-SECRET"],
        "Query": {"PatientID": ["PAT-SECRET"]},
        "Level": "PAT-SECRET",
    }
    answer = api.post("/deid/jobs", body)
    assert answer.status_code == 400 and "PAT-SECRET" not in answer.text
    answer = api.client.post(
        "/deid/jobs", content=b'{"Project": "PAT-SECRET', headers={"Content-Type": "application/json"}
    )
    assert refused(answer, 400, "bad request") == ["body: not JSON (at character 12)"]
    answer = api.post("/deid/jobs", {"Project": "lung", "Query": {"PatientNam": "PAT-SECRET"}})
    assert "PAT-SECRET" not in str(refused(answer, 400, "bad query"))


def test_an_unknown_project_is_not_found(api: Api) -> None:
    refused(api.post("/deid/jobs", {"Project": "liver", "Query": {}}), 404, "unknown project")
    refused(api.post(f"/studies/{ONE}/deidentify", {"Project": "liver"}), 404, "unknown project")
    refused(api.get("/deid/projects/liver"), 404, "unknown project")
    refused(api.get("/deid/projects/liver/studies"), 404, "unknown project")
    refused(api.get("/deid/quarantine?project=liver"), 404, "unknown project")


def test_unknown_resources_are_not_found_and_no_job_is_made(api: Api) -> None:
    answer = api.post("/deid/jobs", {"Project": "lung", "Resources": [ONE, orthanc_id("x")]})
    assert orthanc_id("x") not in refused(answer, 404, "unknown resource")
    assert api.get("/deid/jobs").json() == []


def test_without_orthanc_it_says_so(api: Api) -> None:
    api.service.orthanc.down = True
    refused(api.post("/deid/jobs", {"Project": "lung", "Resources": [ONE]}), 503, "Orthanc unavailable")


# Projects and studies


def test_projects_show_settings_and_work_but_no_secret(api: Api) -> None:
    api.run(fate=lambda id_: "pixels-not-cleaned" if id_ == orthanc_id("PAT-SECRET/one/a/0") else "ready")
    api.post(f"/studies/{orthanc_id('PAT-SECRET/two')}/deidentify", {"Project": "lung"})
    api.turns()
    lung, trial = api.get("/deid/projects").json()
    assert (lung["Name"], trial["Name"]) == ("lung", "trial")
    assert lung["Settings"]["Profile"] == "basic.yaml" and lung["Settings"]["Destinations"] == [{"Peer": "research"}]
    assert lung["Outcomes"] == {"confirmed": 2, "quarantined": 1, "queued": 2}
    assert lung["Reasons"] == {"pixels-not-cleaned": 1}
    assert lung["Backlog"] == 2 and lung["OldestWaiting"] >= 0 and lung["Throughput"] > 0
    assert lung["Destinations"] == [{"Name": "peer:research", "Deliveries": {"confirmed": 2}}]
    assert trial["Outcomes"] == {} and trial["Backlog"] == 0 and trial["OldestWaiting"] is None
    one = api.get("/deid/projects/lung").json()
    assert {**one, "OldestWaiting": 0} == {**lung, "OldestWaiting": 0}
    assert "master" not in json.dumps(lung).lower()


def test_a_study_is_released_by_hand(api: Api) -> None:
    api.run(project="trial")
    (study,) = api.get("/deid/projects/trial/studies").json()
    assert study["Instances"] == {"ready": 3} and study["ResearchStudy"] is None
    assert study["Pseudonym"] and study["StudyInstanceUID"].startswith("2.25.")
    assert study["LastArrival"] == time.strftime("%Y%m%dT000000", time.gmtime())
    path = f"/deid/projects/trial/studies/{study['StudyInstanceUID']}"
    assert api.post(f"{path}/hold").json()["State"] == "held"
    released = api.post(f"{path}/release").json()
    assert released["Instances"] == {"confirmed": 3} and released["State"] == "released"
    assert api.post(f"{path}/release").status_code == 200, "releasing twice changes nothing"
    refused(api.post("/deid/projects/trial/studies/2.25.1/release"), 404, "unknown study")
    refused(api.post("/deid/projects/trial/studies/x/hold"), 400, "bad request")
    refused(api.post(f"/deid/projects/lung/studies/{study['StudyInstanceUID']}/release"), 404, "unknown study")


def test_studies_are_listed_in_pages(api: Api) -> None:
    api.run(f"/patients/{orthanc_id('PAT-SECRET')}/deidentify")
    everything = api.get("/deid/projects/lung/studies").json()
    assert len(everything) == 2 and all(len(study["ResearchStudy"]) == 44 for study in everything)
    (first,) = api.get("/deid/projects/lung/studies?limit=1").json()
    (second,) = api.get(f"/deid/projects/lung/studies?limit=1&since={first['StudyInstanceUID']}").json()
    assert [first, second] == everything


# Quarantine


def test_what_is_held_is_listed_with_its_reason(api: Api) -> None:
    api.run(fate=lambda id_: "value-left" if id_ == orthanc_id("PAT-SECRET/one/a/0") else "pixels-not-cleaned")
    items = api.get("/deid/quarantine").json()
    assert sorted(item["Reason"] for item in items) == ["pixels-not-cleaned", "pixels-not-cleaned", "value-left"]
    assert all(item["Project"] == "lung" and item["State"] == "quarantined" and item["Meaning"] for item in items)
    (left,) = api.get("/deid/quarantine?project=lung&reason=value-left").json()
    assert api.get(f"/deid/quarantine/{left['ID']}").json() == left
    assert api.get("/deid/quarantine?project=trial").json() == []
    first = api.get("/deid/quarantine?limit=2").json()
    assert first + api.get(f"/deid/quarantine?since={first[-1]['ID']}").json() == items


def test_a_held_instance_is_tried_again_or_left_out(api: Api) -> None:
    api.run(fate=lambda _: "pixels-not-cleaned")
    first, second, _ = api.get("/deid/quarantine").json()
    assert api.post(f"/deid/quarantine/{first['ID']}", {"Action": "retry"}).json() == {}
    assert api.post(f"/deid/quarantine/{second['ID']}", {"Action": "exclude"}).json() == {}
    assert api.get("/deid/projects/lung").json()["Outcomes"] == {"excluded": 1, "quarantined": 1, "queued": 1}
    refused(api.post(f"/deid/quarantine/{first['ID']}", {"Action": "retry"}), 404, "unknown item")
    refused(api.get("/deid/quarantine/999999"), 404, "unknown item")
    detail = refused(api.post(f"/deid/quarantine/{second['ID']}", {"Action": "delete", "Why": 1}), 400, "bad request")
    assert len(detail) == 2


@pytest.mark.parametrize("answer", ["refused", "conflict"])
def test_what_a_destination_did_not_take_is_listed_and_offered_again(api: Api, answer: str) -> None:
    api.run(answer=answer)
    first, second, _ = api.get(f"/deid/quarantine?reason={answer}").json()
    assert first["State"] == first["Reason"] == answer and first["Meaning"]
    assert api.post(f"/deid/quarantine/{first['ID']}", {"Action": "retry"}).json() == {}
    assert api.get("/deid/projects/lung").json()["Outcomes"] == {answer: 2, "released": 1}
    refused(api.post(f"/deid/quarantine/{first['ID']}", {"Action": "retry"}), 404, "unknown item")
    api.service.deliver()
    assert api.post(f"/deid/quarantine/{second['ID']}", {"Action": "exclude"}).json() == {}
    assert api.get("/deid/projects/lung").json()["Outcomes"] == {"confirmed": 1, "excluded": 1, answer: 1}


# The service


def test_health_metrics_nudge_and_description(api: Api) -> None:
    assert api.get("/deid/health").json() == {"State": "ok"}
    metrics = api.get("/deid/metrics")
    assert metrics.text == "deid_up 1\n" and metrics.headers["content-type"].startswith("text/plain")
    before = api.service.nudged
    assert api.post("/deid/internal/nudge").status_code == 204
    assert api.service.nudged == before + 1


def test_openapi_describes_every_route(api: Api) -> None:
    document = api.get("/deid/openapi.json").json()
    expected = {
        "/deid/jobs", "/deid/jobs/{job_id}", "/deid/jobs/{job_id}/report.csv",
        "/deid/jobs/{job_id}/cancel", "/deid/jobs/{job_id}/pause",
        "/deid/jobs/{job_id}/resume", "/deid/jobs/{job_id}/resubmit", "/patients/{resource}/deidentify",
        "/studies/{resource}/deidentify", "/series/{resource}/deidentify", "/instances/{resource}/deidentify",
        "/deid/projects", "/deid/projects/{name}", "/deid/projects/{name}/studies",
        "/deid/projects/{name}/studies/{uid}/release", "/deid/projects/{name}/studies/{uid}/hold",
        "/deid/quarantine", "/deid/quarantine/{item}", "/deid/spool", "/deid/spool/{item}",
        "/deid/health", "/deid/metrics",
        "/deid/projects/{name}/studies/{uid}/resend", "/deid/projects/{name}/studies/{uid}/replace",
        "/deid/projects/{name}/studies/{uid}/recall", "/deid/projects/{name}/replace",
        "/deid/todo", "/deid/todo/{item}",
    }  # fmt: skip
    assert set(document["paths"]) == expected
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert all(operation.get("summary") and "422" not in operation["responses"] for operation in operations)
    assert len({operation["operationId"] for operation in operations}) == len(operations)


def test_what_is_not_there_and_what_is_not_known(api: Api) -> None:
    refused(api.get("/deid/nothing"), 404, "not found")
    refused(api.get("/docs"), 404, "not found")
    answer = api.client.request("DELETE", "/deid/jobs")
    refused(answer, 405, "method not allowed")
    assert "POST" in answer.headers["allow"] or "GET" in answer.headers["allow"]


def test_an_unexpected_error_is_answered_without_its_text(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> dict[str, Any]:
        raise ValueError("about PAT-SECRET")

    api.service.health = broken  # type: ignore[method-assign]
    assert refused(api.get("/deid/health"), 500, "internal error") == "ValueError"
    captured = capsys.readouterr()
    assert "PAT-SECRET" not in captured.out + captured.err


def test_a_large_body_is_refused_before_it_is_read(api: Api) -> None:
    body = b" " * (MAX_BODY + 1)
    answer = api.client.post("/deid/jobs", content=body, headers={"Content-Type": "application/json"})
    refused(answer, 413, "body too large")


def test_what_no_project_takes_is_listed_and_discarded(api: Api) -> None:
    one, two = "1" * 32, "2" * 32
    api.service.spool |= {one, two}
    assert api.get("/deid/spool?limit=1").json() == [
        {"ID": one, "Reason": "unmatched", "Since": "19700101T000001", "Size": 3}
    ]
    assert [row["ID"] for row in api.get(f"/deid/spool?since={one}").json()] == [two]
    assert api.post(f"/deid/spool/{one}", {"Action": "retry"}).status_code == 400
    assert api.post(f"/deid/spool/{one}", {"Action": "discard"}).json() == {}
    refused(api.post(f"/deid/spool/{one}", {"Action": "discard"}), 404, "unknown item")
    assert api.post("/deid/spool/..%2Fx", {"Action": "discard"}).status_code in (400, 404)
