"""C-STORE and storage commitment against SCPs on this machine: what is sent, over what, and what an answer means."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pytest
from orthanc_deid.core.values import Known
from orthanc_deid.send import dicom, xnat
from orthanc_deid.send.base import Reply
from orthanc_deid.send.commit import Listener, ask
from orthanc_deid.send.dicom import Link
from orthanc_deid.send.modality import Around, ModalitySender, Variant, judge
from orthanc_deid.send.transcode import CannotTranscode, transcode
from orthanc_deid.store.rows import ToSend
from pydicom import dcmread
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.dsutils import split_dataset

from tests import builders
from tests.builders import Origin, person
from tests.orthancs import free_port, until
from tests.receivers import Scp, dataset_of, scp

# pynetdicom leaves the socket of a connection that did not come about to the interpreter.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PSEUDONYM = "0ABCDEFGHJKMNPQR"


def output(
    folder: Path, instance: int = 1, syntax: str = ExplicitVRLittleEndian, build: Any = None
) -> tuple[Path, ToSend]:
    """A file as an output is, and the delivery of it."""
    dataset = (build or builders.ct)(Origin(person(1), 1, 1, instance), rows=64, columns=64)
    dataset.PatientID = PSEUDONYM
    if syntax in (RLELossless, JPEG2000Lossless):
        dataset = builders.read(builders.to_bytes(dataset))
        dataset.compress(syntax, generate_instance_uid=False)
        data = builders.pydicom_bytes(dataset, syntax)
    else:
        data = builders.to_bytes(dataset, syntax)
    path = folder / f"{instance}.dcm"
    path.write_bytes(data)
    return path, ToSend(
        id=instance, ledger_id=instance, project="p", destination="modality:m", out_study=dataset.StudyInstanceUID,
        out_series=dataset.SeriesInstanceUID, out_sop=dataset.SOPInstanceUID, out_orthanc_id="x",
        out_digest=hashlib.sha256(data).hexdigest(), out_size=len(data), attempts=1, history="never",
        out_patient=PSEUDONYM,
    )  # fmt: skip


class Sending:
    """A sender with what it needs around it."""

    def __init__(self, folder: Path, port: int, known: Known = Known(), **around: Any) -> None:  # noqa: B008
        self.notes: list[tuple[ToSend, Variant]] = []
        self.scratch = folder / "variants"
        own = Around(self.scratch, lambda one, variant: self.notes.append((one, variant)), lambda one: known, **around)
        self.sender = ModalitySender(Link("RECEIVER", "127.0.0.1", port, "GATEWAY", timeout=20), own)


@pytest.fixture
def receiver() -> Iterator[Scp]:
    with scp() as one:
        yield one


def test_what_arrives_is_what_lies_in_the_file_over_few_associations(tmp_path: Path, receiver: Scp) -> None:
    sending = Sending(tmp_path, receiver.port)
    outputs = [output(tmp_path, number) for number in range(1, 21)]
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda one: sending.sender.send(*one), outputs))
    sending.sender.close()
    assert set(replies) == {(Reply.STORED, True)}
    assert receiver.associations <= dicom.ASSOCIATIONS
    for path, one in outputs:
        assert path.read_bytes().endswith(receiver.kept[one.out_sop][-500:])
        assert dataset_of(receiver.kept[one.out_sop]) == dcmread(path)
    assert sending.notes == [] and not sending.scratch.exists()


def test_one_association_does_for_all_the_kinds_of_a_study(tmp_path: Path, receiver: Scp) -> None:
    sending = Sending(tmp_path, receiver.port)
    kinds = [builders.ct, builders.mr, builders.ct, builders.mr, builders.ct]
    for number, build in enumerate(kinds, 1):
        assert sending.sender.send(*output(tmp_path, number, build=build))[0] is Reply.STORED
    assert receiver.associations <= 2, "the second was proposed for both"
    sending.sender.close()


@pytest.mark.parametrize(
    "syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEG2000Lossless]
)
def test_a_receiver_of_implicit_little_endian_gets_the_same_values(tmp_path: Path, syntax: str) -> None:
    with scp(syntaxes=[str(ImplicitVRLittleEndian)]) as receiver:
        sending = Sending(tmp_path, receiver.port)
        path, one = output(tmp_path, 1, syntax)
        assert sending.sender.send(path, one) == (Reply.STORED, True)
        sending.sender.close()
        got, had = dataset_of(receiver.kept[one.out_sop]), dcmread(path)
    assert got.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert numpy.array_equal(got.pixel_array, had.pixel_array)
    assert got.SOPInstanceUID == had.SOPInstanceUID
    for element in had:
        if element.keyword != "PixelData" and not element.is_private:
            assert got[element.tag].value == element.value
    ((noted, variant),) = sending.notes
    assert noted is one and variant.made == ImplicitVRLittleEndian and variant.digest != one.out_digest
    assert list(sending.scratch.iterdir()) == []


def test_lossy_streams_are_not_decoded(tmp_path: Path) -> None:
    with scp(syntaxes=[str(ImplicitVRLittleEndian)]) as receiver:
        sending = Sending(tmp_path, receiver.port)
        dataset = builders.compress(builders.cr(Origin(person(1), 1, 1, 1)), JPEGBaseline8Bit)
        path, one = output(tmp_path)
        path.write_bytes(builders.to_bytes(dataset, JPEGBaseline8Bit))
        assert sending.sender.send(path, one) == (Reply.UNDECODABLE, False)
        assert receiver.received == [] and sending.notes == []
        sending.sender.close()
    with pytest.raises(CannotTranscode, match="lossy"):
        transcode(path, io.BytesIO(), str(ImplicitVRLittleEndian))


def test_what_cannot_be_decoded_says_so(tmp_path: Path) -> None:
    path, _ = output(tmp_path, 1, RLELossless)
    data = path.read_bytes()
    path.write_bytes(data[:-20] + b"\xfe\xff\xdd\xe0\0\0\0\0")
    with pytest.raises(CannotTranscode):
        transcode(path, io.BytesIO(), str(ImplicitVRLittleEndian))


@pytest.mark.parametrize("to", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_native_pixels_are_copied_byte_for_byte(tmp_path: Path, to: str) -> None:
    for number, (source, build) in enumerate(
        [
            (ExplicitVRLittleEndian, builders.ct),
            (ImplicitVRLittleEndian, builders.ct),
            (ExplicitVRLittleEndian, builders.seg),
        ]
    ):
        dataset = build(Origin(person(1), 1, 1, 1))
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(builders.to_bytes(dataset, source))
        target = io.BytesIO()
        transcode(path, target, str(to))
        made, had = dataset_of(target.getvalue()), dcmread(path)
        assert made.file_meta.TransferSyntaxUID == to
        assert made.PixelData == had.PixelData
        assert [e.tag for e in made] == [e.tag for e in had]
        if to == source:
            _, start = split_dataset(path)
            assert target.getvalue().endswith(path.read_bytes()[start:]), "nothing but the file's own head may differ"


def test_objects_without_pixels_can_be_written_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "sr.dcm"
    path.write_bytes(builders.to_bytes(builders.sr_comprehensive(Origin(person(1), 1, 1, 1))))
    target = io.BytesIO()
    transcode(path, target, str(ImplicitVRLittleEndian))
    made, had = dataset_of(target.getvalue()), dcmread(path)
    assert made.ContentSequence == had.ContentSequence


@pytest.mark.parametrize(
    ("status", "reply"),
    [
        (0x0000, Reply.STORED), (0xB000, Reply.COERCED), (0xB006, Reply.COERCED), (0xB007, Reply.COERCED),
        (0xA700, Reply.NO_ROOM), (0xA7FF, Reply.NO_ROOM), (0xA900, Reply.REFUSED), (0xC000, Reply.REFUSED),
        (0xCFFF, Reply.REFUSED), (0x0122, Reply.REFUSED), (0x0124, Reply.REFUSED), (0x0111, Reply.ALREADY),
    ],
)  # fmt: skip
def test_statuses(tmp_path: Path, status: int, reply: Reply) -> None:
    assert judge(status) is reply
    with scp(status=lambda sop: status) as receiver:
        sending = Sending(tmp_path, receiver.port)
        assert sending.sender.send(*output(tmp_path)) == (reply, True)
        sending.sender.close()


def test_nobody_there_and_a_class_that_is_not_taken(tmp_path: Path) -> None:
    sending = Sending(tmp_path, free_port())
    assert sending.sender.send(*output(tmp_path)) == (Reply.DOWN, False)
    assert not sending.sender.alive()
    with scp(syntaxes=[str(JPEGBaseline8Bit)]) as receiver:
        sending = Sending(tmp_path, receiver.port)
        assert sending.sender.send(*output(tmp_path)) == (Reply.NOT_TAKEN, False)
        assert sending.sender.alive()
        sending.sender.close()


def test_a_receiver_that_dies_of_an_instance_lives_for_others(tmp_path: Path) -> None:
    (poison, one), other = output(tmp_path, 1), output(tmp_path, 2)
    receiver: Scp

    def abort(sop: str) -> int:
        if sop == one.out_sop:
            for association in receiver._server.active_associations:
                association.abort(block=False)
        return 0

    with scp(status=abort) as receiver:
        sending = Sending(tmp_path, receiver.port)
        assert sending.sender.send(poison, one) == (Reply.REFUSED, True)
        assert sending.sender.send(*other) == (Reply.STORED, True)
        for association in receiver._server.active_associations:
            association.abort()
        receiver.stop()
        assert sending.sender.send(*other)[0] is Reply.DOWN
        sending.sender.close()


def test_a_receiver_that_stops_taking_bytes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "STALL_SECONDS", 1.0)
    hold = threading.Event()
    with scp(status=lambda sop: 0) as receiver:
        sending = Sending(tmp_path, receiver.port)
        path, one = output(tmp_path)
        assert sending.sender.send(path, one)[0] is Reply.STORED
        large = builders.ct(Origin(person(1), 1, 1, 1), rows=4096, columns=4096)
        path.write_bytes(builders.to_bytes(large))
        server = receiver._server

        for association in server.active_associations:
            monkeypatch.setattr(association.dul, "_is_transport_event", lambda: hold.wait(0.05) and False)
        reply, left = sending.sender.send(path, one)
        assert left and reply in (Reply.DOWN, Reply.REFUSED)
        sending.sender.close()
        hold.set()


def test_idle_associations_are_released(tmp_path: Path, receiver: Scp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicom, "IDLE_SECONDS", 0.3)
    sending = Sending(tmp_path, receiver.port)
    sending.sender.send(*output(tmp_path))
    assert receiver._server.active_associations
    until(lambda: not receiver._server.active_associations, 10, "the association's end")
    assert sending.sender.send(*output(tmp_path, 2))[0] is Reply.STORED
    sending.sender.close()


# XNAT


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless])
@pytest.mark.parametrize("before", [None, "what the profile kept"])
def test_the_way_at_xnat_is_all_that_differs(tmp_path: Path, syntax: str, before: str | None) -> None:
    dataset = builders.ct(Origin(person(1), 1, 1, 1), rows=16, columns=16)
    dataset.PatientID = PSEUDONYM
    if before:
        dataset.PatientComments = before
    elif "PatientComments" in dataset:
        del dataset.PatientComments
    path, one = output(tmp_path)
    path.write_bytes(builders.to_bytes(dataset, syntax))
    one = ToSend(**{**_fields(one), "out_digest": hashlib.sha256(path.read_bytes()).hexdigest()})
    target = io.BytesIO()
    xnat.route(path, target, "LUNG_1", one, Known())
    made, had = dataset_of(target.getvalue()), dcmread(path)
    session = made.PatientComments.split("Session:")[1]
    assert made.PatientComments == f"Project:LUNG_1 Subject:{PSEUDONYM} Session:{session}"
    assert session.startswith(PSEUDONYM + "_") and session.replace("_", "").isalnum()
    del made.PatientComments
    if "PatientComments" in had:
        del had.PatientComments
    assert made == had


def _fields(one: ToSend) -> dict[str, Any]:
    return {name: getattr(one, name) for name in ToSend.__slots__}


def test_a_file_that_is_not_the_verified_one_is_not_sent(tmp_path: Path, receiver: Scp) -> None:
    path, one = output(tmp_path)
    path.write_bytes(path.read_bytes()[:-2] + b"\x01\x01")
    sending = Sending(tmp_path, receiver.port, xnat=lambda project: "LUNG")
    with pytest.raises(FileNotFoundError):
        sending.sender.send(path, one)
    assert receiver.received == []
    sending.sender.close()


def test_a_project_called_like_the_patient_is_not_written_into_the_output(tmp_path: Path, receiver: Scp) -> None:
    known = Known(frozenset({("name", "Quixotel")}))
    sending = Sending(tmp_path, receiver.port, known, xnat=lambda project: "Quixotel")
    assert sending.sender.send(*output(tmp_path)) == (Reply.VALUE_LEFT, False)
    assert receiver.received == []
    other = Sending(tmp_path, receiver.port, known, xnat=lambda project: "LUNG")
    path, one = output(tmp_path)
    assert other.sender.send(path, one) == (Reply.STORED, True)
    assert dataset_of(receiver.kept[one.out_sop]).PatientComments.startswith("Project:LUNG ")
    ((_, variant),) = other.notes
    assert variant.made == "xnat" and variant.digest != one.out_digest
    for sending_ in (sending, other):
        sending_.sender.close()


# Storage commitment


class Answers:
    """Collects what is reported."""

    def __init__(self, written: bool = True) -> None:
        self.got: list[tuple[str, list[str], dict[str, int]]] = []
        self.written = written

    def __call__(self, transaction: str, kept: Any, failed: Any) -> bool:
        self.got.append((transaction, list(kept), dict(failed)))
        return self.written


def test_commitment_on_the_same_association(tmp_path: Path) -> None:
    (path, one), (other_path, other) = output(tmp_path, 1), output(tmp_path, 2)
    with scp(commits=lambda sop: 0x0110 if sop == other.out_sop else 0) as receiver:
        sending = Sending(tmp_path, receiver.port, commitment=lambda project: True)
        assert sending.sender.send(path, one) == (Reply.AWAITED, True)
        assert sending.sender.send(other_path, other) == (Reply.AWAITED, True)
        answers = Answers()
        references = {item.out_sop: str(dcmread(path).SOPClassUID) for item in (one, other)}
        link = Link("RECEIVER", "127.0.0.1", receiver.port, "GATEWAY")
        assert ask(link, "1.2.3", references, answers, 20.0, threading.Event())
        assert answers.got == [("1.2.3", [one.out_sop], {other.out_sop: 0x0110})]
        until(lambda: receiver.answers == [0], 10, "the receiver to be told that its answer is written down")
        sending.sender.close()


def test_an_association_is_not_released_before_the_receiver_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sends = DIMSEServiceProvider.send_msg

    def late(self: DIMSEServiceProvider, primitive: Any, context: int) -> None:
        if isinstance(primitive, N_EVENT_REPORT) and primitive.MessageIDBeingRespondedTo is not None:
            threading.Event().wait(0.5)
        sends(self, primitive, context)

    monkeypatch.setattr(DIMSEServiceProvider, "send_msg", late)
    with scp() as receiver:
        link = Link("RECEIVER", "127.0.0.1", receiver.port, "GATEWAY")
        references = {"1.2.5": "1.2.840.10008.5.1.4.1.1.2"}
        assert ask(link, "1.2.3", references, Answers(), 20.0, threading.Event())
        until(lambda: receiver.answers == [0], 10, "the receiver to be told that its answer is written down")


@pytest.mark.parametrize("written", [True, False])
def test_commitment_on_an_association_of_its_own(tmp_path: Path, written: bool) -> None:
    answers = Answers(written)
    port = free_port()
    listener = Listener(("127.0.0.1", port), answers)
    with scp(elsewhere=("127.0.0.1", port)) as receiver:
        link = Link("RECEIVER", "127.0.0.1", receiver.port, "GATEWAY")
        assert ask(link, "1.2.4", {"1.2.5": "1.2.840.10008.5.1.4.1.1.2"}, answers, 0.0, threading.Event())
        until(lambda: receiver.answers, 10, "the answer to be taken")
        assert answers.got == [("1.2.4", [], {"1.2.5": 0x0112})]
        assert receiver.answers == [0x0000 if written else 0x0110]
    listener.stop()


def test_a_receiver_without_storage_commitment_says_so(tmp_path: Path) -> None:
    link = Link("RECEIVER", "127.0.0.1", free_port(), "GATEWAY")
    assert not ask(link, "1.2.4", {"1.2.5": "1.2.840.10008.5.1.4.1.1.2"}, Answers(), 0.0, threading.Event())
