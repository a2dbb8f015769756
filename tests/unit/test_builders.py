"""The builders make what they promise: readable, repeatable, different people, every transfer syntax."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from pydicom.uid import JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, RLELossless

from tests import builders, raw


def values(elements: list[raw.El]) -> list[tuple[tuple[int, ...], str, bytes]]:
    return [(path, el.vr, el.bytes.rstrip(b" \0")) for path, el in raw.walk(elements) if isinstance(el.value, bytes)]


@pytest.mark.parametrize("name", builders.ALL)
@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
def test_every_object_reads_back_the_same_in_every_native_syntax(name: str, syntax: str) -> None:
    dataset = builders.ALL[name]()
    data = builders.to_bytes(dataset, syntax)
    assert data == builders.to_bytes(builders.ALL[name](), syntax)
    read = builders.read(data)
    assert read.SOPClassUID == dataset.SOPClassUID
    _, elements, found = raw.parse(data)
    assert found == syntax
    wanted = [(path, value) for path, _, value in values(builders.tree(dataset))]
    assert [(path, value) for path, _, value in values(elements)] == wanted


@pytest.mark.parametrize("name", builders.ALL)
def test_the_raw_writer_and_pydicom_write_the_same_data_set(name: str) -> None:
    dataset = builders.ALL[name]()
    ours, theirs = builders.to_bytes(dataset), builders.pydicom_bytes(builders.ALL[name]())
    assert raw.encode(raw.parse(ours)[1]) == raw.encode(raw.parse(theirs)[1])


@pytest.mark.parametrize(
    "options", [{"undefined": True}, {"undefined_items": True}, {"undefined": True, "undefined_items": True}]
)
@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
def test_undefined_lengths_change_nothing_but_lengths(options: dict[str, bool], syntax: str) -> None:
    dataset = builders.sr_comprehensive()
    data = builders.to_bytes(dataset, syntax, **options)
    assert data != builders.to_bytes(dataset, syntax)
    assert builders.read(data).ContentSequence == builders.read(builders.to_bytes(dataset, syntax)).ContentSequence
    assert values(raw.parse(data)[1]) == values(raw.parse(builders.to_bytes(dataset, syntax))[1])


def test_a_sequence_sent_as_un_reads_back_as_a_sequence() -> None:
    data = builders.to_bytes(builders.ct(rows=8, columns=8), un=[0x00400275])
    assert builders.read(data).RequestAttributesSequence[0].ScheduledProcedureStepID == "SP1"
    assert b"\x40\x00\x75\x02UN\0\0" in data


@pytest.mark.parametrize("syntax", builders.COMPRESSED, ids=lambda syntax: syntax.name)
def test_compressed_objects_hold_one_frame(syntax: str) -> None:
    _, elements, found = raw.parse(builders.to_bytes(builders.compress(builders.mr(), syntax), syntax))
    pixel = elements[-1]
    assert found == syntax and pixel.tag == 0x7FE00010 and pixel.fragments is not None and len(pixel.fragments) == 2


@pytest.mark.parametrize(
    "syntax", [JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, RLELossless], ids=lambda s: s.name
)
def test_made_code_streams_decode(syntax: str, tmp_path: Path) -> None:
    tool = shutil.which("dcmdrle" if syntax == RLELossless else "dcmdjpeg")
    if tool is None:
        pytest.skip("dcmtk is not installed")
    (tmp_path / "in.dcm").write_bytes(builders.to_bytes(builders.compress(builders.mr(), syntax), syntax))
    subprocess.run([tool, tmp_path / "in.dcm", tmp_path / "out.dcm"], check=True, capture_output=True)
    assert len(set(builders.read((tmp_path / "out.dcm").read_bytes()).pixel_array.ravel().tolist())) == 1


def test_the_ct_slice_is_the_benchmarks_ct_slice() -> None:
    data = builders.to_bytes(builders.ct())
    assert 525_000 < len(data) < 535_000
    assert 155 <= sum(1 for _ in raw.walk(raw.parse(data)[1])) <= 165


def test_people_studies_and_series_are_distinct() -> None:
    people = [builders.person(number) for number in range(1, 200)]
    for field in ("name", "patient_id", "phone", "other_id"):
        assert len({getattr(person, field) for person in people}) == len(people), field
    uids = {
        dataset.SOPInstanceUID for number in (1, 2) for which in (1, 2) for dataset in builders.study(number, which)
    }
    assert len(uids) == 2 * 2 * 9


def test_a_study_refers_to_its_own_images() -> None:
    made = builders.study(1)
    images = {dataset.SOPInstanceUID for dataset in made}
    segmentation = next(dataset for dataset in made if dataset.Modality == "SEG")
    assert segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID in images
    assert {dataset.StudyInstanceUID for dataset in made} == {made[0].StudyInstanceUID}
