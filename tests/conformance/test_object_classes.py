"""Every kind of object that hospitals send: it comes out clean, valid and connected, or is held for a stated reason.

For each object and profile: the outcome; nothing of the patient's in any byte, also with her name in every text of the
object; no error that dciodvfy did not find before; references to other objects of the study point at their outputs;
pixels, spectra and vectors bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from orthanc_deid.core.errors import DeidError, Quarantined, Rejected
from orthanc_deid.core.profile import Profile
from orthanc_deid.core.uids import map_uid
from orthanc_deid.core.values import identifying
from ruamel.yaml import YAML

from tests import builders, raw, validity
from tests.canaries import leaks, of_person
from tests.engine import SUBJECT, deidentify, shipped
from tests.objects.base import Origin, person
from tests.raw import El

PERSON = person(6)
PROFILES = ["basic", "research", "radiotherapy"]
KEEPING = ["research", "radiotherapy"]
"""Profiles that keep references between objects (PS3.15 would remove some of them)."""
PLACES = {"ct": 1, "mr": 2, "rtplan": 5, "slide": 32}
"""Series that other objects refer to, by number; the others get numbers of their own."""
BULK = (0x7FE00008, 0x7FE00009, 0x7FE00010, 0x56000020, 0x00640009, 0x00660016, 0x54001010)
EXPLICIT, IMPLICIT, BIG, DEFLATED = builders.NATIVE


def where(name: str) -> Origin:
    """The place of an object in the one study that all of them belong to."""
    return Origin(PERSON, 1, PLACES.get(name) or 100 + list(builders.ALL | builders.REJECTED).index(name))


@cache
def source(name: str) -> bytes:
    """The object, small."""
    small = {"rows": 16, "columns": 16} if name == "ct" else {}
    return builders.to_bytes((builders.ALL | builders.REJECTED)[name](where(name), **small))


@cache
def output(name: str, profile: str) -> bytes:
    """The object de-identified."""
    return deidentify(source(name), SUBJECT, shipped(profile))


def refusal(data: bytes, profile: Profile) -> DeidError:
    with pytest.raises(DeidError) as raised:
        deidentify(data, SUBJECT, profile)
    return raised.value


REASONS = {
    "us": "ultrasound",
    "us_multiframe": "ultrasound",
    "us_volume": "ultrasound",
    "sc": "secondary-capture",
    "opt": "visible-light",
    "tomograph": "visible-light",
    "slide": "visible-light",
    "video": "visible-light",
    "pdf": "encapsulated-document",
    "cda": "encapsulated-document",
    "stl": "encapsulated-document",
    "ecg": "waveform",
    "hemodynamic": "waveform",
    "voice": "waveform",
}


def test_every_kind_has_an_expected_outcome() -> None:
    assert builders.HELD.keys() == REASONS.keys()
    assert not builders.PASS.keys() & builders.HELD.keys()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", REASONS)
def test_what_nobody_has_cleaned_is_held_and_says_why(name: str, profile: str) -> None:
    no = refusal(source(name), shipped(profile))
    assert isinstance(no, Quarantined)
    assert (no.reason, no.detail.split(":")[0]) == ("pixels-not-cleaned", REASONS[name])
    assert leaks(str(no).encode(), of_person(PERSON, where(name))) == []


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("name", "reason"), [("dicomdir", "dicomdir"), ("raw_data", "raw-data")])
def test_what_is_no_instance_for_research_is_rejected(name: str, reason: str, profile: str) -> None:
    no = refusal(source(name), shipped(profile))
    assert isinstance(no, Rejected)
    assert no.reason == reason


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", builders.PASS)
def test_nothing_of_the_patients_comes_out(name: str, profile: str) -> None:
    assert [str(leak) for leak in leaks(output(name, profile), of_person(PERSON, where(name)))] == []


TEXTS = frozenset({"LO", "SH", "LT", "ST", "UT", "UC"})


def texts(elements: list[El]) -> Iterator[El]:
    """Every text of an object, at every depth, private ones too; not what tells the engine who she is."""
    for path, el in raw.walk(elements):
        creator = path[-1] >> 16 & 1 and path[-1] & 0xFFFF < 0x100
        if el.vr in TEXTS and not creator and path[-1] not in identifying():
            yield el


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT], ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", builders.PASS)
def test_her_name_in_every_text_does_not_come_out(name: str, profile: str, syntax: str) -> None:
    """Labels, descriptions, code meanings, comments: wherever somebody may have typed it."""
    family, given = PERSON.name.split("^")[:2]
    elements = builders.tree(builders.PASS[name](where(name)))
    changed = 0
    for number, el in enumerate(texts(elements)):
        typed = (family, family.upper(), given, PERSON.patient_id)[number % 4]
        room = {"SH": 16, "LO": 64}.get(el.vr, 10_000)
        el.value = (el.bytes.rstrip(b" ")[: max(0, room - len(typed) - 1)] + b" " + typed.encode()).strip()
        changed += 1
    assert changed > 5
    try:
        made = deidentify(raw.part10(elements, syntax), SUBJECT, shipped(profile))
    except DeidError as no:
        pytest.fail(f"it is to be cleaned, not held: {no}")
    assert [str(leak) for leak in leaks(made, of_person(PERSON, where(name)))] == []
    raw.parse(made)


@pytest.mark.skipif(validity.TOOL is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", builders.PASS)
def test_no_new_error_of_the_iod(name: str, profile: str, tmp_path: Path) -> None:
    before = validity.errors(source(name), tmp_path)
    after = validity.errors(output(name, profile), tmp_path)
    assert after - before == {}


CLEAN_BUT_FOR = {"slide_annotations": "CommonZCoordinateValue", "tomograph": "InConcatenationTotalNumber"}
"""Objects of which dciodvfy says something that contradicts itself or PS3.3."""


@pytest.mark.skipif(validity.TOOL is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize("name", builders.ALL)
def test_the_objects_are_valid_themselves(name: str, tmp_path: Path) -> None:
    """Else an error that de-identification adds might hide behind one that was there before."""
    known = CLEAN_BUT_FOR.get(name)
    assert [text for text in validity.errors(source(name), tmp_path) if known is None or known not in text] == []


def uids(data: bytes) -> dict[tuple[int, ...], str]:
    """Every UID of a data set by its place."""
    return {
        path: el.bytes.rstrip(b"\0").decode() for path, el in raw.walk(raw.parse(data)[1]) if el.vr == "UI" and el.value
    }


GRAPHICS = 0x00700001  # Graphic Annotation Sequence: what is drawn goes as a whole, unless graphics are cleaned
OWN = (0x00080018, 0x0020000D, 0x0020000E)


@cache
def instances() -> dict[str, str]:
    """UIDs of the study, its series and the instances that pass, with what they become."""
    found = {}
    for name in builders.PASS:
        for path, uid in uids(source(name)).items():
            if path[-1] in OWN and len(path) == 1:
                found[uid] = map_uid(SUBJECT.uid_key, uid)
    return found


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", builders.PASS)
def test_references_point_at_the_outputs(name: str, profile: str) -> None:
    """Every reference to an instance of the study that stays is the UID of that instance's output; none becomes new."""
    before, after = uids(source(name)), uids(output(name, profile))
    known = instances()
    wrong = {path: uid for path, uid in before.items() if uid in known and after.get(path, known[uid]) != known[uid]}
    assert wrong == {}
    if profile in KEEPING:
        lost = {path for path, uid in before.items() if uid in known and path not in after}
        lost = {path for path in lost if not any(tag >> 16 & 1 for tag in path) and GRAPHICS not in path}
        assert lost == set(), "a profile that keeps references keeps all of them"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", builders.PASS)
def test_pixels_spectra_and_vectors_stay_bit_for_bit(name: str, profile: str) -> None:
    def bulk(data: bytes) -> list[tuple[tuple[int, ...], object]]:
        return [(path, el.value) for path, el in raw.walk(raw.parse(data)[1]) if path[-1] in BULK]

    assert bulk(output(name, profile)) == bulk(source(name))


IMAGES = [name for name, make in builders.PASS.items() if "PixelData" in make()]


@pytest.mark.parametrize("name", IMAGES)
def test_the_description_of_the_pixels_stays(name: str) -> None:
    """What a reader needs to show them, and what a measurement in them needs."""
    before, after = builders.read(source(name)), builders.read(output(name, "basic"))
    for keyword in ("Rows", "Columns", "BitsStored", "PixelRepresentation", "NumberOfFrames", "PixelSpacing"):
        assert before.get(keyword) == after.get(keyword), keyword
    for keyword in ("RescaleSlope", "RescaleIntercept", "DoseGridScaling", "GridFrameOffsetVector"):
        assert before.get(keyword) == after.get(keyword), keyword


@pytest.mark.parametrize("syntax", builders.NATIVE, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("name", builders.PASS)
def test_every_encoding_gives_the_same_object(name: str, syntax: str) -> None:
    def values(data: bytes) -> list[tuple[tuple[int, ...], object]]:
        return [(path, el.value) for path, el in raw.walk(raw.parse(data)[1]) if not isinstance(el.value, list)]

    made = builders.PASS[name](where(name))
    other = deidentify(builders.to_bytes(made, syntax, undefined=True, undefined_items=True))
    plain = deidentify(builders.to_bytes(made))
    assert values(other) == values(plain)


# Documents and raw data on the profile's word

KEEP = """
name: keep-documents
description: Basic Profile, documents and raw data as they are
edition: 2026d
options: []
encapsulated: keep
raw-data: keep
"""


@cache
def keeping() -> Profile:
    return Profile.parse(YAML(typ="safe").load(KEEP))


def innocent(name: str) -> list[El]:
    """The document with nothing of the patient's in it."""
    elements = builders.tree((builders.ALL | builders.REJECTED)[name](where(name)))
    raw.put(elements, El(0x00420011, "OB", b"\x89 measured at noon, all is well "))
    return elements


@pytest.mark.parametrize("name", ["pdf", "cda", "stl"])
def test_a_document_passes_where_the_profile_keeps_documents(name: str) -> None:
    data = raw.part10(innocent(name), EXPLICIT)
    made = deidentify(data, SUBJECT, keeping())
    found = {el.tag: el for el in raw.parse(made)[1]}
    assert found[0x00420011].value == b"\x89 measured at noon, all is well "
    assert [str(leak) for leak in leaks(made, of_person(PERSON, where(name)))] == []


@pytest.mark.parametrize("codec", ["ascii", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["pdf", "cda", "stl"])
def test_a_document_that_names_the_patient_does_not_pass(name: str, codec: str) -> None:
    elements = innocent(name)
    family = PERSON.name.split("^")[0]
    raw.put(elements, El(0x00420011, "OB", b"\x89 seen: " + family.encode(codec) + b" "))
    try:
        made = deidentify(raw.part10(elements, EXPLICIT), SUBJECT, keeping())
    except DeidError as no:
        assert no.reason == "value-left"
        return
    assert leaks(made, of_person(PERSON, where(name))) == []


def test_raw_data_pass_where_the_profile_keeps_them_but_not_what_is_private_in_them() -> None:
    made = deidentify(source("raw_data"), SUBJECT, keeping())
    assert [str(leak) for leak in leaks(made, of_person(PERSON, where("raw_data")))] == []
