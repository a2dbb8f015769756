"""Destinations that are no peers, on real receivers: what arrives is the verified output, once, whatever happens."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import ImplicitVRLittleEndian

from tests import builders, canaries, flow
from tests.builders import Origin, person
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, free_port, research_orthanc, until
from tests.receivers import dataset_of, listens, scp, storescp

pytestmark = [pytest.mark.integration, pytest.mark.one_orthanc]


def section(*destinations: Mapping[str, Any], **project: Any) -> dict[str, Any]:
    """A Deid section whose project goes to these."""
    made = deid_section()
    made["Projects"]["lung"] |= {"Destinations": list(destinations), **project}
    return made


def modality(port: int, aet: str = "RECEIVER") -> dict[str, Any]:
    return {"there": {"AET": aet, "Host": "127.0.0.1", "Port": port}}


def of(numbers: Iterable[int], slices: int = 3) -> tuple[list[bytes], list[canaries.Canary]]:
    """The files of some patients, and everything of theirs that must be found nowhere."""
    files, values = [], []
    for number in numbers:
        files += flow.ct_series(number, slices=slices)
        values += canaries.of_person(person(number), *(Origin(person(number), 1, 1, n) for n in range(1, slices + 1)))
    return files, values


def clean(received: Iterable[bytes], values: list[canaries.Canary]) -> None:
    index = canaries.Index(values)
    assert [leak for data in received for leak in canaries.leaks(data, index)] == []


def same(received: Iterable[bytes], outputs: Iterable[flow.Output]) -> None:
    """The received instances have the values of the expected outputs, pixel for pixel, each once."""
    got = {str(one.SOPInstanceUID): one for one in map(dataset_of, received)}
    want = {str(one.SOPInstanceUID): one for one in (dataset_of(output.data) for output in outputs)}
    assert got.keys() == want.keys()
    for uid, one in want.items():
        assert got[uid].PixelData == one.PixelData
        assert [e.tag for e in got[uid]] == [e.tag for e in one]
        assert str(got[uid].PatientID) == str(one.PatientID)


def reasons(clinical: Orthanc) -> list[tuple[object, ...]]:
    return flow.query(clinical, "SELECT destination, state, reason FROM deliveries ORDER BY id")


def test_an_orthanc_by_dicom_one_by_stow_and_folders_at_once(tmp_path: Path) -> None:
    files, values = of((1, 2))
    plain, tree = tmp_path / "plain", tmp_path / "bids"
    plain.mkdir()
    tree.mkdir()
    with research_orthanc(tmp_path / "r") as first, research_orthanc(tmp_path / "w") as second:
        destinations = [
            {"Modality": "there"},
            {"DicomWeb": "web"},
            {"Folder": str(plain)},
            {"Folder": str(tree), "Layout": "bids"},
        ]
        web = {"web": [second.url + "/dicom-web/"]}
        with clinical_orthanc(
            tmp_path / "c",
            deid=section(*destinations),
            DicomModalities=modality(first.dicom_port, "RESEARCH"),
            DicomWeb={"Enable": True, "Servers": web},
        ) as clinical:
            outputs = flow.expected(clinical, files)
            for data in files:
                clinical.store(data)
            rows = flow.settled(clinical, len(files))
            flow.check_ledger(rows, outputs)
            assert {row.state for row in rows} == {"confirmed"}
            flow.check_peer(second, outputs)
            same([first.file(one) for one in first.instances()], outputs)
            for root in (plain, tree):
                found = sorted(root.rglob("*.dcm"))
                assert sorted(path.read_bytes() for path in found) == sorted(output.data for output in outputs)
                assert canaries.sweep_tree(root, canaries.Index(values)) == []
            clean([first.file(one) for one in first.instances()], values)
            pseudonyms = {output.pseudonym for output in outputs}
            assert {path.name for path in plain.iterdir()} == pseudonyms
            listed = (tree / "participants.tsv").read_text().split()[1:]
            assert listed == sorted(f"sub-{pseudonym}" for pseudonym in pseudonyms)
            shown = clinical.get("/deid/projects/lung")
            assert {one["Name"] for one in shown["Destinations"]} == {
                "modality:there", "dicomweb:web", "folder:plain", "folder:bids",
            }  # fmt: skip
            flow.sweep(flow.identifying((1, 2)), clinical, first)


def test_storescp_takes_implicit_little_endian_only(tmp_path: Path) -> None:
    files, values = of((3,))
    compressed = builders.read(builders.to_bytes(builders.ct(Origin(person(3), 1, 2, 1), rows=64, columns=64)))
    compressed.compress("1.2.840.10008.1.2.5", generate_instance_uid=False)
    files.append(builders.pydicom_bytes(compressed, "1.2.840.10008.1.2.5"))
    folder = tmp_path / "got"
    with (
        storescp(folder, "+xi") as port,
        clinical_orthanc(
            tmp_path / "c", deid=section({"Modality": "there"}), DicomModalities=modality(port, "DCMTK")
        ) as clinical,
    ):
        outputs = flow.expected(clinical, files)
        for data in files:
            clinical.store(data)
        flow.check_ledger(flow.settled(clinical, len(files)), outputs)
        noted = flow.query(clinical, "SELECT count(*), min(made), max(made) FROM variants")
        assert noted == [(len(files), str(ImplicitVRLittleEndian), str(ImplicitVRLittleEndian))]
        assert not list((flow.data_folder(clinical) / "outbox").rglob("*.part"))
    received = [path.read_bytes() for path in folder.iterdir()]
    clean(received, values)
    want = {str(one.SOPInstanceUID): one for one in (dataset_of(output.data) for output in outputs)}
    for one in map(dataset_of, received):
        assert one.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert (one.pixel_array == want.pop(str(one.SOPInstanceUID)).pixel_array).all()
    assert want == {}


def test_what_a_modality_says_is_heard(tmp_path: Path) -> None:
    files, _ = of((4,), slices=4)
    full = {"yes": True}
    seen: list[str] = []

    def status(sop: str) -> int:
        if sop not in seen:
            seen.append(sop)
        place = seen.index(sop)
        if place == 0:
            return 0xB007
        if place == 1:
            return 0xA700 if full["yes"] else 0
        return 0xA900 if place == 2 else 0

    with (
        scp(status=status) as receiver,
        clinical_orthanc(
            tmp_path / "c", deid=section({"Modality": "there"}), DicomModalities=modality(receiver.port)
        ) as clinical,
    ):
        for data in files:
            clinical.store(data)

        def told() -> bool:
            said = clinical.health()["Service"]
            # In one answer: between two tries it is left alone, while it is tried it is not.
            return "no-room" in str(said["Troubles"]) and said["PeersDown"] == ["modality:there"]

        until(told, 60, "the full receiver to be told of")
        full["yes"] = False
        rows = flow.settled(clinical, len(files))
        assert sorted(row.state for row in rows) == ["confirmed"] * 3 + ["refused"]
        assert sorted(map(str, reasons(clinical))) == sorted(
            map(str, [("modality:there", "confirmed", "coerced"), ("modality:there", "refused", "refused")]
                + [("modality:there", "confirmed", None)] * 2)
        )  # fmt: skip


@pytest.mark.parametrize("way", ["same association", "own association"])
def test_a_modality_that_commits(tmp_path: Path, way: str) -> None:
    files, values = of((5,), slices=5)
    port = free_port()
    own = way == "own association"
    failed: set[str] = set()

    def commits(sop: str) -> int:
        """One instance is not kept the first time, and asked for again."""
        if not failed or (sop in failed and len(receiver.asked) < 2):
            failed.add(sop)
            return 0x0110
        return 0

    deid = section({"Modality": "there", "StorageCommitment": True})
    if own:
        deid["CommitmentListen"] = f"127.0.0.1:{port}"
    with (
        scp(commits=commits, elsewhere=("127.0.0.1", port) if own else None) as receiver,
        clinical_orthanc(tmp_path / "c", deid=deid, DicomModalities=modality(receiver.port)) as clinical,
    ):
        outputs = flow.expected(clinical, files)
        for data in files:
            clinical.store(data)
        flow.check_ledger(flow.settled(clinical, len(files)), outputs)
        same([data for _, data in dict(receiver.received).items()], outputs)
        clean([data for _, data in receiver.received], values)
        until(lambda: flow.query(clinical, "SELECT count(*) FROM commitments") == [(0,)], 20, "the request to be over")
        uids = [uid for _, some in receiver.asked for uid in some]
        assert set(uids) == set(receiver.kept) and len(uids) == len(files) + 1
        assert [sop for sop, _ in receiver.received].count(next(iter(failed))) == 2, "offered again"


def test_commitment_over_a_restart_and_a_time_limit(tmp_path: Path) -> None:
    files, _ = of((6,))
    port = free_port()
    deid = section({"Modality": "there", "StorageCommitment": True, "CommitmentSeconds": 10})
    deid["CommitmentListen"] = f"127.0.0.1:{port}"
    with (
        scp(elsewhere=("127.0.0.1", port), silent=True) as receiver,
        clinical_orthanc(tmp_path / "c", deid=deid, DicomModalities=modality(receiver.port)) as clinical,
    ):
        for data in files:
            clinical.store(data)
        until(lambda: receiver.asked, 60, "the first request")
        pid = clinical.service_pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: clinical.health().get("Pid") not in (None, pid), 60, "another service")
        clinical.wait_ready()
        until(lambda: listens(port), 30, "the address for answers")
        assert {row.state for row in flow.ledger(clinical)} == {"released"}, "stored is not confirmed"
        transaction, _ = receiver.asked[0]
        # On a busy machine its time may be over by now, and another one be about to follow it.
        asked = "SELECT transaction_uid FROM commitments"
        (open_one,) = until(lambda: flow.query(clinical, asked), 20, "a request that is open")
        if open_one == (transaction,):
            # What was asked before the restart is answered after it, but for one instance.
            kinds = [("1.2.840.10008.5.1.4.1.1.2", uid) for uid in receiver.asked[0][1][1:]]
            receiver.answer(transaction, kinds)
            assert receiver.answers == [0]
        until(lambda: len(receiver.asked) > 1, 60, "the request that follows the one without an answer")
        receiver.silent = False
        transaction, rest = receiver.asked[-1]
        receiver.answer(transaction, [("1.2.840.10008.5.1.4.1.1.2", uid) for uid in rest])
        rows = flow.settled(clinical, len(files))
        assert {row.state for row in rows} == {"confirmed"}
        assert sorted(sop for sop, _ in receiver.received) == sorted(receiver.kept), "each was sent once"


def test_an_orthanc_that_commits(tmp_path: Path) -> None:
    files, _ = of((7,))
    port = free_port()
    deid = section({"Modality": "there", "StorageCommitment": True})
    deid["CommitmentListen"] = f"127.0.0.1:{port}"
    back = {"gateway": {"AET": "CLINICAL", "Host": "127.0.0.1", "Port": port}}
    with (
        research_orthanc(tmp_path / "r", DicomModalities=back) as peer,
        clinical_orthanc(tmp_path / "c", deid=deid, DicomModalities=modality(peer.dicom_port, "RESEARCH")) as clinical,
    ):
        outputs = flow.expected(clinical, files)
        for data in files:
            clinical.store(data)
        flow.check_ledger(flow.settled(clinical, len(files)), outputs)
        same([peer.file(one) for one in peer.instances()], outputs)


def test_xnat_is_told_where_an_output_belongs(tmp_path: Path) -> None:
    files, values = of((8,))
    with (
        scp() as receiver,
        clinical_orthanc(
            tmp_path / "c",
            deid=section({"Modality": "there", "Xnat": {"Project": "LUNG_1"}}),
            DicomModalities=modality(receiver.port),
        ) as clinical,
    ):
        outputs = flow.expected(clinical, files)
        for data in files:
            clinical.store(data)
        flow.check_ledger(flow.settled(clinical, len(files)), outputs)
        received = [data for _, data in receiver.received]
        clean(received, values)
        for one in map(dataset_of, received):
            words = dict(word.split(":") for word in str(one.PatientComments).split())
            assert words["Project"] == "LUNG_1" and words["Subject"] == one.PatientID
            assert words["Session"].startswith(one.PatientID)
        noted = flow.query(clinical, "SELECT DISTINCT made FROM variants")
        assert noted == [("xnat",)]


@pytest.mark.parametrize("kind", ["modality", "folder"])
def test_the_service_is_killed_while_it_sends(tmp_path: Path, kind: str) -> None:
    files, values = of((9,), slices=24)
    folder = tmp_path / "out"
    folder.mkdir()
    with scp() as receiver:
        destination = {"Modality": "there"} if kind == "modality" else {"Folder": str(folder)}
        with clinical_orthanc(
            tmp_path / "c", deid=section(destination), DicomModalities=modality(receiver.port)
        ) as clinical:
            outputs = flow.expected(clinical, files)
            pid = clinical.service_pid
            for data in files:
                clinical.store(data)
            query = "SELECT count(*) FROM deliveries WHERE state IN ('sending', 'confirmed')"
            until(lambda: flow.query(clinical, query)[0][0], 60, "some on their way", every=0.001)
            os.kill(pid, signal.SIGKILL)
            until(lambda: clinical.health().get("Pid") not in (None, pid), 60, "another service")
            flow.check_ledger(flow.settled(clinical, len(files)), outputs)
            if kind == "modality":
                same(receiver.kept.values(), outputs)
                sent: dict[str, set[bytes]] = {}
                for sop, data in receiver.received:
                    sent.setdefault(sop, set()).add(data)
                assert all(len(versions) == 1 for versions in sent.values()), "sent again, the same bytes"
            else:
                found = [path.read_bytes() for path in folder.rglob("*.dcm")]
                assert sorted(found) == sorted(output.data for output in outputs)
                assert canaries.sweep_tree(folder, canaries.Index(values)) == []
                assert not list(folder.rglob(".*.part"))


def test_a_folder_that_comes_back(tmp_path: Path) -> None:
    files, _ = of((10,))
    folder = tmp_path / "disk"
    with clinical_orthanc(tmp_path / "c", deid=section({"Folder": str(folder)})) as clinical:
        outputs = flow.expected(clinical, files)
        for data in files:
            clinical.store(data)
        until(
            lambda: clinical.health()["Service"]["PeersDown"] == ["folder:disk"], 60, "the missing folder to be told of"
        )
        folder.mkdir()
        flow.check_ledger(flow.settled(clinical, len(files)), outputs)
        held = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.dcm")}
        assert held == {hashlib.sha256(output.data).hexdigest() for output in outputs}
