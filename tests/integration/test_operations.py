"""Backing up while it runs, restoring, moving: no duplicate, no second pseudonym, no start without the key; and nothing
that identifies in any answer or line of the log."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests import builders, flow
from tests.builders import Origin, person
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = [pytest.mark.integration, pytest.mark.one_orthanc]


def back_up(clinical: Orthanc, folder: Path) -> None:
    """Copy database and key as docs/operations.md says, whatever the service does meanwhile."""
    folder.mkdir(mode=0o700)
    data = flow.data_folder(clinical)
    with (
        closing(sqlite3.connect(f"file:{data / 'deid.sqlite3'}?mode=ro", uri=True, timeout=30)) as source,
        closing(sqlite3.connect(folder / "deid.sqlite3")) as copy,
    ):
        source.backup(copy)
    shutil.copy2(data / "master.key", folder)
    (folder / "deid.sqlite3").chmod(0o600)


def pseudonyms(clinical: Orthanc) -> set[str]:
    """All pseudonyms that the ledger knows."""
    return {row.out_patient for row in flow.ledger(clinical) if row.out_patient}


def test_a_backup_of_the_running_service_is_restored_and_goes_on(tmp_path: Path) -> None:
    first, second, third = (flow.ct_series(31, 1, series, 4) for series in (1, 2, 3))
    with research_orthanc(tmp_path / "research") as peer:
        with clinical_orthanc(tmp_path / "old", {"research": peer}) as old:
            for data in first:
                old.store(data)
            outputs = flow.expected(old, first + second + third)
            flow.settled(old, 4)
            for data in second[:2]:
                old.store(data)
            back_up(old, tmp_path / "backup")  # while these two are on their way, or done, or not seen yet
            for data in second[2:]:
                old.store(data)
            flow.settled(old, 8)
            before = pseudonyms(old)
            flow.check_peer(peer, outputs[:8])
        with clinical_orthanc(tmp_path / "new", {"research": peer}, start=False) as new:
            shutil.copytree(tmp_path / "old" / "storage", tmp_path / "new" / "storage")
            shutil.copytree(tmp_path / "backup", flow.data_folder(new))
            flow.data_folder(new).chmod(0o700)
            new.start().wait_ready()
            rows = flow.settled(new, 8)
            flow.check_peer(peer, outputs[:8])  # each once, and none under another name
            assert {row.state for row in rows[:4]} == {"confirmed"}
            # What was done after the backup was done again: the peer has it, and nobody knows that it came from here.
            conflicts = [row for row in rows if row.state == "conflict"]
            assert len(conflicts) >= 2
            assert {row.state for row in rows} == {"confirmed", "conflict"}
            assert pseudonyms(new) == before
            for row in conflicts:
                assert row.out_orthanc_id is not None
                peer.delete(f"/instances/{row.out_orthanc_id}")
            for item in new.get("/deid/quarantine"):
                new.post(f"/deid/quarantine/{item['ID']}", {"Action": "retry"})
            for data in third:
                new.store(data)
            rows = flow.settled(new, 12)
            assert {row.state for row in rows} == {"confirmed"}
            assert pseudonyms(new) == before
            flow.check_peer(peer, outputs)


def test_an_installation_that_was_moved_goes_on_without_its_key_it_does_not(tmp_path: Path) -> None:
    first, second = flow.ct_series(32, 1, 1, 3), flow.ct_series(32, 1, 2, 3)
    with research_orthanc(tmp_path / "research") as peer:
        with clinical_orthanc(tmp_path / "old", {"research": peer}) as old:
            for data in first:
                old.store(data)
            outputs = flow.expected(old, first + second)
            flow.settled(old, 3)
            before = pseudonyms(old)
        (tmp_path / "old").rename(tmp_path / "elsewhere")
        key = tmp_path / "elsewhere" / "orthanc-deid" / "master.key"
        key.rename(tmp_path / "key")
        with clinical_orthanc(tmp_path / "elsewhere", {"research": peer}, ready=False) as new:
            until(lambda: "exit code" in str(new.health().get("Detail")), 60, "the service to refuse a start")
            assert "master.key" in new.log.read_text(), "the log has to say why"
            assert new.health()["Status"] != "ok"
            assert not key.exists(), "a new key would give everybody a second pseudonym"
            new.stop()
            (tmp_path / "key").rename(key)
            new.start().wait_ready()
            for data in second:
                new.store(data)
            rows = flow.settled(new, 6)
            assert {row.state for row in rows} == {"confirmed"}
            assert pseudonyms(new) == before
            flow.check_peer(peer, outputs)


def test_no_answer_no_metric_and_no_line_of_the_log_tells_who_it_is_about(tmp_path: Path) -> None:
    """The whole way, with an instance that is held, one of a job, a dry run and errors, at the most verbose level."""
    files = flow.ct_series(33, 1, 1, 3)
    held = builders.to_bytes(builders.HELD["sc"](Origin(person(33), 1, 2, 1)))
    section = deid_section()
    section["Projects"]["jobs"] = {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "instance"}
    with (
        research_orthanc(tmp_path / "research") as peer,
        clinical_orthanc(tmp_path / "clinical", {"research": peer}, deid=section) as clinical,
    ):
        clinical.request("PUT", "/tools/log-level", data="trace")
        ids = [clinical.store(data)["ID"] for data in [*files, held]]
        flow.settled(clinical, 4)
        jobs = [
            clinical.post("/deid/jobs", {"Project": "jobs", "Resources": ids[:2]})["ID"],
            clinical.post("/deid/jobs", {"Project": "jobs", "Resources": ids, "DryRun": True})["ID"],
        ]
        ended = {"Success", "Failure"}
        until(lambda: all(clinical.get(f"/deid/jobs/{job}")["State"] in ended for job in jobs), 60, "the jobs")
        clinical.request("PUT", "/tools/log-level", data="default")
        study = clinical.get("/deid/projects/lung/studies")[0]["StudyInstanceUID"]
        item = clinical.get("/deid/quarantine")[0]["ID"]
        answers = {}
        for route, methods in clinical.get("/deid/openapi.json")["paths"].items():
            if "get" not in methods:
                continue
            for job in jobs:
                path = route.replace("{job_id}", job).replace("{name}", "lung").replace("{uid}", study)
                path = path.replace("{item}", str(item))
                answers[path] = clinical.request("GET", path)
        assert len(answers) >= 8
        unfilled = [path for path in answers if "{" in path]
        # Whoever asks with an id or a value gets no more of it back than a status.
        for path in ("/deid/jobs/", "/deid/projects/", "/deid/quarantine/", "/deid/projects/lung/studies/"):
            answers[f"{path}…"] = clinical.request("GET", path + ids[0])
        answers["a body that is refused"] = clinical.request(
            "POST", "/deid/jobs", json={"Project": person(33).name, "Resources": [ids[0]], "Nonsense": person(33).name}
        )
        own = [line for line in clinical.log.read_text().splitlines() if line.startswith("{") or "orthanc-deid" in line]
    assert not unfilled
    assert any(line.startswith("{") for line in own)
    places = {path: answer.text for path, answer in answers.items()} | {"the log": "\n".join(own)}
    values = flow.identifying((33,))
    found = [f"{what} in {place}" for place, text in places.items() for what, value in values.items()
             if value.lower() in text.lower()]  # fmt: skip
    assert not found, found
