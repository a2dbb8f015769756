"""A back-fill on real servers: over everything, while instances come and go, through deaths, pauses and a cancel."""

from __future__ import annotations

import csv
import io
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import flow
from tests.builders import Origin, ct, mr, person, to_bytes, us
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = [pytest.mark.integration, pytest.mark.one_orthanc]

PROJECT: dict[str, Any] = {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "instance"}
PATIENTS, SLICES = 24, 10


class Archive:
    """A clinical server full of studies that nothing has looked at yet, and a research peer."""

    def __init__(self, clinical: Orthanc, peer: Orthanc) -> None:
        self.clinical, self.peer = clinical, peer
        self.studies: dict[int, str] = {}
        for number in range(1, PATIENTS + 1):
            self.fill(number)

    def fill(self, number: int, slices: int = SLICES) -> None:
        """Store a study of a patient."""
        for slice_ in range(1, slices + 1):
            one = ct(Origin(person(number), 1, 1, slice_), rows=16, columns=16)
            self.studies[number] = self.clinical.store(to_bytes(one))["ParentStudy"]

    def start(self, **body: Any) -> str:
        """Start a job over everything; return its path."""
        return f"/deid/jobs/{self.clinical.post('/deid/jobs', {'Project': 'lung', 'Query': {}, **body})['ID']}"

    def job(self, path: str) -> dict[str, Any]:
        """The job, {} while the service is away."""
        try:
            response = self.clinical.request("GET", path)
        except requests.RequestException:
            return {}
        return dict(response.json()) if response.ok else {}

    def confirmed(self, path: str) -> int:
        """How many of the job's instances the peer has confirmed."""
        return int(self.job(path).get("Content", {}).get("Outcomes", {}).get("confirmed", 0))

    def end(self, path: str, seconds: float = 150) -> dict[str, Any]:
        """Wait until a job has ended."""
        until(lambda: self.job(path).get("State") in ("Success", "Failure"), seconds, f"the end of {self.job(path)}")
        return self.job(path)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Servers of one test."""
    with (
        research_orthanc(tmp_path / "research") as peer,
        clinical_orthanc(
            tmp_path / "clinical", {"research": peer}, deid_section(Projects={"lung": PROJECT})
        ) as clinical,
    ):
        yield Archive(clinical, peer)


def test_a_backfill_loses_nothing_though_the_service_dies_and_instances_come_and_go(archive: Archive) -> None:
    path = archive.start()
    job = archive.job(path)
    assert job["Priority"] == 0 and job["Content"]["Instances"] <= PATIENTS * SLICES
    for share in (0.1, 0.4):
        until(lambda share=share: archive.confirmed(path) > share * PATIENTS * SLICES, 120, "a part of it")  # type: ignore[misc]
        os.kill(archive.clinical.service_pid, signal.SIGKILL)
        if share == 0.1:
            archive.clinical.delete(f"/studies/{archive.studies.pop(1)}")
            archive.fill(PATIENTS + 1)
        archive.clinical.wait_ready()
    job = archive.end(path)
    assert (job["State"], job["Progress"]) == ("Success", 100), job
    outcomes = job["Content"]["Outcomes"]
    assert set(outcomes) <= {"confirmed", "source-lost"}
    kept = (PATIENTS - 1) * SLICES
    assert len(archive.peer.instances()) == outcomes["confirmed"] >= kept
    rows = flow.query(archive.clinical, "SELECT source_index, count(*) FROM ledger GROUP BY source_index")
    assert len(rows) == job["Content"]["Instances"] and all(count == 1 for _, count in rows)
    assert job["EffectiveRuntime"] > 0
    values = flow.identifying(range(1, 4))
    shown = archive.clinical.get_bytes("/deid/jobs") + archive.clinical.get_bytes(f"{path}/report.csv")
    assert [what for what, value in values.items() if value.encode() in shown] == []
    flow.sweep(values, archive.clinical, archive.peer)


def test_a_backfill_tells_its_end_and_is_paused_resumed_and_cancelled_within_seconds(archive: Archive) -> None:
    for number in range(PATIENTS + 1, PATIENTS + 81):
        archive.fill(number)
    total = (PATIENTS + 80) * SLICES
    path = archive.start(Priority=3)
    until(lambda: archive.confirmed(path) > 20, 90, "a part of it", every=0.01)
    archive.clinical.post(f"{path}/pause")

    def rests() -> bool:
        outcomes = archive.job(path)["Content"]["Outcomes"]
        return not any(outcomes.get(state) for state in ("queued", "working", "released", "ready"))

    until(rests, 30, "what was begun to be finished")
    paused = archive.job(path)
    assert paused["State"] == "Paused" and paused["Content"]["Outcomes"]["confirmed"] < total
    again = archive.job(path)
    assert again["EffectiveRuntime"] == paused["EffectiveRuntime"] and "EstimatedEnd" not in again["Content"]
    archive.clinical.post(f"{path}/resume")
    until(lambda: "EstimatedEnd" in archive.job(path).get("Content", {}), 90, "a pace")
    job = archive.job(path)
    content = job["Content"]
    assert job["Priority"] == 3 and content["InstancesPerSecond"] > 0 and 0 < content["Remaining"] < total
    ends = datetime.strptime(content["EstimatedEnd"], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    assert 0 <= (ends - datetime.now(UTC)).total_seconds() < 3600
    archive.clinical.post(f"{path}/cancel")
    until(rests, 30, "what was begun to be finished")
    assert archive.job(path)["ErrorCode"] == 37
    archive.clinical.post(f"{path}/resubmit")
    assert archive.end(path)["Content"]["Outcomes"] == {"confirmed": total}
    assert len(archive.peer.instances()) == total


def test_a_dry_run_reports_and_leaves_no_trace(archive: Archive) -> None:
    archive.clinical.store(to_bytes(us(Origin(person(1), 2, 1))))
    archive.clinical.store(to_bytes(mr(Origin(person(2), 2, 1))))
    total = PATIENTS * SLICES + 2
    sample = archive.end(archive.start(DryRun=True, Sample=30))["Content"]
    assert sum(sample["Outcomes"].values()) == 30 and sample["Estimate"]["Instances"] == total
    assert sample == archive.end(archive.start(DryRun=True, Sample=30))["Content"] | {"Estimate": sample["Estimate"]}
    path = archive.start(DryRun=True)
    content = archive.end(path)["Content"]
    assert content["Outcomes"] == {"deidentified": total - 1, "quarantined": 1}
    assert content["Reasons"] == {"pixels-not-cleaned": 1} and content["Actions"]
    assert content["Modalities"] == {"CT": PATIENTS * SLICES, "MR": 1, "US": 1}
    assert set(content["SOPClasses"]) >= {"CT Image Storage", "MR Image Storage"}
    estimate = content["Estimate"]
    assert estimate["Instances"] == total and estimate["Bytes"] > 0 and 0 < estimate["Hours"] < 1
    table = list(csv.DictReader(io.StringIO(archive.clinical.get_bytes(f"{path}/report.csv").decode())))
    studies = [row for row in table if row["Section"] == "study"]
    assert sum(int(row["Number"]) for row in studies) == total
    held = [row for row in studies if row["Outcome"] == "quarantined"]
    assert [(row["Reason"], row["Number"]) for row in held] == [("pixels-not-cleaned", "1")]
    assert all(row["Key"].startswith("2.25.") for row in studies)
    assert archive.peer.instances() == set() and flow.ledger(archive.clinical) == []
    flow.sweep(flow.identifying(range(1, 4)), archive.clinical, archive.peer)
