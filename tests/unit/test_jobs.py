"""The life of a job: expanded, worked off, ended; and that it survives restarts, absences and people's decisions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from orthanc_deid.errors import SealError
from orthanc_deid.orthanc import resources
from orthanc_deid.pipeline import job_dry, job_feed, job_pace
from orthanc_deid.pipeline.job_model import JobRequest, open_part, orthanc_time
from orthanc_deid.pipeline.jobs import (
    BadQuery,
    Jobs,
    UnknownJob,
    UnknownProject,
    UnknownResource,
    WrongState,
    known_attribute,
    study_id,
)
from orthanc_deid.store import jobs, ledger, studies

from tests.orthancs import CHECKOUT
from tests.service_double import ServiceDouble, orthanc_id

PROJECTS: dict[str, dict[str, Any]] = {
    "lung": {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "instance"},
    "manual": {"Profile": "basic", "KeepResearchCopy": True, "Release": "manual"},
    "held": {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "study"},
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceDouble]:
    """A service whose jobs are driven by hand, with one patient of 3 + 2 instances in two studies."""
    double = ServiceDouble(tmp_path, PROJECTS, CHECKOUT / "profiles")
    double.orthanc.add("PAT-SECRET", "one", "a", 3)
    double.orthanc.add("PAT-SECRET", "two", "b", 2)
    yield double
    double.close()


def turns(service: ServiceDouble, most: int = 300) -> None:
    """Drive the jobs until they only wait: some turns in which nothing of them changes."""
    quiet = 0
    for _ in range(most):
        before = looks(service)
        service.jobs._runner.wake()
        service.jobs._runner.turn()
        quiet = quiet + 1 if looks(service) == before else 0
        if quiet == 3:
            return
    raise AssertionError("the jobs do not come to rest")


def looks(service: ServiceDouble) -> list[dict[str, Any]]:
    """The jobs without what changes by itself: on a busy machine the estimate does with every look."""
    still = {"InstancesPerSecond": 0, "EstimatedEnd": None}
    page = service.jobs.page()
    return [{**job, "Timestamp": 0, "EffectiveRuntime": 0, "Content": {**job["Content"], **still}} for job in page]


def start(service: ServiceDouble, *names: str, project: str = "lung", **options: Any) -> str:
    """Make a job over resources by their names (`PAT-SECRET/one`)."""
    request = service.jobs.make_request(project, resource_ids=[orthanc_id(name) for name in names], **options)
    return str(service.jobs.create(request)["ID"])


def outcomes(service: ServiceDouble, job: str) -> dict[str, int]:
    """The counts that a job shows."""
    return dict(service.jobs.get(job)["Content"]["Outcomes"])


@pytest.mark.parametrize(
    ("name", "count"),
    [("PAT-SECRET", 5), ("PAT-SECRET/one", 3), ("PAT-SECRET/two/b", 2), ("PAT-SECRET/two/b/1", 1)],
)
def test_a_job_covers_all_instances_below_a_resource_of_any_level(
    service: ServiceDouble, name: str, count: int
) -> None:
    job = start(service, name)
    assert service.jobs.get(job)["State"] == "Pending"
    turns(service)
    shown = service.jobs.get(job)
    assert shown["State"] == "Running" and outcomes(service, job) == {"queued": count}
    assert service.work() == count
    turns(service)
    shown = service.jobs.get(job)
    assert (shown["State"], shown["Progress"]) == ("Success", 100)
    assert shown["Content"]["Outcomes"] == {"confirmed": count} and shown["Content"]["Instances"] == count


def test_it_is_shaped_like_orthancs_own(service: ServiceDouble) -> None:
    job = start(service, "PAT-SECRET/one")
    shown = service.jobs.get(job)
    assert set(shown) == {
        "ID", "Type", "State", "Progress", "Priority", "CreationTime", "Timestamp", "EffectiveRuntime",
        "ErrorCode", "ErrorDescription", "Content",
    }  # fmt: skip
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}", shown["CreationTime"])
    assert (shown["ErrorCode"], shown["ErrorDescription"]) == (0, "Success")
    turns(service)
    service.work()
    turns(service)
    assert re.fullmatch(r"\d{8}T\d{6}\.\d{6}", service.jobs.get(job)["CompletionTime"])
    assert orthanc_time(1_767_606_330.5) == "20260105T094530.500000"


def test_overlapping_resources_count_once(service: ServiceDouble) -> None:
    job = start(service, "PAT-SECRET", "PAT-SECRET/one", "PAT-SECRET/one/a")
    turns(service)
    assert outcomes(service, job) == {"queued": 5}


def test_a_query_is_expanded_at_its_level_and_an_empty_one_means_everything(service: ServiceDouble) -> None:
    service.orthanc.add("OTHER", "one", "a", 4)
    found = service.jobs.create(service.jobs.make_request("lung", query={"StudyDescription": "one"}))["ID"]
    turns(service)
    assert outcomes(service, found) == {"queued": 7}
    patients = service.jobs.make_request("held", query={"PatientID": "OTHER"}, level="Patient")
    at_patients = service.jobs.create(patients)["ID"]
    everything = service.jobs.create(service.jobs.make_request("manual", query={}))["ID"]
    turns(service)
    assert outcomes(service, at_patients) == {"queued": 4}
    assert outcomes(service, everything) == {"queued": 9}


@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("anchors", [1, 20])
def test_everything_in_pages_misses_nothing_though_studies_come_and_go_meanwhile(
    service: ServiceDouble, monkeypatch: pytest.MonkeyPatch, resumed: bool, anchors: int
) -> None:
    monkeypatch.setattr(resources, "LISTED", 5)
    monkeypatch.setattr(resources, "OVERLAP", 2)
    monkeypatch.setattr(resources, "ANCHORS", anchors)
    for number in range(40):
        service.orthanc.add(f"P{number}", "s", "t", 3)
    wanted = set(service.orthanc.all("Instance"))
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    pages = resources.everything(service.orthanc, 7, cursor)
    for turn in range(1000):
        page = next(pages, None)
        if page is None:
            break
        assert 0 < page.position <= 1
        seen += page.ids
        # What was read goes, what was not read goes, instances come and go within the present study, others arrive.
        for gone in (orthanc_id(f"P{turn}/s"), orthanc_id(f"P{39 - turn // 2}/s")):
            service.orthanc.delete(gone)
        service.orthanc.add("NEW", f"s{turn}", "t", 1)
        if resumed:
            cursor = json.loads(json.dumps(page.cursor))
            pages = resources.everything(service.orthanc, 7, cursor)
    assert wanted & set(service.orthanc.all("Instance")) <= set(seen)
    if anchors > 1:
        assert len(seen) == len(set(seen))


def test_resources_go_on_to_the_instance_wherever_they_were_left(service: ServiceDouble) -> None:
    for study in "abc":
        service.orthanc.add("BIG", study, "1", 5)
        service.orthanc.add("BIG", study, "2", 4)
    named = [
        ("patients", orthanc_id("BIG")),
        ("instances", orthanc_id("PAT-SECRET/one/a/0")),
        ("studies", orthanc_id("PAT-SECRET/two")),
        ("series", orthanc_id("PAT-SECRET/one/a")),
    ]

    def part(number: int) -> list[tuple[str, str]]:
        return named if number == 0 else []

    whole = [id_ for page in resources.expand(service.orthanc, 4, part, 1000, {}) for id_ in page.ids]
    assert len(whole) == 27 + 1 + 2 + 3
    for size in (1, 2, 5, 27, 40):
        got: list[str] = []
        cursor: dict[str, Any] = {}
        while page := next(resources.expand(service.orthanc, 4, part, size, cursor), None):
            got += page.ids
            cursor = json.loads(json.dumps(page.cursor))
        assert got == whole, size


def test_a_sample_is_evenly_spread_and_always_the_same(service: ServiceDouble) -> None:
    for number in range(50):
        service.orthanc.add(f"P{number}", "s", "t", 4)
    named = [("patients", orthanc_id(f"P{number}")) for number in range(50)]
    total = len(service.orthanc.all("Instance"))
    for most in (1, 10, 20, 1000):
        spread = [id_ for page in resources.sample(service.orthanc, 8, most) for id_ in page.ids]
        assert len(spread) == len(set(spread)) == min(most, total)
        below = list(resources.sample_below(service.orthanc, 50, lambda n: named[n * 500 :], 8, most))
        ids = [id_ for page in below for id_ in page.ids]
        assert len(ids) == len(set(ids)) == min(most, 200) and below[-1].cursor == {"of": 200}
        assert ids == [
            id_
            for page in resources.sample_below(service.orthanc, 50, lambda n: named[n * 500 :], 3, most)
            for id_ in page.ids
        ]


@pytest.mark.parametrize("name", ["lungs", "", "Lung"])
def test_an_unknown_project_is_refused(service: ServiceDouble, name: str) -> None:
    with pytest.raises(UnknownProject):
        service.jobs.make_request(name, query={})


def test_unknown_resources_are_refused_and_counted_but_not_named(service: ServiceDouble) -> None:
    ids = [orthanc_id("PAT-SECRET"), orthanc_id("nobody"), orthanc_id("nothing")]
    with pytest.raises(UnknownResource) as refused:
        service.jobs.make_request("lung", resource_ids=ids)
    assert "2 of 3" in str(refused.value) and not any(id_ in str(refused.value) for id_ in ids)
    with pytest.raises(UnknownResource):
        service.jobs.make_request_for("lung", "series", orthanc_id("PAT-SECRET"), dry_run=False, push=True)


def test_a_query_that_orthanc_refuses_is_the_callers_fault_and_not_quoted(service: ServiceDouble) -> None:
    with pytest.raises(BadQuery) as refused:
        service.jobs.make_request("lung", query={"PatientNam": "PAT-SECRET"})
    assert "PAT-SECRET" not in str(refused.value) and "PatientNam" not in str(refused.value)
    service.orthanc.refuses_queries = True
    with pytest.raises(BadQuery):
        service.jobs.make_request("lung", query={"PatientName": "PAT-SECRET"})


@pytest.mark.parametrize("name", ["PatientID", "0010,0020", "00100020", "0010-0020"])
def test_names_of_a_query(name: str) -> None:
    assert known_attribute(name)
    assert not known_attribute(name + "x")


def test_the_row_holds_no_id_and_no_value_in_the_clear(service: ServiceDouble, tmp_path: Path) -> None:
    start(service, "PAT-SECRET", "PAT-SECRET/one/a")
    service.jobs.create(service.jobs.make_request("lung", query={"PatientID": "PAT-SECRET"}))
    turns(service)
    service.store.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    assert b"confirmed" in everything or b"queued" in everything
    for id_ in (orthanc_id("PAT-SECRET"), orthanc_id("PAT-SECRET/one/a"), orthanc_id("PAT-SECRET/one/a/0")):
        assert id_.encode() not in everything
    assert b"PAT-SECRET" not in everything


def test_a_request_opens_only_with_its_projects_keys(service: ServiceDouble) -> None:
    request = JobRequest("lung", (("studies", orthanc_id("x")),))
    (part,) = request.parts(service.keys("lung"))
    assert orthanc_id("x").encode() not in part
    assert open_part(service.keys("lung"), part) == [("studies", orthanc_id("x"))]
    with pytest.raises(SealError):
        open_part(service.keys("manual"), part)


def test_only_a_window_is_open_at_a_time(service: ServiceDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_feed, "PAGE", 10)
    monkeypatch.setattr(job_feed, "WINDOW", 20)
    service.orthanc.add("BIG", "s", "t", 95)
    job = start(service, "BIG")
    small = start(service, "PAT-SECRET", project="held")
    turns(service)
    assert outcomes(service, job) == {"queued": 20}
    assert outcomes(service, small) == {"queued": 5}, "a large job does not keep a small one waiting"
    progress = []
    while service.jobs.get(job)["State"] == "Running":
        progress.append(service.jobs.get(job)["Progress"])
        assert service.work(only=15) and max(outcomes(service, job).values()) <= 95
        turns(service)
    assert progress == sorted(progress) and progress[-1] < 100
    assert service.jobs.get(job)["Content"]["Instances"] == 95


def test_a_job_goes_on_after_a_restart_and_does_not_retry_what_it_parked(
    service: ServiceDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_feed, "PAGE", 10)
    monkeypatch.setattr(job_feed, "WINDOW", 20)
    service.orthanc.add("BIG", "s", "t", 50)
    job = start(service, "BIG")
    turns(service)
    service.work(lambda _: "pixels-not-cleaned")
    service.jobs = Jobs(service)
    turns(service)
    assert outcomes(service, job) == {"quarantined": 20, "queued": 20}
    while service.work():
        turns(service)
    assert service.jobs.get(job)["State"] == "Success"
    assert outcomes(service, job) == {"confirmed": 30, "quarantined": 20}


def test_a_new_job_tries_again_what_is_in_quarantine(service: ServiceDouble) -> None:
    first = start(service, "PAT-SECRET/one")
    turns(service)
    service.work(lambda _: "pixels-not-cleaned")
    turns(service)
    assert service.jobs.get(first)["State"] == "Failure"
    second = start(service, "PAT-SECRET/one")
    turns(service)
    assert outcomes(service, second) == {"queued": 3}
    service.work()
    turns(service)
    assert outcomes(service, second) == {"confirmed": 3}


def test_what_was_done_before_is_not_done_again(service: ServiceDouble) -> None:
    start(service, "PAT-SECRET/one")
    turns(service)
    assert service.work() == 3
    again = start(service, "PAT-SECRET")
    turns(service)
    assert outcomes(service, again) == {"confirmed": 3, "queued": 2}
    assert service.work() == 2


def test_success_failure_and_their_words(service: ServiceDouble) -> None:
    held = {orthanc_id("PAT-SECRET/one/a/0"), *service.orthanc.children[orthanc_id("PAT-SECRET/two/b")]}
    some = start(service, "PAT-SECRET/one")
    none = start(service, "PAT-SECRET/two", project="held")
    turns(service)
    service.work(lambda id_: "pixels-not-cleaned" if id_ in held else "ready")
    turns(service)
    shown = service.jobs.get(some)
    assert shown["State"] == "Success" and shown["Content"]["Reasons"] == {"pixels-not-cleaned": 1}
    shown = service.jobs.get(none)
    assert (shown["State"], shown["ErrorCode"]) == ("Failure", 1)
    assert shown["ErrorDescription"] == "no instance came out (pixels-not-cleaned 2)"


def test_own_copies_are_skipped_and_counted(service: ServiceDouble) -> None:
    service.own = set(service.orthanc.children[orthanc_id("PAT-SECRET/one/a")])
    job = start(service, "PAT-SECRET/one")
    turns(service)
    shown = service.jobs.get(job)
    assert (shown["State"], shown["Content"]["Instances"], shown["Content"]["Skipped"]) == ("Success", 0, 3)


def test_resources_that_vanished_before_they_were_read_end_the_job(service: ServiceDouble) -> None:
    job = start(service, "PAT-SECRET/two")
    service.orthanc.delete(orthanc_id("PAT-SECRET/two"))
    turns(service)
    shown = service.jobs.get(job)
    assert (shown["State"], shown["ErrorCode"]) == ("Failure", 7)


def test_while_orthanc_is_away_the_job_waits_and_says_so(service: ServiceDouble) -> None:
    job = start(service, "PAT-SECRET/one")
    service.orthanc.down = True
    service.jobs._runner.turn()
    asked = len(service.orthanc.asked)
    service.jobs._runner.turn()
    assert len(service.orthanc.asked) == asked, "it does not ask again at once"
    assert service.jobs.get(job)["Content"]["Waiting"] == "Orthanc does not answer"
    service.orthanc.down = False
    turns(service)
    shown = service.jobs.get(job)
    assert outcomes(service, job) == {"queued": 3} and "Waiting" not in shown["Content"]


def test_cancelling_leaves_alone_what_was_not_begun(service: ServiceDouble) -> None:
    job = start(service, "PAT-SECRET")
    turns(service)
    service.work(only=2)
    service.jobs.cancel(job)
    shown = service.jobs.get(job)
    assert (shown["State"], shown["ErrorCode"], shown["ErrorDescription"]) == ("Failure", 37, "Canceled job")
    assert outcomes(service, job) == {"confirmed": 2, "cancelled": 3}
    assert service.work() == 0
    for verb in (service.jobs.cancel, service.jobs.pause, service.jobs.resume):
        with pytest.raises(WrongState):
            verb(job)


def test_a_page_on_its_way_while_the_job_is_cancelled_or_paused_follows(service: ServiceDouble) -> None:
    real: Callable[..., int] = service.enqueue
    for verb, state in (("cancel", "cancelled"), ("pause", "paused")):
        job = start(service, "PAT-SECRET", project={"cancel": "lung", "pause": "held"}[verb])

        def meanwhile(*arguments: Any, job: str = job, verb: str = verb, **options: Any) -> int:
            getattr(service.jobs, verb)(job)
            return real(*arguments, **options)

        service.enqueue = meanwhile  # type: ignore[method-assign]
        service.jobs._runner.turn()
        service.enqueue = real  # type: ignore[method-assign]
        assert outcomes(service, job) == {state: 5}


def test_pausing_and_resuming(service: ServiceDouble) -> None:
    job = start(service, "PAT-SECRET")
    turns(service)
    service.jobs.pause(job)
    assert service.jobs.get(job)["State"] == "Paused" and service.work() == 0
    turns(service)
    assert service.jobs.get(job)["State"] == "Paused" and outcomes(service, job) == {"paused": 5}
    service.jobs.resume(job)
    assert service.nudged, "the pipeline is told"
    assert service.work() == 5
    turns(service)
    assert service.jobs.get(job)["State"] == "Success"


def test_resubmitting_does_what_did_not_come_out(service: ServiceDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_feed, "PAGE", 2)
    monkeypatch.setattr(job_feed, "WINDOW", 2)
    job = start(service, "PAT-SECRET")
    turns(service)
    service.work(only=1)
    service.jobs.cancel(job)
    service.jobs.resubmit(job)
    turns(service)
    while service.work():
        turns(service)
    shown = service.jobs.get(job)
    assert (shown["State"], shown["ErrorCode"]) == ("Success", 0)
    assert shown["Content"]["Outcomes"] == {"confirmed": 5}, "also what had not been handed over before"
    with pytest.raises(WrongState):
        service.jobs.resubmit(job)


@pytest.mark.parametrize("by_query", [False, True])
@pytest.mark.parametrize("dry", [False, True])
def test_a_job_that_succeeded_forgets_what_it_was_asked_for(service: ServiceDouble, by_query: bool, dry: bool) -> None:
    if by_query:
        request = service.jobs.make_request("lung", query={"StudyDescription": "one"}, dry_run=dry)
        job = str(service.jobs.create(request)["ID"])
    else:
        job = start(service, "PAT-SECRET/one", dry_run=dry)
    turns(service)
    if not dry:
        service.jobs.cancel(job)
        service.jobs._runner.tidy()
        service.jobs.resubmit(job)
        turns(service)
        service.work()
        turns(service)
    shown, table = service.jobs.get(job), service.jobs.report(job)
    assert shown["State"] == "Success"
    with service.store.begin() as conn:
        assert jobs.part(conn, job, 0)
        jobs.update(conn, job, tidied=True)  # as an older version left it
    service.jobs._runner.tidy()
    with service.store.read() as conn:
        row = jobs.get(conn, job)
        assert row is not None and not {"Request", "Cursor"} & row.content.keys()
        assert jobs.part(conn, job, 0) is None and jobs.untidied(conn) == []
    assert {**service.jobs.get(job), "Timestamp": 0} == {**shown, "Timestamp": 0}
    assert service.jobs.report(job) == table


def test_with_manual_release_a_job_ends_when_only_people_are_waited_for(service: ServiceDouble) -> None:
    job = start(service, "PAT-SECRET/one", project="manual")
    turns(service)
    service.work()
    turns(service)
    shown = service.jobs.get(job)
    assert shown["State"] == "Success" and shown["Content"]["Outcomes"] == {"ready": 3}
    (study,) = shown["Content"]["ResearchStudies"]
    assert study["StudyInstanceUID"].startswith("2.25.") and re.fullmatch(r"([0-9a-f]{8}-?){5}", study["ID"])


def test_a_study_that_somebody_holds_does_not_keep_its_job_running(service: ServiceDouble) -> None:
    job = start(service, "PAT-SECRET/one", project="held")
    turns(service)
    service.work(release=False)
    with service.store.read() as conn:
        (row,) = studies.page(conn, "held")
    turns(service)
    assert service.jobs.get(job)["State"] == "Running", "it will be released by itself"
    assert service.hold("held", row.out_study)
    turns(service)
    assert service.jobs.get(job)["State"] == "Success"


def test_orthancs_id_of_a_research_study() -> None:
    # SHA-1 of "PatientID|StudyInstanceUID", as Orthanc computes it.
    assert (
        study_id("1CT1", "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322")
        == "8a8cf898-ca27c490-d0c7058c-929d0581-2bbf104d"
    )


def test_a_dry_run_counts_and_writes_nothing(service: ServiceDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_feed, "DRY_PAGE", 2)
    service.dry_fate = lambda id_: "pixels-not-cleaned" if id_ == orthanc_id("PAT-SECRET/one/a/1") else "deidentified"
    job = start(service, "PAT-SECRET", dry_run=True)
    turns(service)
    shown = service.jobs.get(job)
    assert (shown["Type"], shown["State"], shown["Progress"]) == ("DeidentifyDryRun", "Success", 100)
    assert shown["Content"]["Outcomes"] == {"deidentified": 4, "quarantined": 1}
    assert shown["Content"]["Reasons"] == {"pixels-not-cleaned": 1}
    assert shown["Content"]["Actions"] == {"REMOVE": 10}
    assert service.enqueued == []
    with service.store.read() as conn:
        assert ledger.counts(conn) == {}


def test_a_dry_run_goes_on_after_a_restart_and_counts_nothing_twice(
    service: ServiceDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_feed, "DRY_PAGE", 2)
    job = start(service, "PAT-SECRET", dry_run=True)
    for done in (2, 4, 5):
        service.jobs._runner.turn()
        assert sum(outcomes(service, job).values()) == done
        service.jobs = Jobs(service)
    turns(service)
    assert outcomes(service, job) == {"deidentified": 5}


def test_the_report_of_a_dry_run_estimates_and_names_research_studies_only(service: ServiceDouble) -> None:
    service.dry_fate = lambda id_: "value-left" if id_ == orthanc_id("PAT-SECRET/one/a/1") else "deidentified"
    for number in range(15):
        service.orthanc.add(f"PAT-SECRET{number}", "s", "t", 1)
    request = service.jobs.make_request("lung", query={}, dry_run=True, sample=10)
    job = str(service.jobs.create(request)["ID"])
    turns(service)
    content = service.jobs.get(job)["Content"]
    assert content["Sample"] == 10 and sum(content["Outcomes"].values()) == 10
    assert content["Modalities"] == {"CT": 10} and content["SOPClasses"] == {"CT Image Storage": 10}
    held = content["Outcomes"].get("quarantined", 0)
    estimate = content["Estimate"]
    assert (estimate["Instances"], estimate["SourceBytes"]) == (20, 20_000)
    assert (estimate["Bytes"], estimate["Deidentified"]) == (1800 * (10 - held), 2 * (10 - held))
    assert estimate["Hours"] == float(f"{72 / 3600 / service.config.workers:.3g}")
    lines = service.jobs.report(job).splitlines()
    assert lines[0] == "Section,Key,Pseudonym,Outcome,Reason,Number"
    assert f"study,2.25.1,PSEUDO,deidentified,,{10 - held}" in lines and "sop-class,CT Image Storage,,,,10" in lines
    assert "PAT-SECRET" not in "".join(lines)


def test_what_is_no_term_of_the_standard_is_not_repeated_in_a_report() -> None:
    dry, _ = job_dry.count({}, [{"outcome": "deidentified", "modality": "MILLER", "sop_class": "1.2.3.19500101"}])
    assert (dry["modalities"], dry["sop_classes"]) == ({"other": 1}, {"other": 1})
    assert job_dry.sop_class("1.2.840.10008.1.2.1") == "other", "a transfer syntax is no SOP class"


def test_a_running_job_tells_its_pace_and_its_end(service: ServiceDouble) -> None:
    now = [1000.0]
    service.jobs = Jobs(service, clock=lambda: now[0])
    for number in range(10):
        service.orthanc.add("BIG", f"s{number}", "t", 10)
    job = str(service.jobs.create(service.jobs.make_request("lung", query={}))["ID"])
    turns(service)
    assert service.jobs.get(job)["Content"]["Remaining"] == 105
    for _ in range(10):
        now[0] += 10
        service.work(only=5)
        service.jobs._runner.turn()
    shown = service.jobs.get(job)
    assert shown["Content"]["InstancesPerSecond"] == 0.5 and shown["Content"]["Remaining"] == 55
    assert shown["Content"]["EstimatedEnd"] == orthanc_time(now[0] + 110)
    assert shown["EffectiveRuntime"] == 100
    service.jobs.pause(job)
    now[0] += 10_000
    shown = service.jobs.get(job)
    assert shown["EffectiveRuntime"] == 100 and "EstimatedEnd" not in shown["Content"]
    service.jobs.resume(job)
    for _ in range(5):
        now[0] += 10
        service.work(only=10)
        service.jobs._runner.turn()
    shown = service.jobs.get(job)
    assert shown["EffectiveRuntime"] == 150 and shown["Content"]["InstancesPerSecond"] == 1.0
    # The time while the service was down does not count.
    service.jobs = Jobs(service, clock=lambda: now[0])
    now[0] += 5000
    service.jobs._runner.turn()
    assert service.jobs.get(job)["EffectiveRuntime"] == 150


def test_the_first_rate_is_noted_at_once_and_later_ones_every_few_seconds() -> None:
    pace = job_pace.begin(1000.0)
    assert not job_pace.due(pace, 1002.0, None) and job_pace.due(pace, 1002.0, 0.0)
    pace = job_pace.seen(pace, 1002.0, 0.0)
    later = 1002.0 + job_pace.NOTED
    assert not job_pace.due(pace, later - 0.1, 3.0) and job_pace.due(pace, later, 3.0)


def test_an_unexpected_error_ends_one_job_without_its_text(service: ServiceDouble) -> None:
    bad, good = start(service, "PAT-SECRET/one"), start(service, "PAT-SECRET/two", project="held")
    real = service.enqueue

    def fails(project: str, *arguments: Any, **options: Any) -> int:
        if project == "lung":
            raise ValueError("about PAT-SECRET")
        return real(project, *arguments, **options)

    service.enqueue = fails  # type: ignore[method-assign]
    turns(service)
    shown = service.jobs.get(bad)
    assert (shown["State"], shown["ErrorDescription"]) == ("Failure", "unexpected error (ValueError)")
    assert outcomes(service, good) == {"queued": 2}


def test_a_job_is_as_urgent_as_it_says(service: ServiceDouble) -> None:
    start(service, "PAT-SECRET/one/a/0")
    service.jobs.create(service.jobs.make_request("held", query={}))
    start(service, "PAT-SECRET/two", project="manual", priority=10)
    turns(service)
    assert service.priorities == [0, 5, 10], "the most urgent is looked at first; 0 in the ledger is what arrives now"


def test_the_thread_drives_jobs_and_stops(service: ServiceDouble) -> None:
    from tests.orthancs import until

    service.jobs.start()
    job = start(service, "PAT-SECRET/one")
    until(lambda: outcomes(service, job) == {"queued": 3}, 20, "the job to be expanded")
    service.work()
    until(lambda: service.jobs.get(job)["State"] == "Success", 20, "the job to end")
    service.jobs.stop(10)
    later = start(service, "PAT-SECRET/two")
    assert service.jobs.get(later)["State"] == "Pending"


def test_jobs_are_listed_the_newest_first_and_in_pages(service: ServiceDouble) -> None:
    made = [start(service, "PAT-SECRET/one", project=project) for project in ("lung", "held", "lung")]
    assert [job["ID"] for job in service.jobs.page()] == made[::-1]
    assert [job["ID"] for job in service.jobs.page(since=1, limit=1)] == [made[1]]
    assert [job["ID"] for job in service.jobs.page(project="lung")] == [made[2], made[0]]
    with pytest.raises(UnknownJob):
        service.jobs.get("nothing")
    assert json.dumps(service.jobs.page())
