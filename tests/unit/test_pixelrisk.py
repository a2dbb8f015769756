"""What may carry burned-in text is held, whichever of SOP class, modality and flags gives it away; originals pass."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.errors import DeidError
from orthanc_deid.core.pixelrisk import RiskRow, assess, refuse, risk_rows

STORAGE = "1.2.840.10008.5.1.4.1.1."
EXPLICIT = "1.2.840.10008.1.2.1"
ORIGINALS = {
    "CR": STORAGE + "1",
    "DX": STORAGE + "1.1",
    "MG": STORAGE + "1.2",
    "CT": STORAGE + "2",
    "MR": STORAGE + "4",
    "PT": STORAGE + "128",
    "NM": STORAGE + "20",
    "XA": STORAGE + "12.1",
    "RF": STORAGE + "12.2",
    "SEG": STORAGE + "66.4",
    "SR": STORAGE + "88.33",
    "PR": STORAGE + "11.1",
    "KO": STORAGE + "88.59",
    "REG": STORAGE + "66.1",
    "RTSTRUCT": STORAGE + "481.3",
    "RTPLAN": STORAGE + "481.5",
    "RTDOSE": STORAGE + "481.2",
}


class Facts:
    """The top level of an instance, as the engine shows it."""

    def __init__(self, sop_class: str, syntax: str, values: Mapping[int, str | bytes]) -> None:
        self.sop_class = sop_class
        self.transfer_syntax = syntax
        self._values = values

    def between(self, first: int, last: int) -> list[int]:
        return [tag for tag in sorted(self._values) if first <= tag <= last]

    def raw(self, tag: int) -> bytes | None:
        value = self._values.get(tag)
        return value.encode() if isinstance(value, str) else value

    def get(self, tag: int) -> str | None:
        raw = self.raw(tag)
        return None if raw is None else raw.decode("latin-1").strip(" \0")


def image(modality: str = "CT", sop_class: str = "", syntax: str = EXPLICIT, **values: str | bytes) -> Facts:
    """An original image of a modality; more attributes by keyword, or as g60000102 by number."""
    known: dict[int, str | bytes] = {
        0x00080008: "ORIGINAL\\PRIMARY\\AXIAL",
        0x00080060: modality,
        0x00280004: "MONOCHROME2",
        0x7FE00010: b"\0\0",
    }
    for keyword, value in values.items():
        known[int(keyword[1:], 16) if keyword.startswith("g") else standard.tags_by_keyword()[keyword]] = value
    return Facts(sop_class or ORIGINALS[modality], syntax, known)


@pytest.mark.parametrize("modality", ORIGINALS)
def test_originals_pass(modality: str) -> None:
    assert assess(image(modality)) is None


@pytest.mark.parametrize(
    "values",
    [
        {"BurnedInAnnotation": "NO"},
        {"BurnedInAnnotation": ""},
        {"ConversionType": ""},
        {"g60000102": b"\0\0"},
        {"g60003000": b"\1\1"},  # an overlay of its own: the plan removes it
        {"ImageType": "DERIVED\\PRIMARY\\MPR"},
        {"ImageType": ""},
        {"PhotometricInterpretation": "MONOCHROME1"},
    ],
)
def test_harmless_attributes_pass(values: dict[str, str | bytes]) -> None:
    assert assess(image(**values)) is None


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned-in-annotation"),
        ({"BurnedInAnnotation": " yes "}, "burned-in-annotation"),
        ({"ImageType": "DERIVED\\SECONDARY\\MPR"}, "image-type"),
        ({"ImageType": "ORIGINAL\\PRIMARY\\SCREEN SAVE"}, "image-type"),
        ({"ImageType": "DERIVED\\PRIMARY\\OTHER\\Screen_Save"}, "image-type"),
        ({"ConversionType": "WSD"}, "conversion"),
        ({"ConversionType": "DF"}, "conversion"),
        ({"PhotometricInterpretation": "RGB"}, "colour"),
        ({"PhotometricInterpretation": "PALETTE COLOR "}, "colour"),
        ({"PhotometricInterpretation": "YBR_FULL_422"}, "colour"),
        ({"WaveformSequence": b""}, "waveform"),
        ({"EncapsulatedDocument": b""}, "encapsulated-document"),
        ({"g60000102": b"\x0c\0"}, "embedded-overlay"),
        ({"g601E0102": b"\0\x0d"}, "embedded-overlay"),  # big endian, and another of the overlay groups
        ({"g60000102": b"\x0a\0"}, "embedded-overlay"),  # a line feed, were it read as text
    ],
)
def test_flags_hold_what_class_and_modality_let_pass(values: dict[str, str | bytes], rule: str) -> None:
    found = assess(image(**values))
    assert found is not None
    assert found.startswith(f"{rule}: ")


@pytest.mark.parametrize(
    "modality", ["US", "XC", "ES", "GM", "OT", "DOC", "SM", "OP", "IVUS", "ECG", "HD", "AU", "BMD"]
)
def test_modality_holds_whatever_the_class_says(modality: str) -> None:
    assert assess(image(modality, sop_class=STORAGE + "2")) is not None
    assert assess(image(modality.lower(), sop_class=STORAGE + "2")) is not None


@pytest.mark.parametrize(
    "suffix",
    [
        "6.1",
        "3.1",
        "6.2",
        "7",
        "7.1",
        "7.4",
        "77.1.4",
        "77.1.1",
        "77.1.1.1",
        "77.1.6",
        "104.1",
        "104.2",
        "9.1.1",
        "9.4.2",
    ],
)
def test_class_holds_whatever_the_modality_says(suffix: str) -> None:
    assert assess(image("CT", sop_class=STORAGE + suffix)) is not None


@pytest.mark.parametrize("modality", ["CT", "MR", "PT", "XA", "RF"])
def test_colour_is_no_measurement_even_if_one_of_class_and_modality_is_wrong(modality: str) -> None:
    assert assess(image(modality, PhotometricInterpretation="RGB")) is not None
    wrong_modality = image("SEG", sop_class=ORIGINALS[modality], PhotometricInterpretation="RGB")
    assert assess(wrong_modality) is not None
    wrong_class = image(modality, sop_class=STORAGE + "66.4", PhotometricInterpretation="RGB")
    assert assess(wrong_class) is not None


def test_colour_is_usual_elsewhere() -> None:
    assert assess(image("NM", PhotometricInterpretation="PALETTE COLOR")) is None
    assert assess(image("SEG", PhotometricInterpretation="PALETTE COLOR")) is None


@pytest.mark.parametrize("syntax", ["100", "102", "103.1", "106", "107", "108"])
def test_video_is_held(syntax: str) -> None:
    found = assess(image(syntax=f"1.2.840.10008.1.2.4.{syntax}"))
    assert found is not None
    assert found.startswith("video: ")


@pytest.mark.parametrize("syntax", ["50", "57", "70", "80", "81", "90", "91", "201"])
def test_still_pictures_pass_in_every_syntax(syntax: str) -> None:
    assert assess(image(syntax=f"1.2.840.10008.1.2.4.{syntax}")) is None


def outcome(facts: Facts, **keep: bool) -> str:
    try:
        refuse(facts, **keep)
    except DeidError as no:
        return f"{type(no).__name__} {no.reason}"
    return "passes"


def test_raw_data_are_rejected_unless_the_profile_keeps_them() -> None:
    raw = image("MR", sop_class=STORAGE + "66")
    assert outcome(raw) == outcome(raw, keep_documents=True) == "Rejected raw-data"
    assert outcome(raw, keep_raw_data=True) == "passes"


@pytest.mark.parametrize("suffix", ["104.1", "104.2", "104.3", "104.4", "104.5"])
def test_documents_are_held_unless_the_profile_keeps_them(suffix: str) -> None:
    document = image("DOC", STORAGE + suffix, EncapsulatedDocument=b"", BurnedInAnnotation="YES", ConversionType="WSD")
    assert outcome(document) == outcome(document, keep_raw_data=True) == "Quarantined pixels-not-cleaned"
    assert outcome(document, keep_documents=True) == "passes"


def test_a_document_inside_another_object_is_held_whatever_the_profile_says() -> None:
    odd = image("CT", EncapsulatedDocument=b"")
    assert outcome(odd, keep_documents=True, keep_raw_data=True) == "Quarantined pixels-not-cleaned"


@pytest.mark.parametrize(("value", "passes"), [("DI", True), ("", True), ("DV", False), ("DF", False), ("WSD", False)])
def test_a_portal_image_passes_as_the_detector_made_it(value: str, passes: bool) -> None:
    portal = image("RTIMAGE", STORAGE + "481.1", ConversionType=value)
    assert (assess(portal) is None) == passes
    assert value == "" or assess(image(ConversionType=value)) is not None, "elsewhere the attribute itself is a sign"


def test_findings_carry_no_value() -> None:
    found = assess(image(ImageType="DERIVED\\SECONDARY\\SMITH", ConversionType="SMITH"))
    assert found is not None
    assert "SMITH" not in found


def example(row: RiskRow) -> Facts:
    """An instance that only this row, or one like it, can hold."""
    values: dict[int, str | bytes] = {}
    if row.attribute:
        tag = int(row.attribute.replace("x", "0"), 16)
        value = row.value.split("|")[0] if row.test == "in" else "X SCREEN SAVE" if row.test == "matches" else "WSD"
        values[tag] = b"\1\0" if row.test == "not-zero" else value
    if row.modalities:
        values[0x00080060] = min(row.modalities)
    sop_class = min(row.sop_classes, default="")
    return Facts(sop_class, min(row.transfer_syntaxes, default=""), values)


@pytest.mark.parametrize("row", risk_rows(), ids=lambda row: f"{row.rule}-{row.reason[:20]}")
def test_every_row_holds_and_says_why(row: RiskRow) -> None:
    assert (found := assess(example(row))) is not None
    assert found == f"{row.rule}: {row.reason}"
    assert len(row.reason.split()) >= 3


def test_rows_are_well_formed() -> None:
    classes = standard.sop_classes()
    for row in risk_rows():
        assert [bool(row.sop_classes), bool(row.modalities), bool(row.transfer_syntaxes)].count(True) <= 1, row
        assert row.sop_classes <= classes.keys(), row
        assert row.sop_classes or row.modalities or row.transfer_syntaxes or row.attribute, row
        assert bool(row.attribute) == bool(row.test), row
        if row.test == "matches":
            re.compile(row.value)


def test_every_class_of_visible_light_and_waveforms_is_listed() -> None:
    listed = {uid for row in risk_rows() if not row.attribute for uid in row.sop_classes}
    expected = {
        one.uid
        for one in standard.sop_classes().values()
        if re.match(r"(vl-|video-|ophthalmic-photo|dermo|encaps|.*-waveform$|.*-ecg$|ultrasound|enhanced-us)", one.iod)
    }
    assert expected <= listed
