"""What has left is sent again, replaced or taken back, and what only a person can delete is said."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests import builders, flow
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = [pytest.mark.integration, pytest.mark.one_orthanc]


def order(clinical: Orthanc, what: str, study: object, body: Any = None) -> dict[str, int]:
    """Ask for something to be done with a study."""
    answer = clinical.request("POST", f"/deid/projects/lung/studies/{study}/{what}", json=body or {})
    assert answer.ok, answer.text
    return dict(answer.json())


def states(clinical: Orthanc) -> set[tuple[object, ...]]:
    """The states of all deliveries."""
    return set(flow.query(clinical, "SELECT destination, state FROM deliveries"))


def changed(data: bytes) -> bytes:
    """The same instance with other content."""
    dataset = builders.read(data)
    dataset.PixelData = dataset.PixelData[2:] + dataset.PixelData[:2]
    return builders.to_bytes(dataset)


def test_a_study_is_recalled_stays_away_and_is_sent_again(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"]["KeepResearchCopy"] = True
    files = flow.ct_series(1, slices=3)
    other = flow.ct_series(2, slices=1)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        for data in files + other:
            clinical.store(data)
        rows = flow.settled(clinical, 4)
        outputs = flow.expected(clinical, files + other)
        study = next(row.out_study for row in rows if row.out_orthanc_id == outputs[0].orthanc_id)
        until(lambda: len(clinical.instances()) == 8, 30, "the research copies")
        assert order(clinical, "recall", study) == {"Instances": 3, "SourceMissing": 0}
        until(lambda: len(peer.instances()) == 1 and len(clinical.instances()) == 5, 60, "what was sent to be gone")
        flow.check_peer(peer, outputs[3:])
        until(lambda: ("peer:research", "recalling") not in states(clinical), 30, "the recall to be noted")
        # Neither a restart with its comparison, nor the same source once more, nor a job sends it again.
        clinical.stop()
        clinical.start()
        clinical.wait_ready()
        clinical.store(files[0])
        ids = [row["ID"] for row in clinical.get("/patients?expand")]
        job = clinical.request("POST", "/deid/jobs", json={"Project": "lung", "Resources": ids}).json()
        until(lambda: clinical.get(f"/deid/jobs/{job['ID']}")["State"] in ("Success", "Failure"), 60, "the job")
        assert sorted(row.state for row in flow.ledger(clinical)) == ["confirmed"] + ["recalled"] * 3
        flow.check_peer(peer, outputs[3:])
        # Until somebody says so, and then to where he says.
        asked = order(clinical, "resend", study, {"Destination": "peer:research"})
        assert asked == {"Instances": 3, "SourceMissing": 0}
        until(lambda: all(row.state == "confirmed" for row in flow.ledger(clinical)), 60, "it to be sent again")
        flow.check_peer(peer, outputs)
        assert len(clinical.instances()) == 5, "the copies stay away"
        order(clinical, "resend", study)
        until(lambda: len(clinical.instances()) == 8, 60, "the copies to come back")
        flow.settled(clinical, 4)
        flow.check_peer(peer, outputs)
        flow.sweep({k: v for k, v in flow.identifying((1, 2)).items() if "Orthanc" not in k}, clinical, peer)
        assert clinical.get("/deid/todo") == []


def test_what_is_down_is_recalled_when_it_is_there_again(clinical: Orthanc, research: Orthanc) -> None:
    files = flow.ct_series(3, slices=2)
    clinical.store(files[0])
    (row,) = flow.settled(clinical, 1)
    research.stop()
    clinical.store(files[1])
    until(lambda: (clinical.health().get("Service") or {}).get("PeersDown"), 30, "the peer to be seen down")
    order(clinical, "recall", row.out_study)
    assert [row.state for row in flow.ledger(clinical)] == ["recalled", "recalled"]
    clinical.kill()
    clinical.start()
    clinical.wait_ready()
    research.start()
    until(lambda: not research.instances(), 60, "it to be deleted")
    until(lambda: states(clinical) == {("peer:research", "recalled")}, 30, "that to be noted")


def test_outputs_of_another_plan_are_replaced_and_others_are_not_touched(tmp_path: Path) -> None:
    shutil.copytree("profiles", tmp_path / "profiles")
    section = deid_section(Profiles=str(tmp_path / "profiles"))
    files = flow.ct_series(4, slices=2)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        for data in files:
            clinical.store(data)
        before = flow.settled(clinical, 2)
        assert order(clinical, "replace", before[0].out_study) == {"Instances": 0, "SourceMissing": 0}
        profile = tmp_path / "profiles" / "basic.yaml"
        text = profile.read_text()
        shutil.copy(tmp_path / "profiles" / "research.yaml", profile)
        assert profile.read_text() != text
        clinical.stop()
        clinical.start()
        clinical.wait_ready()
        assert clinical.request("POST", "/deid/projects/lung/replace", json={}).status_code == 202

        def replaced() -> bool:
            rows = flow.ledger(clinical)
            return all(row.state == "confirmed" for row in rows) and {row.out_digest for row in rows}.isdisjoint(
                row.out_digest for row in before
            )

        until(replaced, 90, "the outputs to be replaced")
        digests = {hashlib.sha256(peer.file(one)).hexdigest() for one in peer.instances()}
        held = {hashlib.sha256(row).hexdigest() for row in [peer.file(one) for one in peer.instances()]}
        assert digests == held and len(peer.instances()) == 2
        rows = flow.query(clinical, "SELECT count(*) FROM deliveries WHERE recall IS NOT NULL")
        assert rows == [(0,)]


def test_a_conflict_is_replaced_when_a_person_says_so(clinical: Orthanc, research: Orthanc) -> None:
    (data,) = flow.ct_series(5, slices=1)
    (output,) = flow.expected(clinical, [data])
    research.store(changed(output.data))
    clinical.store(data)
    assert [row.state for row in flow.settled(clinical, 1)] == ["conflict"]
    (entry,) = clinical.get("/deid/quarantine")
    assert clinical.request("POST", f"/deid/quarantine/{entry['ID']}", json={"Action": "replace"}).ok
    until(lambda: flow.ledger(clinical)[0].state == "confirmed", 60, "the peer to take it")
    flow.check_peer(research, [output])


def test_what_only_a_person_can_delete_stands_until_it_is_done(tmp_path: Path) -> None:
    (data,) = flow.ct_series(6, slices=1)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", OrthancPeersInDatabase=True) as clinical,
    ):
        assert clinical.request("PUT", "/peers/research", json={"Url": peer.url}).ok
        clinical.store(data)
        (row,) = flow.settled(clinical, 1)
        order(clinical, "recall", row.out_study)
        (todo,) = until(lambda: clinical.get("/deid/todo"), 30, "the to-do")
        assert (todo["Destination"], todo["Reason"], todo["Then"]) == ("peer:research", "unable", "recall")
        assert todo["StudyInstanceUID"] == row.out_study
        assert len(peer.instances()) == 1
        clinical.stop()
        clinical.start()
        clinical.wait_ready()
        peer.delete(f"/instances/{row.out_orthanc_id}")
        assert clinical.request("POST", f"/deid/todo/{todo['ID']}", json={"Action": "done"}).ok
        assert clinical.get("/deid/todo") == []
        order(clinical, "resend", row.out_study)
        until(lambda: flow.ledger(clinical)[0].state == "confirmed", 60, "it to be sent again")
        flow.check_peer(peer, flow.expected(clinical, [data]))
        assert clinical.request("POST", "/deid/todo/1", json={"Action": "done"}).status_code == 404
        assert clinical.request("POST", "/deid/projects/lung/studies/1.2/recall", json={}).status_code == 404
