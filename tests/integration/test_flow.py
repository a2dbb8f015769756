"""The whole way on real servers: whatever comes in, by whichever way, comes out once, clean, confirmed by the peer."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests import builders, flow
from tests.builders import Origin, person
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = pytest.mark.integration


def two_patients() -> list[bytes]:
    """Two patients with two studies each, two series a study, their instances interleaved."""
    series = [flow.ct_series(n, study, s, 2) for n in (1, 2) for study in (1, 2) for s in (1, 2)]
    return [one[k] for k in range(2) for one in series]


@pytest.mark.parametrize("way", ["rest", "c-store", "stow"])
def test_two_patients_interleaved_and_sent_twice(clinical: Orthanc, research: Orthanc, way: str) -> None:
    files = two_patients()
    for _ in range(2):
        if way == "rest":
            for data in files:
                clinical.store(data)
        elif way == "c-store":
            assert set(clinical.c_store(files)) == {0}
        else:
            clinical.stow(files)
    # pynetdicom writes its own encoding, so what arrived is what counts.
    arrived = [clinical.file(instance) for instance in sorted(clinical.instances())]
    assert len(arrived) == len(files)
    outputs = flow.expected(clinical, arrived)
    rows = flow.settled(clinical, len(files))
    flow.check_ledger(rows, outputs)
    flow.check_peer(research, outputs)
    assert len({row.out_patient for row in rows}) == 2
    assert len({row.out_study for row in rows}) == 4
    assert len(research.get("/patients")) == 2
    flow.sweep(flow.identifying((1, 2), (1, 2)), clinical, research)


def test_every_kind_of_object_passes_or_is_held_with_its_reason(clinical: Orthanc, research: Orthanc) -> None:
    files = [builders.to_bytes(data) for data in builders.study(5)]
    held = enumerate(("us", "sc", "pdf"), 1)
    files += [builders.to_bytes(builders.HELD[name](Origin(person(5), 2, n, 1))) for n, name in held]
    for data in files:
        clinical.store(data)
    outputs = flow.expected(clinical, files)
    assert sum(output.reason == "pixels-not-cleaned" for output in outputs) == 3
    rows = flow.settled(clinical, len(files))
    flow.check_ledger(rows, outputs)
    flow.check_peer(research, outputs)
    flow.sweep(flow.identifying((5,), (1, 2)), clinical, research)


def test_the_first_instance_is_at_the_peer_within_five_seconds(clinical: Orthanc, research: Orthanc) -> None:
    (other,) = flow.ct_series(19, slices=1)
    clinical.store(other)
    flow.settled(clinical, 1)  # the workers have loaded their tables: a service that has just started is another matter
    (data,) = flow.ct_series(3, slices=1, rows=512)
    clinical.store(data)
    until(lambda: len(research.instances()) == 2, 5, "the first instance at the peer", every=0.01)


def test_what_one_patient_sends_again_makes_the_same_pseudonyms(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["heart"] = dict(section["Projects"]["lung"])
    files = flow.ct_series(4, 1, 1, 2)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        for data in files:
            clinical.store(data)
        first = flow.settled(clinical, 4)
        by_project = {row.project: row.out_patient for row in first}
        assert by_project["lung"] != by_project["heart"], "projects must not be linkable"
        clinical.stop()
        clinical.start().wait_ready()
        for data in flow.ct_series(4, 2, 1, 2):
            clinical.store(data)
        rows = flow.settled(clinical, 8)
        assert {row.project: row.out_patient for row in rows} == by_project
        assert len({row.out_patient for row in rows}) == 2


def test_a_study_that_grows_after_its_release(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"] |= {"Release": "study", "QuietSeconds": 2}
    early, late = flow.ct_series(6, 1, 1, 3), flow.ct_series(6, 1, 2, 2)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        for data in early:
            clinical.store(data)
        until(lambda: [row.state for row in flow.ledger(clinical)] == ["ready"] * 3, 30, "three ready instances")
        assert not peer.instances(), "nothing leaves before the study is quiet"
        flow.settled(clinical, 3)
        flow.check_peer(peer, flow.expected(clinical, early))
        for data in late:
            clinical.store(data)
        rows = flow.settled(clinical, 5)
        assert len({row.out_study for row in rows}) == 1
        flow.check_peer(peer, flow.expected(clinical, early + late))


def test_a_manual_project_waits_for_a_person(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"]["Release"] = "manual"
    files = flow.ct_series(7, 1, 1, 2)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        for data in files:
            clinical.store(data)
        (row, _) = flow.settled(clinical, 2, also=("ready",))
        assert not peer.instances()
        answer = clinical.request("POST", f"/deid/projects/lung/studies/{row.out_study}/release", json={})
        assert answer.ok, answer.text
        flow.settled(clinical, 2)
        flow.check_peer(peer, flow.expected(clinical, files))


def test_calling_ae_selects_and_what_refers_goes_along(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"]["Match"] = {"RemoteAET": "CT[0-9]+", "CalledAET": "CLINICAL", "Modality": "CT"}
    objects = builders.study(21, slices=2)
    by_modality = {dataset.Modality: dataset for dataset in objects}
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        # A report and a segmentation come first, from a workstation; then the images they are about.
        early = [builders.to_bytes(by_modality[modality]) for modality in ("SR", "SEG")]
        assert clinical.c_store(early, calling="WORKSTATION") == [0, 0]
        others = [builders.to_bytes(dataset) for dataset in objects if dataset.Modality == "MR"]
        assert set(clinical.c_store(others, calling="CT1")) == {0}
        images = [builders.to_bytes(dataset) for dataset in objects if dataset.Modality == "CT"]
        assert set(clinical.c_store(images[:1], calling="ELSEWHERE")) == {0}
        assert set(clinical.c_store(images[1:], calling="CT1")) == {0}
        late = builders.to_bytes(by_modality["RTSTRUCT"])
        clinical.c_store([late], calling="WORKSTATION")
        rows = flow.settled(clinical, 4)
        assert {row.state for row in rows} == {"confirmed"}
        assert sorted(d.Modality for d in peer.datasets()) == ["CT", "RTSTRUCT", "SEG", "SR"]
        assert len(peer.get("/studies")) == 1


def test_a_study_with_something_held_waits_where_the_project_says_so(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"] |= {"Release": "study", "QuietSeconds": 1, "Incomplete": "hold"}
    p = person(22)
    files = [builders.to_bytes(builders.ct(Origin(p, 1, 1, n), rows=32, columns=32)) for n in (1, 2)]
    held = builders.to_bytes(builders.HELD["sc"](Origin(p, 1, 2, 1)))
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        for data in [*files, held]:
            clinical.store(data)
        rows = flow.settled(clinical, 3, also=("ready",))
        assert sorted(row.state for row in rows) == ["quarantined", "ready", "ready"]
        time.sleep(2.5)  # longer than QuietSeconds: something that must not happen cannot be polled for
        assert not peer.instances()
        (entry,) = clinical.get("/deid/quarantine")
        assert entry["Reason"] == "pixels-not-cleaned"
        assert clinical.request("POST", f"/deid/quarantine/{entry['ID']}", json={"Action": "exclude"}).ok
        until(lambda: len(peer.instances()) == 2, 30, "the rest, now that a person has left out what was held")


def late_name(number: int) -> tuple[bytes, bytes]:
    """Two objects of a patient: a text that the profile keeps in one is a name, as only the other tells."""
    p = person(number)
    one = builders.ct(Origin(p, 1, 1, 1), rows=32, columns=32)
    one.ConvolutionKernel = "QUIXOTEL"
    other = builders.ct(Origin(p, 1, 2, 1), rows=32, columns=32)
    other.OperatorsName = "Quixotel^Ana"
    return builders.to_bytes(one), builders.to_bytes(other)


def test_a_name_learnt_before_the_release_is_searched_for_in_what_waits(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"] |= {"Release": "study", "QuietSeconds": 4}
    first, second = late_name(24)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        alone = flow.expected(clinical, [first])[0].data
        assert b"QUIXOTEL" in alone, "nothing tells that this is a name"
        clinical.store(first)
        (row,) = flow.settled(clinical, 1, also=("ready",))
        assert row.out_digest == hashlib.sha256(alone).hexdigest()
        clinical.store(second)
        flow.settled(clinical, 2)
        assert not [instance for instance in peer.instances() if b"quixotel" in peer.file(instance).lower()]
        digests = {hashlib.sha256(peer.file(instance)).hexdigest() for instance in peer.instances()}
        rows = flow.ledger(clinical)
        assert digests == {row.out_digest for row in rows} and len(rows) == 2
        assert clinical.get("/deid/projects/lung")["LateValues"] == 0
        files = {path.name for path in (flow.data_folder(clinical) / "outbox").rglob("*.dcm")}
        assert not files, "neither the old output nor the new one"


def test_a_name_learnt_while_the_peer_is_down_is_searched_for_before_it_gets_anything(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"]["KeepResearchCopy"] = True
    first, second = late_name(25)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        peer.stop()
        clinical.store(first)
        until(lambda: (clinical.health().get("Service") or {}).get("PeersDown"), 30, "the peer to be seen down")
        clinical.store(second)
        flow.settled(clinical, 2, also=("released", "queued"))
        peer.start()
        rows = flow.settled(clinical, 2)
        assert [row.state for row in rows] == ["confirmed", "confirmed"]
        held = {instance: peer.file(instance) for instance in peer.instances()}
        assert not [data for data in held.values() if b"quixotel" in data.lower()]
        assert {hashlib.sha256(data).hexdigest() for data in held.values()} == {row.out_digest for row in rows}
        until(lambda: all(clinical.file(one) == held[one] for one in held), 30, "the research copies to be the same")


def test_a_name_learnt_after_the_peer_confirmed_is_reported(clinical: Orthanc, research: Orthanc) -> None:
    first, second = late_name(26)
    clinical.store(first)
    flow.settled(clinical, 1)
    assert clinical.get("/deid/projects/lung")["LateValues"] == 0
    clinical.store(second)
    flow.settled(clinical, 2)
    assert clinical.get("/deid/projects/lung")["LateValues"] == 1
    assert b'deid_late_values{project="lung"} 1.0' in clinical.get_bytes("/deid/metrics")
    assert "values were learnt of subjects whose outputs had left" in clinical.log.read_text()


def changed(data: bytes) -> bytes:
    """The same instance with other content."""
    dataset = builders.read(data)
    dataset.PixelData = dataset.PixelData[2:] + dataset.PixelData[:2]
    return builders.to_bytes(dataset)


def test_changed_content_after_the_old_has_left_is_held(tmp_path: Path) -> None:
    (data,) = flow.ct_series(8, slices=1)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, OverwriteInstances=True) as clinical,
    ):
        clinical.store(data)
        flow.settled(clinical, 1)
        clinical.store(changed(data))
        rows = flow.settled(clinical, 2)
        assert [(row.state, row.reason) for row in rows] == [("confirmed", None), ("quarantined", "source-changed")]
        flow.check_peer(peer, flow.expected(clinical, [data]))
        clinical.store(data)  # as it was: nothing new
        time.sleep(1)  # something that must not happen cannot be polled for
        assert len(flow.ledger(clinical)) == 2


def test_changed_content_before_anything_has_left_takes_its_place(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"]["Release"] = "manual"
    (data,) = flow.ct_series(9, slices=1)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section, OverwriteInstances=True) as clinical,
    ):
        clinical.store(data)
        flow.settled(clinical, 1, also=("ready",))
        clinical.store(changed(data))
        rows = flow.settled(clinical, 2, also=("ready",))
        assert [row.state for row in rows] == ["superseded", "ready"]
        clinical.request("POST", f"/deid/projects/lung/studies/{rows[1].out_study}/release", json={})
        flow.settled(clinical, 2)
        flow.check_peer(peer, flow.expected(clinical, [changed(data)]))


def test_one_patient_id_with_two_birth_dates_is_held(clinical: Orthanc, research: Orthanc) -> None:
    (first,) = flow.ct_series(10, slices=1)
    clinical.store(first)
    flow.settled(clinical, 1)
    other = builders.ct(Origin(person(10, birth_date="19010203"), 2, 1, 1))
    clinical.store(builders.to_bytes(other))
    rows = flow.settled(clinical, 2)
    assert [(row.state, row.reason) for row in rows] == [("confirmed", None), ("quarantined", "identity-contradiction")]
    flow.check_peer(research, flow.expected(clinical, [first]))


def test_the_peer_stops_and_comes_back(clinical: Orthanc, research: Orthanc) -> None:
    first, second = flow.ct_series(11, 1, 1, 2), flow.ct_series(11, 2, 1, 3)
    for data in first:
        clinical.store(data)
    flow.settled(clinical, 2)
    research.stop()
    for data in second:
        clinical.store(data)
    until(lambda: (clinical.health().get("Service") or {}).get("PeersDown"), 30, "the peer to be seen down")
    assert {row.state for row in flow.ledger(clinical)[2:]} <= {"queued", "working", "ready", "released"}
    research.start()
    rows = flow.settled(clinical, 5)
    outputs = flow.expected(clinical, first + second)
    flow.check_ledger(rows, outputs)
    flow.check_peer(research, outputs)


def test_what_a_living_peer_refuses_is_reported(tmp_path: Path) -> None:
    files = flow.ct_series(12, slices=1)
    with (
        # A plain web server is alive and takes nothing: here Orthanc itself, asked under a path that it does not have.
        research_orthanc(tmp_path / "r", MaximumStorageSize=0) as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}) as clinical,
    ):
        script = tmp_path / "refuse.lua"
        script.write_text("function ReceivedInstanceFilter(dicom, origin, info) return false end")
        peer.stop()
        peer.configuration["LuaScripts"] = [str(script)]
        peer.start()
        clinical.store(files[0])
        rows = flow.settled(clinical, 1, 120)
        assert [(row.state, row.reason) for row in rows] == [("refused", "refused")]
        assert not peer.instances()
        # Put right, it is offered the instance again when a person says so.
        peer.stop()
        del peer.configuration["LuaScripts"]
        peer.start()
        (entry,) = clinical.get("/deid/quarantine?reason=refused")
        assert clinical.request("POST", f"/deid/quarantine/{entry['ID']}", json={"Action": "retry"}).ok
        until(lambda: flow.ledger(clinical)[0].state == "confirmed", 60, "the peer to take it")
        flow.check_peer(peer, flow.expected(clinical, files))


def test_the_peer_holds_other_bytes_under_our_uids(clinical: Orthanc, research: Orthanc) -> None:
    (data,) = flow.ct_series(13, slices=1)
    (output,) = flow.expected(clinical, [data])
    research.store(changed(output.data))
    clinical.store(data)
    rows = flow.settled(clinical, 1)
    assert [(row.state, row.reason) for row in rows] == [("conflict", "conflict")]
    (entry,) = clinical.get("/deid/quarantine")

    def retry() -> None:
        assert clinical.request("POST", f"/deid/quarantine/{entry['ID']}", json={"Action": "retry"}).ok

    retry()
    until(lambda: clinical.get("/deid/quarantine"), 60, "the same conflict")
    assert not any(row.state == "confirmed" for row in flow.ledger(clinical)), "it still holds the other bytes"
    research.delete(f"/instances/{output.orthanc_id}")
    retry()
    until(lambda: flow.ledger(clinical)[0].state == "confirmed", 60, "the peer to take it")
    flow.check_peer(research, [output])


def test_the_peer_already_holds_exactly_these_bytes_from_elsewhere(clinical: Orthanc, research: Orthanc) -> None:
    # The peer does not say which bytes it holds; so this is no confirmation either.
    (data,) = flow.ct_series(14, slices=1)
    (output,) = flow.expected(clinical, [data])
    research.store(output.data)
    clinical.store(data)
    assert [row.state for row in flow.settled(clinical, 1)] == ["conflict"]


def test_the_research_copy_is_browsable_marked_and_not_processed_again(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"]["KeepResearchCopy"] = True
    files = flow.ct_series(15, 1, 1, 3)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        for data in files:
            clinical.store(data)
        outputs = flow.expected(clinical, files)
        flow.check_ledger(flow.settled(clinical, 3), outputs)
        flow.check_peer(peer, outputs)
        copies = {output.orthanc_id: output.data for output in outputs}
        until(lambda: len(clinical.instances()) == 6, 20, "three copies beside three originals")
        assert {one: clinical.file(one) for one in copies} == copies
        study = clinical.get(f"/instances/{outputs[0].orthanc_id}/study")
        assert study["PatientMainDicomTags"]["PatientID"] == outputs[0].pseudonym
        assert clinical.get_bytes(f"/studies/{study['ID']}/metadata/4301") == b"lung"
        clinical.stop()
        clinical.start().wait_ready()  # comparing everything with the ledger finds nothing new either
        until(lambda: (clinical.health().get("Service") or {}).get("LastReconciled"), 30, "the comparison")
        assert len(flow.ledger(clinical)) == 3


def test_a_research_copy_of_other_bytes_is_replaced(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"]["KeepResearchCopy"] = True
    (data,) = flow.ct_series(16, slices=1)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        (output,) = flow.expected(clinical, [data])
        clinical.store(changed(output.data))  # carries our mark, and the ledger does not know it
        rows = flow.settled(clinical, 1)
        assert [(row.state, row.reason) for row in rows] == [("quarantined", "foreign-mark")]
        clinical.store(data)
        flow.settled(clinical, 2)
        assert clinical.file(output.orthanc_id) == output.data
        flow.check_peer(peer, [output])


def test_an_emptied_change_log_hides_nothing(tmp_path: Path) -> None:
    first, second = flow.ct_series(17, 1, 1, 2), flow.ct_series(17, 2, 1, 2)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}) as clinical,
    ):
        for data in first:
            clinical.store(data)
        flow.settled(clinical, 2)
        clinical.stop()
        script, plugins = clinical.configuration.pop("PythonScript"), clinical.configuration["Plugins"]
        clinical.configuration["Plugins"] = [plugin for plugin in plugins if "Python" not in plugin]
        clinical.start()
        for data in second:
            clinical.store(data)
        clinical.delete("/changes")
        clinical.stop()
        clinical.configuration |= {"PythonScript": script, "Plugins": plugins}
        clinical.start().wait_ready()
        rows = flow.settled(clinical, 4)
        outputs = flow.expected(clinical, first + second)
        flow.check_ledger(rows, outputs)
        flow.check_peer(peer, outputs)


def test_other_content_that_the_change_log_did_not_tell_is_found_at_the_next_start(tmp_path: Path) -> None:
    (kept, old) = flow.ct_series(23, slices=2)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, OverwriteInstances=True) as clinical,
    ):
        clinical.store(kept), clinical.store(old)
        flow.settled(clinical, 2)
        clinical.stop()
        script, plugins = clinical.configuration.pop("PythonScript"), clinical.configuration["Plugins"]
        clinical.configuration["Plugins"] = [plugin for plugin in plugins if "Python" not in plugin]
        clinical.start()
        clinical.store(kept), clinical.store(changed(old))
        last = clinical.get("/changes?last")["Last"]
        clinical.stop()
        # As if the log had been read to its end: what it told is lost to the service.
        with closing(sqlite3.connect(flow.data_folder(clinical) / "deid.sqlite3")) as database, database:
            database.execute("UPDATE meta SET value = ? WHERE key = 'changes-cursor'", (str(last),))
        clinical.configuration |= {"PythonScript": script, "Plugins": plugins}
        clinical.start().wait_ready()
        rows = flow.settled(clinical, 3)
        assert sorted((row.state, row.reason or "") for row in rows) == [
            ("confirmed", ""), ("confirmed", ""), ("quarantined", "source-changed")
        ]  # fmt: skip
        flow.check_peer(peer, flow.expected(clinical, [kept, old]))


def test_a_source_that_vanishes_after_its_output_was_verified_is_delivered_all_the_same(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"]["Match"] = {}  # jobs only
    files = flow.ct_series(18, 1, 1, 2)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        names = [clinical.store(data)["ID"] for data in files]
        peer.stop()
        job = clinical.post("/deid/jobs", {"Project": "lung", "Resources": names})
        assert job["ID"]
        rows = flow.settled(clinical, 2, also=("released",))
        assert {row.state for row in rows} == {"released"}
        for name in names:
            clinical.delete(f"/instances/{name}")
        peer.start()
        rows = flow.settled(clinical, 2)  # what was verified waits in the outbox and needs its source no more
        assert {row.state for row in rows} == {"confirmed"}
        assert {hashlib.sha256(peer.file(one)).hexdigest() for one in peer.instances()} == {r.out_digest for r in rows}


def test_a_source_deleted_while_the_service_was_down_is_lost_in_the_open(tmp_path: Path) -> None:
    files = flow.ct_series(20, 1, 1, 3)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}) as clinical,
    ):
        for data in files:
            clinical.store(data)
        outputs = flow.expected(clinical, files)
        flow.settled(clinical, 3)
        clinical.stop()
        # As after a crash before any work: the rows are there, nothing is done, and then a source goes.
        with closing(sqlite3.connect(flow.data_folder(clinical) / "deid.sqlite3")) as database, database:
            database.execute("DELETE FROM deliveries")
            database.execute("UPDATE ledger SET state = 'queued'")
        shutil.rmtree(flow.data_folder(clinical) / "outbox")
        script, plugins = clinical.configuration.pop("PythonScript"), clinical.configuration["Plugins"]
        clinical.configuration["Plugins"] = [plugin for plugin in plugins if "Python" not in plugin]
        clinical.start()
        gone = next(one for one in clinical.instances() if clinical.file(one) == files[1])
        clinical.delete(f"/instances/{gone}")
        clinical.stop()
        clinical.configuration |= {"PythonScript": script, "Plugins": plugins}
        clinical.start().wait_ready()
        rows = flow.settled(clinical, 3)
        assert sorted(row.state for row in rows) == ["confirmed", "confirmed", "source-lost"]
        flow.check_peer(peer, outputs)


def test_an_orthanc_that_keeps_no_md5(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"]["Release"] = "manual"
    first, second = flow.ct_series(29, slices=4), flow.ct_series(30, slices=2)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(
            tmp_path / "c", {"research": peer}, section, StoreMD5ForAttachments=False, OverwriteInstances=True
        ) as clinical,
    ):
        outputs = flow.expected(clinical, first + second)
        for data in first:
            clinical.store(data)
        flow.settled(clinical, 4, also=("ready",))
        # Other content takes the place of the first while nothing has left.
        clinical.store(changed(first[0]))
        (anew,) = flow.expected(clinical, [changed(first[0])])

        def replaced() -> bool:
            rows = [row for row in flow.ledger(clinical) if row.out_orthanc_id == anew.orthanc_id]
            wanted = hashlib.sha256(anew.data).hexdigest()
            return [row.out_digest for row in rows if row.state == "ready"] == [wanted]

        until(replaced, 60, "the new content in the place of the old")
        clinical.stop(30)
        clinical.start().wait_ready()
        for data in second:
            clinical.store(data)
        until(lambda: len([row for row in flow.ledger(clinical) if row.state == "ready"]) == 6, 60, "all to be ready")
        for study in {row.out_study for row in flow.ledger(clinical) if row.state == "ready"}:
            assert clinical.request("POST", f"/deid/projects/lung/studies/{study}/release", json={}).ok
        until(lambda: len(peer.instances()) == 6, 60, "all at the peer")
        flow.check_peer(peer, [anew, *outputs[1:]])
