"""Cohorts: what may be asked for, and how lines are fetched from an archive that is down, lies, or sends a part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from orthanc_deid.orthanc.client import Answer, Failed
from orthanc_deid.orthanc.sources import Origin
from orthanc_deid.pipeline import fetcher
from orthanc_deid.pipeline.cohort import BadCohort, check, read_csv
from orthanc_deid.pipeline.jobs import UnknownSource
from orthanc_deid.store import cohorts, job_items
from orthanc_deid.store.schema import job_lines

from tests.orthancs import CHECKOUT
from tests.service_double import OrthancDouble, ServiceDouble, orthanc_id

PACS = Origin("Modality", "pacs")
PROJECTS: dict[str, dict[str, Any]] = {
    "lung": {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "instance"},
    "whole": {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Incomplete": "hold", "Release": "instance"},
}


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"PatientID": " "},
        {"PatientID": "SECRET*"},
        {"StudyInstanceUID": "1.2\\1.3"},
        {"Patient": "SECRET"},
        {"PixelData": "SECRET", "PatientID": "1"},
        {"StudyDate": "2024"},
        {"StudyDate": "20240101-"},
        {"ModalitiesInStudy": "CT"},
        {"PatientID": "SEC\nRET"},
        {"PatientID": "1", "StudyDescription": "x" * 2000},
    ],
)
def test_what_cannot_be_asked_for_is_refused_by_its_line_and_not_quoted(line: dict[str, str]) -> None:
    with pytest.raises(BadCohort, match=r"^line 2: ") as refused:
        check([{"PatientID": "1"}, line])
    assert "SECRET" not in str(refused.value)


def test_lines_lose_what_is_empty() -> None:
    line = {"StudyDate": "20240101-20241231", "ModalitiesInStudy": "CT", "PatientID": " "}
    assert check([line]) == [{"StudyDate": "20240101-20241231", "ModalitiesInStudy": "CT"}]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_with_a_header(separator: str) -> None:
    text = "\ufeffPatientID,StudyDate\r\n1,20240101\r\n\r\n2,\r\n".replace(",", separator)
    lines = [{"PatientID": "1", "StudyDate": "20240101"}, {"PatientID": "2", "StudyDate": ""}]
    assert read_csv(text.encode()) == lines


@pytest.mark.parametrize(
    "table", [b"", b"PatientID\n", b"PatientID,PatientID\n1,2\n", b"PatientID\n1,2\n", b"\xff\xfe\n1"]
)
def test_no_table(table: bytes) -> None:
    with pytest.raises(BadCohort):
        read_csv(table)


class Pacs(OrthancDouble):
    """An Orthanc with a PACS behind it; `sends` says how many instances of a study a move brings."""

    def __init__(self) -> None:
        super().__init__()
        self.has: dict[str, dict[str, Any]] = {}
        self.sends: dict[str, int] = {}
        self.dead = self.deaf = False
        self.ignores: set[str] = set()
        self.moves: list[str] = []
        self.deleted: list[str] = []
        self.forgotten: list[str] = []
        self.questions: dict[str, dict[str, str]] = {}

    def put(self, uid: str, patient: str, count: int, accession: str = "", **more: str) -> None:
        """Let the PACS have a study."""
        self.has[uid] = {"PatientID": patient, "AccessionNumber": accession, "count": count, **more}

    def get_json(self, path: str, params: dict[str, Any] | None = None) -> Any:
        """GET."""
        if path == "/modalities":
            return ["pacs"]
        if path.startswith("/jobs/"):
            return {"State": "Success"}
        if path.endswith("/answers"):
            query = self.questions[path.split("/")[2]]
            return [
                {"StudyInstanceUID": uid, "NumberOfStudyRelatedInstances": str(study["count"]), **study}
                for uid, study in self.has.items()
                if self.deaf
                or all(
                    k in self.ignores or not query.get(k) or query[k] == v
                    for k, v in {**study, "StudyInstanceUID": uid}.items()
                )
            ]
        return super().get_json(path, params)

    def ask(self, method: str, path: str, body: bytes | None = None, *, timeout: float | None = None) -> Answer:
        """A request that changes nothing."""
        if path == "/tools/lookup":
            study = orthanc_id(f"PACS/{(body or b'').decode()}")
            return self._say([{"Type": "Study", "ID": study}] if study in self.kind else [])
        if self.dead:
            raise Failed("no", 500)
        name = f"q{len(self.questions)}"
        if path.endswith("/query"):
            self.questions[name] = json.loads(body or b"{}")["Query"]
        return self._say({"ID": name})

    def change(self, method: str, path: str, body: bytes | None = None, *, content_type: str = "") -> Answer:
        """A request that changes something."""
        if method == "DELETE" and path.startswith("/instances/"):
            self.deleted.append(path.split("/")[2])
            self.delete(path.split("/")[2])
        if method == "DELETE" and path.startswith("/jobs/"):
            self.forgotten.append(path)
            raise Failed("not in 1.10", 405)
        if path.endswith("/retrieve"):
            uid = self.questions[path.split("/")[2]]["StudyInstanceUID"]
            self.moves.append(uid)
            have = len(self.children[orthanc_id(f"PACS/{uid}/s")])
            self.add("PACS", uid, "s", min(self.sends.get(uid, 1000), self.has[uid]["count"] - have))
            return self._say({"ID": "job"})
        return self.ask("POST", path, body) if path.endswith("/query") else self._say({})

    def metadata(self, instance: str) -> dict[str, str]:
        """All came by C-STORE."""
        return {"Origin": "DicomProtocol"}

    @staticmethod
    def _say(what: Any) -> Answer:
        return Answer(200, {}, json.dumps(what).encode())


class Service(ServiceDouble):
    """A service in front of it."""

    orthanc: Pacs

    def may_delete(self, instance: str, project: str, digest: str) -> str:
        """What is confirmed may go."""
        return "delete"


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A service whose fetching is driven by hand, on a clock of its own."""
    double = Service(tmp_path, PROJECTS, CHECKOUT / "profiles")
    double.orthanc = Pacs()
    yield double
    double.close()


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


def start(service: Service, cohort: list[dict[str, str]], project: str = "lung", **options: Any) -> tuple[str, Clock]:
    """Make a job over a cohort, on a clock of its own."""
    from orthanc_deid.pipeline.jobs import Jobs

    clock = Clock()
    service.jobs = Jobs(service, clock)
    return str(service.jobs.create(service.jobs.make_cohort(project, PACS, cohort, **options))["ID"]), clock


def turns(service: Service, clock: Clock, count: int = 8, seconds: float = 200.0) -> None:
    """Let the job get on."""
    for _ in range(count):
        clock.now += seconds
        service.jobs.fetcher.turn()
        service.work()
        service.jobs._runner.wake()
        service.jobs._runner.turn()


def lines(service: Service, job: str) -> list[tuple[str, str]]:
    """State and reason of each line."""
    with service.store.read() as conn:
        return [(state, reason) for _, state, reason, *_ in cohorts.report(conn, job)]


def test_lines_are_found_fetched_and_told_apart(service: Service) -> None:
    service.orthanc.put("1.1", "A", 3)
    service.orthanc.put("1.2", "A", 2)
    service.orthanc.put("1.3", "B", 2, "ACC")
    service.orthanc.put("1.4", "C", 2, "ACC")
    cohort = [{"PatientID": "A"}, {"PatientID": "NOBODY"}, {"AccessionNumber": "ACC"}, {"StudyInstanceUID": "1.3"}]
    job, clock = start(service, cohort)
    turns(service, clock)
    assert lines(service, job) == [("fetched", ""), ("not-found", ""), ("several", ""), ("fetched", "")]
    shown = service.jobs.get(job)
    assert shown["State"] == "Success" and shown["Content"]["Outcomes"] == {"confirmed": 7}
    assert service.orthanc.forgotten == ["/jobs/job"] * 3, "Orthanc's jobs show patient ids"
    assert service.orthanc.moves == ["1.1", "1.2", "1.3"] and set(service.priorities) == {10}
    with pytest.raises(UnknownSource):
        service.jobs.make_cohort("lung", Origin("Modality", "other"), cohort)


def test_an_archive_that_ignores_what_is_asked_is_not_believed(service: Service) -> None:
    service.orthanc.put("1.1", "A", 3)
    service.orthanc.deaf = True
    job, clock = start(service, [{"PatientID": "B"}])
    turns(service, clock)
    assert lines(service, job) == [("failed", "mismatch")] and service.orthanc.moves == []
    assert service.jobs.get(job)["State"] == "Failure"


def test_an_archive_that_ignores_some_keys_brings_in_nobody_who_was_not_asked_for(service: Service) -> None:
    service.orthanc.ignores = {"StudyDate", "StudyDescription"}
    for uid, more in {
        "1.1": {"StudyDate": "20240115", "StudyDescription": "RESEARCH LUNG "},
        "1.2": {"StudyDate": "20240115", "StudyDescription": "KNEE"},
        "1.3": {"StudyDate": "20240115"},
        "1.4": {"StudyDescription": "RESEARCH LUNG"},
        "1.5": {"StudyDate": "20240215", "StudyDescription": "RESEARCH LUNG"},
    }.items():
        service.orthanc.put(uid, "A", 1, **more)
    dates = {"StudyDate": "20240101-20240131"}
    cohort = [{**dates, "StudyDescription": "RESEARCH LUNG"}, {**dates, "StudyDescription": "HEART"}]
    job, clock = start(service, cohort)
    turns(service, clock)
    assert lines(service, job) == [("fetched", ""), ("failed", "mismatch")] and service.orthanc.moves == ["1.1"]


def test_only_the_study_that_was_found_is_fetched(service: Service) -> None:
    service.orthanc.put("1.1", "A", 3)
    service.orthanc.put("1.2", "B", 3)
    service.orthanc.deaf = True
    job, clock = start(service, [{"PatientID": "A"}])
    turns(service, clock)
    assert lines(service, job) == [("failed", "mismatch")] and service.orthanc.moves == []


@pytest.mark.parametrize(("project", "handed"), [("lung", 2), ("whole", 0)])
def test_a_study_that_comes_in_part_is_tried_again_and_then_reported(
    service: Service, project: str, handed: int
) -> None:
    service.orthanc.put("1.1", "A", 5)
    service.orthanc.sends["1.1"] = 2
    job, clock = start(service, [{"PatientID": "A"}], project)
    turns(service, clock, 2)
    assert len(service.orthanc.moves) == 2, "it goes on where it stood"
    service.orthanc.sends["1.1"] = 0
    service.orthanc.delete(orthanc_id("PACS/1.1/s/3"))
    service.orthanc.delete(orthanc_id("PACS/1.1/s/2"))
    turns(service, clock)
    assert lines(service, job) == [("failed", "incomplete")] and len(service.orthanc.moves) == fetcher.TRIES
    assert sum(service.jobs.get(job)["Content"]["Outcomes"].values()) == handed
    del service.orthanc.sends["1.1"]
    if service.jobs.get(job)["State"] == "Failure":
        service.jobs.resubmit(job)
        turns(service, clock)
        assert lines(service, job) == [("fetched", "")]
        assert service.jobs.get(job)["Content"]["Outcomes"] == {"confirmed": 5}


def test_an_archive_that_is_down_costs_no_try(service: Service) -> None:
    service.orthanc.put("1.1", "A", 3)
    service.orthanc.dead = True
    job, clock = start(service, [{"PatientID": "A"}])
    turns(service, clock, 20, 400.0)
    assert service.jobs.get(job)["Content"]["Waiting"] == "the source does not answer"
    service.orthanc.dead = False
    turns(service, clock, 4, 400.0)
    assert lines(service, job) == [("fetched", "")] and "Waiting" not in service.jobs.get(job)["Content"]


def test_only_what_the_job_itself_fetched_is_deleted(service: Service) -> None:
    service.orthanc.put("1.1", "A", 4)
    here = service.orthanc.add("PACS", "1.1", "s", 1)
    job, clock = start(service, [{"PatientID": "A"}], keep_originals=False)
    turns(service, clock)
    assert service.jobs.get(job)["Content"]["Outcomes"] == {"confirmed": 4}
    assert len(service.orthanc.deleted) == 3 and not set(here) & set(service.orthanc.deleted)
    assert service.jobs.get(job)["Content"]["OriginalsDeleted"] == 3
    with service.store.read() as conn:
        assert job_items.with_fetched(conn) == []


def test_a_dry_run_asks_and_fetches_nothing(service: Service) -> None:
    service.orthanc.put("1.1", "A", 3)
    job, clock = start(service, [{"PatientID": "A"}, {"PatientID": "B"}], dry_run=True)
    turns(service, clock)
    assert lines(service, job) == [("found", ""), ("not-found", "")] and service.orthanc.moves == []
    assert service.jobs.get(job)["State"] == "Success"


def kept(service: Service, job: str) -> tuple[list[Any], list[Any]]:
    """What the database still has of a cohort's lines: (what is asked for, what was found), those that are empty left
    out."""
    with service.store.read() as conn:
        found = conn.execute(sa.select(job_lines.c.sealed, job_lines.c.progress).where(job_lines.c.job_id == job))
        rows = list(found)
    return [row.sealed for row in rows if row.sealed], [row.progress for row in rows if row.progress]


def test_what_was_asked_for_is_forgotten_once_it_came_and_kept_while_it_can_be_asked_for_again(
    service: Service,
) -> None:
    service.orthanc.put("1.1", "A", 3)
    good, clock = start(service, [{"PatientID": "A"}, {"PatientID": "NOBODY"}])
    turns(service, clock)
    table = service.jobs.report(good)
    assert len(kept(service, good)[0]) == 2
    service.jobs._runner.tidy()
    assert kept(service, good) == ([], [])
    assert service.jobs.report(good) == table and lines(service, good) == [("fetched", ""), ("not-found", "")]
    with service.store.begin() as conn:
        cohorts.update(conn, good, 1, progress=b"late")
    assert kept(service, good) == ([], []), "what comes too late is not written down again"

    service.orthanc.deaf = True
    bad, clock = start(service, [{"PatientID": "B"}])
    turns(service, clock)
    service.jobs._runner.tidy()
    assert service.jobs.get(bad)["State"] == "Failure" and len(kept(service, bad)[0]) == 1
    service.orthanc.deaf = False
    service.orthanc.put("1.2", "B", 2)
    service.jobs.resubmit(bad)
    turns(service, clock)
    service.jobs._runner.tidy()
    assert lines(service, bad) == [("fetched", "")] and kept(service, bad) == ([], [])


def test_no_value_of_a_cohort_stands_in_the_database(service: Service, tmp_path: Path) -> None:
    service.orthanc.put("1.2.3.4.5.6.7.8.9", "PAT-SECRET", 2)
    job, clock = start(service, [{"PatientID": "PAT-SECRET"}])
    turns(service, clock)
    shown = json.dumps(service.jobs.get(job)) + service.jobs.report(job)
    service.store.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
    for secret in ("PAT-SECRET", "1.2.3.4.5.6.7.8.9", orthanc_id("PACS/1.2.3.4.5.6.7.8.9")):
        assert secret not in shown and secret.encode() not in stored
