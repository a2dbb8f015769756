"""The engine on whole objects: what is kept, what is cleaned, what is refused."""

from __future__ import annotations

import gc
import io
import re
import tempfile
import weakref
import zlib
from typing import Any

import pydicom
import pytest
from orthanc_deid.core import markers, verify
from orthanc_deid.core.actions import Rewriter
from orthanc_deid.core.deidentify import Subject
from orthanc_deid.core.deidentify import deidentify as run
from orthanc_deid.core.errors import DeidError, Quarantined, Rejected
from orthanc_deid.core.sinks import BytesSink, FileSink
from orthanc_deid.core.source import HEAD_BYTES, Source
from orthanc_deid.core.uids import map_uid
from orthanc_deid.core.values import Known
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests import builders, plants, raw
from tests.engine import SUBJECT, basic, deidentify, report, shipped
from tests.objects.base import origin
from tests.objects.documents import sr_comprehensive
from tests.objects.images import ct, mr
from tests.objects.multiframe import enhanced_ct

NATIVE = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"]


def small_ct(**attributes: Any) -> Dataset:
    dataset = ct(origin(1, 1, 1, 1), rows=16, columns=16)
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


@pytest.mark.parametrize("syntax", NATIVE)
def test_identity_goes_and_pixels_stay_in_every_native_syntax(syntax: str) -> None:
    source = small_ct()
    out = pydicom.dcmread(io.BytesIO(deidentify(builders.to_bytes(source, syntax))))
    assert out.file_meta.TransferSyntaxUID == syntax
    assert out.PatientID == str(out.PatientName) == SUBJECT.pseudonym
    assert (
        out.SOPInstanceUID
        == out.file_meta.MediaStorageSOPInstanceUID
        == map_uid(SUBJECT.uid_key, source.SOPInstanceUID)
    )
    assert out.StudyInstanceUID == map_uid(SUBJECT.uid_key, source.StudyInstanceUID)
    assert out.PatientIdentityRemoved == "YES" and out.LongitudinalTemporalInformationModified == "REMOVED"
    assert [code.CodeValue for code in out.DeidentificationMethodCodeSequence] == ["113100"]
    assert (
        out.pixel_array.tobytes()
        == pydicom.dcmread(io.BytesIO(builders.to_bytes(source, syntax))).pixel_array.tobytes()
    )


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("make", [small_ct, mr, enhanced_ct, sr_comprehensive])
def test_a_file_gives_the_same_as_its_bytes(make: Any, syntax: str) -> None:
    data = builders.to_bytes(make(), syntax)
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as made:
        file.write(data)
        file.flush()
        source = Source.from_file(file)
        run(source, basic().plan(source.facts.sop_class), SUBJECT, FileSink(made))
        made.seek(0)
        assert made.read() == deidentify(data)


def test_a_header_longer_than_the_first_read_is_read_on() -> None:
    dataset = enhanced_ct(frames=3)
    group = dataset.PerFrameFunctionalGroupsSequence[0]
    dataset.PerFrameFunctionalGroupsSequence = Sequence([group] * 3 + [Dataset() for _ in range(20000)])
    data = builders.to_bytes(dataset)
    assert len(data) > 2 * HEAD_BYTES
    with tempfile.TemporaryFile() as file, tempfile.TemporaryFile() as made:
        file.write(data)
        file.flush()
        source = Source.from_file(file)
        run(source, basic().plan(source.facts.sop_class), SUBJECT, FileSink(made))
        made.seek(0)
        assert made.read() == deidentify(data)


def test_doing_it_twice_gives_the_same() -> None:
    data = builders.to_bytes(small_ct())
    assert deidentify(data) == deidentify(data)


@pytest.mark.parametrize("keyword", ["ConvolutionKernel", "ManufacturerModelName", "FilterType"])
def test_a_value_of_the_patient_in_a_kept_attribute_is_cleaned(keyword: str) -> None:
    dataset = small_ct(PatientName="Zzyzxson^Quentin")
    setattr(dataset, keyword, "for ZZYZXSON")
    out = pydicom.dcmread(io.BytesIO(deidentify(builders.to_bytes(dataset))))
    assert getattr(out, keyword, "") in ("", None)


def test_a_value_known_from_another_object_is_cleaned_too() -> None:
    data = builders.to_bytes(small_ct(ConvolutionKernel="Qwertzu"))
    known = Known(frozenset({("name", "Qwertzu^Asdf")}))
    knowing = Subject(SUBJECT.pseudonym, SUBJECT.uid_key, known=known)
    assert b"Qwertzu" in deidentify(data)
    assert b"Qwertzu" not in deidentify(data, knowing)


def test_a_name_in_a_code_meaning_is_replaced_because_it_may_not_be_empty() -> None:
    dataset = small_ct(PatientName="Zzyzxson^Quentin")
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "T-D3000", "SRT", "Chest of Zzyzxson"
    dataset.AnatomicRegionSequence = Sequence([code])
    out = pydicom.dcmread(io.BytesIO(deidentify(builders.to_bytes(dataset))))
    assert out.AnatomicRegionSequence[0].CodeMeaning == "REMOVED"
    assert out.AnatomicRegionSequence[0].CodeValue == "T-D3000"


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_value_that_only_a_sequence_in_a_sequence_tells_is_found_elsewhere(syntax: str) -> None:
    within, outside = Dataset(), Dataset()
    within.PatientName = "Zyxwothan^Ulla"
    outside.ReferencedPatientSequence = Sequence([within])
    out = deidentify(
        builders.to_bytes(small_ct(OriginalAttributesSequence=Sequence([outside]), ConvolutionKernel="ULLA"), syntax)
    )
    assert "ConvolutionKernel" not in builders.read(out)


@pytest.mark.parametrize("value", [b"1" * 60000 + b"x", b" " * 60000 + b"x", b"1." * 30000])
def test_a_long_value_that_is_no_number_is_judged_at_once(value: bytes) -> None:
    elements = builders.tree(small_ct())
    raw.put(elements, raw.El(0x00280030, "DS", value))
    raw.put(elements, raw.El(0x00200013, "IS", value))
    assert value not in deidentify(raw.part10(elements, "1.2.840.10008.1.2.1"))


def test_values_that_grow_beyond_what_their_vr_can_hold_are_held() -> None:
    elements = builders.tree(small_ct())
    raw.put(elements, raw.El(0x00083010, "UI", b"\\".join([b"1.2.3"] * 9000)))
    with pytest.raises(Quarantined) as held:
        deidentify(raw.part10(elements, "1.2.840.10008.1.2.1"))
    assert held.value.reason == "too-large"
    assert deidentify(raw.part10(elements, "1.2.840.10008.1.2"))


@pytest.mark.parametrize("value", ["20190105", "2019.01.05", "20190105101112", "2019-01-05"])
def test_a_date_in_a_time_does_not_stay(value: str) -> None:
    elements = builders.tree(small_ct())
    raw.put(elements, raw.El(0x00080032, "TM", value.encode()))
    out = deidentify(raw.part10(elements, "1.2.840.10008.1.2.1"), profile=shipped("research"))
    assert not builders.read(out).get("AcquisitionTime")


@pytest.mark.parametrize(
    "value", ["", "10", "1011", "101112", "101112.123456", "10:11:12.5", "101112\\111213.0", "1011-1112"]
)
def test_a_time_stays(value: str) -> None:
    elements = builders.tree(small_ct())
    raw.put(elements, raw.El(0x00080032, "TM", value.encode()))
    out = deidentify(raw.part10(elements, "1.2.840.10008.1.2.1"), profile=shipped("research"))
    time = [el for el in raw.parse(out)[1] if el.tag == 0x00080032]
    assert time[0].bytes.strip() == value.encode()


def test_preamble_meta_padding_and_trailing_bytes_go() -> None:
    data = bytearray(builders.to_bytes(small_ct()))
    data[:128] = b"CANARYPREAMBLE".ljust(128, b"!")
    for tail in (b"\xfc\xff\xfc\xffOB\0\0\x0c\0\0\0CANARYTAIL!!", b"CANARYTAIL", b"\0" * 512):
        out = deidentify(bytes(data) + tail)
        assert b"CANARY" not in out and out[:132] == bytes(128) + b"DICM"


def test_bytes_behind_native_pixels_go() -> None:
    dataset = small_ct()
    pixels = dataset.PixelData
    dataset.PixelData = pixels + b"CANARYBEHINDPIXELS"
    out = pydicom.dcmread(io.BytesIO(deidentify(builders.to_bytes(dataset))))
    assert out.PixelData == pixels


def test_fewer_pixels_than_the_image_has_are_held() -> None:
    dataset = small_ct()
    dataset.PixelData = dataset.PixelData[:-2]
    with pytest.raises(Quarantined) as held:
        deidentify(builders.to_bytes(dataset))
    assert (held.value.reason, held.value.tag) == ("truncated", 0x7FE00010)


@pytest.mark.parametrize("signed", [0, 1])
def test_bits_above_bits_stored_are_held(signed: int) -> None:
    dataset = small_ct(BitsStored=12, HighBit=11, PixelRepresentation=signed)
    dataset.PixelData = bytes(512)
    deidentify(builders.to_bytes(dataset))
    dataset.PixelData = b"\0\x10" + bytes(508) + b"\0\xe0"
    with pytest.raises(Quarantined) as held:
        deidentify(builders.to_bytes(dataset))
    assert (held.value.reason, held.value.tag) == ("pixels-not-cleaned", 0x7FE00010)


def test_sign_bits_are_no_overlay() -> None:
    dataset = small_ct(BitsStored=12, HighBit=11, PixelRepresentation=1)
    dataset.PixelData = b"\xff\xff\x00\xf8" * 128
    deidentify(builders.to_bytes(dataset))


def test_a_sequence_in_un_is_walked() -> None:
    dataset = small_ct(PatientName="Zzyzxson^Quentin")
    elements = builders.tree(dataset)
    inner = [raw.El(0x00080100, "SH", b"T1"), raw.El(0x00080102, "SH", b"99X "), raw.El(0x00080104, "LO", b"ZZYZXSON")]
    raw.put(elements, raw.El(0x00082218, "SQ", [inner], as_un=True))
    out = deidentify(raw.part10(elements, "1.2.840.10008.1.2.1"))
    assert b"ZZYZXSON" not in out and b"T1" in out


@pytest.mark.parametrize("uid", [0x00080018, 0x0020000D, 0x0020000E])
def test_an_instance_without_its_uids_is_held(uid: int) -> None:
    dataset = small_ct()
    del dataset[uid]
    with pytest.raises(Quarantined) as held:
        deidentify(builders.to_bytes(dataset))
    assert held.value.tag == uid


@pytest.mark.parametrize("size", [0, 1, 100, 131, 140, 200, 900])
def test_a_cut_off_file_never_gets_out(size: int) -> None:
    with pytest.raises(DeidError):
        deidentify(builders.to_bytes(small_ct())[:size])


def test_a_duplicate_attribute_is_held() -> None:
    elements = builders.tree(small_ct())
    elements.insert(1, elements[0])
    with pytest.raises(Quarantined) as held:
        deidentify(raw.part10(elements, "1.2.840.10008.1.2.1"))
    assert held.value.reason == "unparsable"


def test_elements_out_of_order_come_out_in_order() -> None:
    elements = builders.tree(small_ct())
    data = raw.part10(elements, "1.2.840.10008.1.2.1")
    mixed = raw.part10([*elements[5:-1], *elements[:5], elements[-1]], "1.2.840.10008.1.2.1")
    assert deidentify(mixed) == deidentify(data)


def test_text_is_not_dicom_and_a_dicomdir_is_rejected() -> None:
    with pytest.raises(Rejected) as no:
        deidentify(b"%PDF-1.7 not an image at all" * 20)
    assert no.value.reason == "not-dicom"


def test_a_deflated_bomb_is_refused() -> None:
    data = builders.to_bytes(small_ct(), "1.2.840.10008.1.2.1.99")
    meta = data[: data.index(b"1.2.840.10008.1.2.1.99") + 22]
    packer = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(34)) + packer.flush()
    with pytest.raises(DeidError) as held:
        Source.from_bytes(data[: 132 + 12 + int.from_bytes(data[140:144], "little")] + bomb)
    assert held.value.reason == "too-large" and meta


def test_nesting_without_end_is_refused_and_a_hundred_deep_is_not() -> None:
    def nested(depth: int) -> bytes:
        elements: list[raw.El] = [raw.El(0x00080104, "LO", b"deep")]
        for _ in range(depth):
            elements = [raw.El(0x00082218, "SQ", [elements], undefined=True, undefined_items=True)]
        tree = builders.tree(small_ct())
        raw.put(tree, elements[0])
        return raw.part10(tree, "1.2.840.10008.1.2.1")

    assert deidentify(nested(100))
    with pytest.raises(Quarantined) as held:
        deidentify(nested(200))
    assert held.value.reason == "too-large"


def test_the_mark_is_found_again_and_depends_on_the_key() -> None:
    data = builders.to_bytes(small_ct())
    out, made = report(data)
    facts = Source.from_bytes(out).facts
    assert facts.own_mark == markers.mark(SUBJECT.uid_key, made.sop_uid)
    assert facts.own_mark != markers.mark(bytes(32), made.sop_uid)
    assert Source.from_bytes(data).facts.own_mark is None


def test_the_report_counts_and_holds_no_value() -> None:
    dataset = small_ct(PatientName="Zzyzxson^Quentin")
    _, made = report(builders.to_bytes(dataset))
    assert made.counts["pseudonym"] == 2 and made.counts["remove"] > 10
    assert "Zzyzxson" not in repr(made)
    assert ("name", "Zzyzxson^Quentin") in made.harvested.values


class TestVerification:
    """Each way in which a rewriter could fail is caught by the walk over its output."""

    def tampered(self, monkeypatch: pytest.MonkeyPatch, change: Any) -> DeidError:
        honest = Rewriter.run

        def tampering(self: Rewriter) -> Any:
            return change(honest(self))

        monkeypatch.setattr(Rewriter, "run", tampering)
        dataset = small_ct(PatientName="Zzyzxson^Quentin", StudyDate="20010203")
        with pytest.raises(Quarantined) as held:
            deidentify(builders.to_bytes(dataset))
        return held.value

    def test_a_kept_value_with_the_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("orthanc_deid.core.deidentify.find", lambda *_: [])
        monkeypatch.setattr("orthanc_deid.core.verify._same", lambda *_: False)

        def change(pieces: list[Any]) -> list[Any]:
            return [p.replace(b"SYNTHETIC", b"ZZYZXSON ") if isinstance(p, bytes) else p for p in pieces]

        dataset = small_ct(PatientName="Zzyzxson^Quentin", ConvolutionKernel="Zzyzxson")
        with pytest.raises(Quarantined) as held:
            deidentify(builders.to_bytes(dataset))
        assert (held.value.reason, held.value.tag) == ("value-left", 0x00181210)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (rb"\x28\x00\x10\x00US\x02\x00..", b"\x28\x00\x10\x00LO\x0a\x00VORXXANDER"),
            (rb"(?=\x28\x00\x02\x00US)", b"\x21\x00\x10\x00LO\x0a\x00VORXXANDER"),
            (rb"\x28\x00\x10\x00US\x02\x00..", b"\x28\x00\x10\x00US\x05\x00VORXX"),
        ],
        ids=["another VR", "a creator of whom nothing is known", "an odd size"],
    )
    def test_text_where_nothing_is_searched(self, monkeypatch: pytest.MonkeyPatch, before: bytes, after: bytes) -> None:
        rewrite = Rewriter.run

        def spoil(rewriter: Rewriter) -> list[Any]:
            pieces = rewrite(rewriter)
            return [re.sub(before, after, one, flags=re.DOTALL) if isinstance(one, bytes) else one for one in pieces]

        monkeypatch.setattr(Rewriter, "run", spoil)
        with pytest.raises(Quarantined) as held:
            deidentify(builders.to_bytes(small_ct()), profile=shipped("research"))
        assert held.value.reason == "verify-failed"

    def test_an_attribute_that_the_plan_removes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        extra = b"\x10\x00\x00\x40LT\x04\x00left"

        def change(pieces: list[Any]) -> list[Any]:
            flat = b"".join(p for p in pieces if isinstance(p, bytes))
            at = flat.index(b"\x12\x00\x62\x00")
            return [flat[:at] + extra + flat[at:], *[p for p in pieces if not isinstance(p, bytes)]]

        held = self.tampered(monkeypatch, change)
        assert (held.reason, held.tag) == ("verify-failed", 0x00104000)

    @pytest.mark.parametrize(
        "before, after, tag",
        [
            (SUBJECT.pseudonym.encode(), b"PSEUDO7X4QK9M2TX", 0x00100010),
            (b"\x12\x00\x62\x00CS\x04\x00YES ", b"\x12\x00\x62\x00CS\x04\x00NO  ", 0x00120062),
            (b"\x12\x00\x62\x00CS\x04\x00YES ", b"", None),
            (b"\x08\x00\x20\x00DA\x00\x00", b"\x08\x00\x20\x00DA\x08\x0020010203", 0x00080020),
        ],
        ids=["pseudonym", "mark", "mark-missing", "date"],
    )
    def test_a_value_that_the_plan_does_not_make(
        self, before: bytes, after: bytes, tag: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def change(pieces: list[Any]) -> list[Any]:
            return [p.replace(before, after, 1) if isinstance(p, bytes) and before in p else p for p in pieces]

        held = self.tampered(monkeypatch, change)
        assert held.reason == "verify-failed"
        if tag is not None:
            assert held.tag == tag

    def test_a_uid_that_the_key_does_not_give(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("orthanc_deid.core.actions.map_uid", lambda _key, uid: uid)
        with pytest.raises(Quarantined) as held:
            deidentify(builders.to_bytes(small_ct()))
        assert held.value.reason in ("verify-failed", "value-left")

    def test_it_does_not_share_the_walker(self) -> None:
        assert "Walker" not in vars(verify)


def test_a_source_is_gone_when_nobody_holds_it() -> None:
    gc.collect()
    gc.disable()
    try:
        source = Source.from_bytes(builders.to_bytes(small_ct()))
        run(source, basic().plan(source.facts.sop_class), SUBJECT, BytesSink())
        gone = weakref.ref(source)
        del source
        assert gone() is None
    finally:
        gc.enable()


def test_a_refusal_names_no_tag_that_is_none() -> None:
    """What is read as a tag where the stream has gone wrong may be letters of a name."""
    elements = [*plants.base("ct")[:-1], raw.El(0x5FE00010, "OB", b"")]
    data = raw.part10(elements, "1.2.840.10008.1.2.1")
    at = data.rindex(b"\xe0\x5f\x10\x00OB")
    data = data[: at + 8] + b"\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    with pytest.raises(Quarantined) as caught:
        deidentify(data)
    assert caught.value.reason == "unparsable" and caught.value.tag is None
