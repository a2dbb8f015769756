"""Retain Safe Private on whole objects (PS3.15 E.3.10): what stays, where, and that nothing else does."""

from __future__ import annotations

import struct
from functools import cache

import pytest
from orthanc_deid.core.deidentify import deidentify as run
from orthanc_deid.core.private import safe_elements
from orthanc_deid.core.profile import Profile
from orthanc_deid.core.sinks import BytesSink
from orthanc_deid.core.source import Source
from orthanc_deid.core.uids import map_uid
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tests import builders, raw
from tests.canaries import Mint, leaks
from tests.engine import SUBJECT
from tests.objects.base import person
from tests.raw import El

SAFE = ("retain-safe-private", "clean-descriptors", "retain-longitudinal-modified-dates")
SIEMENS = "SIEMENS MR HEADER"
PHILIPS = "Philips Imaging DD 001"
NATIVE = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


@cache
def profile(*options: str) -> Profile:
    return Profile.parse({"name": "test", "options": list(options)})


def deidentify(elements: list[El], *options: str, syntax: str = ExplicitVRLittleEndian) -> tuple[list[El], bytes]:
    """The output's data set and bytes, with the given options, or those of `SAFE`."""
    source, sink = Source.from_bytes(raw.part10(elements, syntax)), BytesSink()
    run(source, profile(*(options or SAFE)).plan(source.facts.sop_class), SUBJECT, sink)
    return raw.parse(sink.getvalue())[1], sink.getvalue()


def base() -> list[El]:
    """An MR image without private attributes."""
    return [el for el in builders.tree(builders.PASS["mr"](rows=8, columns=8)) if not el.tag >> 16 & 1]


def block(group: int, number: int, creator: str, *elements: tuple[int, str, bytes | raw.Items]) -> list[El]:
    """A private block: its creator and elements, by the low byte of theirs."""
    home = El(group << 16 | number, "LO", creator.encode())
    return [home, *(El(group << 16 | number << 8 | low, vr, value) for low, vr, value in elements)]


def with_private(*blocks: list[El]) -> list[El]:
    elements = base()
    for one in blocks:
        for el in one:
            raw.put(elements, el)
    return elements


def private(elements: list[El]) -> dict[int, bytes]:
    """Private elements of a level by tag; of sequences an empty value."""
    return {
        el.tag: b"" if isinstance(el.value, list) else el.value.strip(b" \0") if el.vr != "FD" else el.value
        for el in elements
        if el.tag >> 16 & 1
    }


def element(elements: list[El], tag: int) -> El:
    return next(el for el in elements if el.tag == tag)


B_VALUE = (0x0C, "IS", b"1000")
DIRECTION = (0x0E, "FD", struct.pack("<3d", 0.1, -0.2, 0.97))


@pytest.mark.parametrize("syntax", NATIVE)
def test_safe_attributes_stay_as_they_are_in_every_syntax(syntax: str) -> None:
    elements = with_private(block(0x0019, 0x10, SIEMENS, B_VALUE, DIRECTION))
    found, _ = deidentify(elements, syntax=syntax)
    vector = element(found, 0x0019100E).bytes
    assert set(private(found)) == {0x00190010, 0x0019100C, 0x0019100E}
    assert private(found)[0x00190010] == SIEMENS.encode()
    assert private(found)[0x0019100C] == b"1000"
    assert vector == DIRECTION[2]


def test_without_the_option_nothing_private_stays() -> None:
    elements = with_private(block(0x0019, 0x10, SIEMENS, B_VALUE, DIRECTION))
    assert private(deidentify(elements, "clean-descriptors")[0]) == {}
    assert private(deidentify(elements, "retain-longitudinal-full-dates")[0]) == {}


@pytest.mark.parametrize("number", [0x10, 0x11, 0x7E, 0xFF])
def test_a_block_may_stand_anywhere(number: int) -> None:
    elements = with_private(block(0x0019, number, SIEMENS, B_VALUE))
    assert set(private(deidentify(elements)[0])) == {0x00190000 | number, 0x00190000 | number << 8 | 0x0C}


def test_an_attribute_belongs_to_the_block_that_its_number_names() -> None:
    mint = Mint()
    elements = with_private(
        block(0x0019, 0x10, SIEMENS, B_VALUE),
        block(0x0019, 0x11, "SOMEBODY ELSE", (0x0C, "IS", b"4711"), (0x0D, "LO", mint.token("other").encode())),
    )
    found, out = deidentify(elements)
    assert set(private(found)) == {0x00190010, 0x0019100C}
    assert not leaks(out, mint.made)


@pytest.mark.parametrize(
    "creator", ["SOMEBODY ELSE", "siemens mr header", "SIEMENS MR HEADERS", "SIEMENS", "", "SIEMENS MR HEADER\\X"]
)
def test_a_wrong_creator_takes_everything_with_it(creator: str) -> None:
    mint = Mint()
    elements = with_private(block(0x0019, 0x10, creator, B_VALUE, DIRECTION, (0x0F, "LO", mint.token("text").encode())))
    found, out = deidentify(elements)
    assert private(found) == {}
    assert not leaks(out, mint.made)


def test_without_a_creator_nothing_stays() -> None:
    elements = with_private([El(0x0019100C, "IS", b"1000"), El(0x0019110C, "IS", b"1000")])
    assert private(deidentify(elements)[0]) == {}


def test_a_creator_in_another_group_is_no_creator() -> None:
    elements = with_private(block(0x0021, 0x10, SIEMENS, B_VALUE))
    assert private(deidentify(elements)[0]) == {}


def test_two_blocks_of_one_creator_both_count() -> None:
    elements = with_private(
        block(0x0019, 0x10, SIEMENS, B_VALUE), block(0x0019, 0x12, SIEMENS, (0x0D, "CS", b"DIRECTIONAL"))
    )
    assert set(private(deidentify(elements)[0])) == {0x00190010, 0x0019100C, 0x00190012, 0x0019120D}


def test_a_creator_of_whom_nothing_stays_goes() -> None:
    mint = Mint()
    elements = with_private(
        block(0x0019, 0x10, SIEMENS, (0xEE, "LO", mint.token("unknown element").encode())),
        block(0x0029, 0x10, "SIEMENS CSA HEADER", (0x10, "OB", mint.value("OB", "CSA header"))),
        block(0x0009, 0x10, mint.token("creator")),
    )
    found, out = deidentify(elements)
    assert private(found) == {}
    assert not leaks(out, mint.made)


def test_text_is_cleaned_and_a_patients_name_goes() -> None:
    mint = Mint()
    name = person(1).name.split("^")[0]
    elements = with_private(
        block(
            0x0051,
            0x10,
            SIEMENS,
            (0x0F, "LO", b"HEAD"),
            (0x13, "SH", mint.token("unknown word").encode()),
            (0x0B, "LO", f"HEAD {name}".encode()),
        )
    )
    found, out = deidentify(elements)
    assert private(found)[0x0051100F] == b"HEAD"
    assert not leaks(out, mint.made)
    assert name.encode() not in out


def test_a_value_that_breaks_its_vr_goes() -> None:
    mint = Mint()
    elements = with_private(block(0x0019, 0x10, SIEMENS, (0x0C, "IS", mint.token("in IS").encode()), DIRECTION))
    found, out = deidentify(elements)
    assert 0x0019100C not in private(found)
    assert not leaks(out, mint.made)


def test_another_vr_than_the_known_one_goes_and_un_is_read_as_it() -> None:
    mint = Mint()
    elements = with_private(block(0x0019, 0x10, SIEMENS, (0x0C, "LO", mint.token("LO for IS").encode())))
    found, out = deidentify(elements)
    assert private(found) == {}
    assert not leaks(out, mint.made)
    elements = with_private(block(0x0019, 0x10, SIEMENS, (0x0C, "UN", b"1000")))
    assert private(deidentify(elements)[0])[0x0019100C] == b"1000"
    elements = with_private(block(0x0019, 0x10, SIEMENS, (0x0C, "UN", mint.token("UN for IS").encode())))
    found, out = deidentify(elements)
    assert set(private(found)) <= {0x00190010}
    assert not leaks(out, mint.made)


def test_text_in_place_of_a_number_of_unknown_vr_goes() -> None:
    """Nobody checks a binary number: what came as UN and is searched must not be a hiding place for names."""
    name = person(1).name.split("^")[0].encode()
    value = name.ljust(24)
    elements = with_private(block(0x0019, 0x10, SIEMENS, (0x0E, "UN", value)))
    assert name not in deidentify(elements)[1]


def test_where_tcia_rejects_an_unknown_vr_the_file_must_state_it() -> None:
    orientation = (0x0B, "CS", b"TRANSVERSAL")
    stated = with_private(block(0x2001, 0x10, PHILIPS, orientation))
    assert 0x2001100B in private(deidentify(stated)[0])
    assert private(deidentify(stated, syntax=ImplicitVRLittleEndian)[0]) == {}
    unknown = with_private(block(0x2001, 0x10, PHILIPS, (0x0B, "UN", b"TRANSVERSAL ")))
    assert private(deidentify(unknown)[0]) == {}


def test_a_bulk_value_goes_unless_the_standard_names_it() -> None:
    mint = Mint()
    elements = with_private(
        block(0x0029, 0x10, "SIEMENS MEDCOM HEADER", (0x10, "OB", mint.value("OB", "medcom"))),
        block(0x0029, 0x11, "SIEMENS CSA HEADER", (0x20, "OB", mint.value("OB", "csa"))),
        block(0x0119, 0x10, "SIEMENS Ultrasound SC2000", (0x01, "OB", b"\1\2\3\4")),
    )
    found, out = deidentify(elements)
    assert private(found) == {0x01190010: b"SIEMENS Ultrasound SC2000", 0x01191001: b"\1\2\3\4"}
    assert not leaks(out, mint.made)


def test_uids_are_mapped_and_dates_moved() -> None:
    mint = Mint()
    volume, when = mint.uid("volume"), mint.date("scan")
    elements = with_private(
        block(0x7005, 0x10, "TOSHIBA_MEC_CT3", (0x16, "UI", volume.encode())),
        block(
            0x0009,
            0x10,
            "GEMS_PETD_01",
            (0x0D, "DT", f"{when}101112.00".encode()),
            (0x0E, "DT", f"{mint.date('scan ready')}000000.00".encode()),
        ),
    )
    found, out = deidentify(elements)
    kept = private(found)
    assert kept[0x70051016] == map_uid(SUBJECT.uid_key, volume).encode()
    assert kept[0x0009100D][8:] == b"101112.00"
    assert kept[0x0009100D][:8] != when.encode()
    assert 0x0009100E not in kept  # moved, a constant would tell the offset
    assert not leaks(out, mint.made)


def test_dates_stay_with_full_dates_and_go_without_either() -> None:
    elements = with_private(block(0x0009, 0x10, "GEMS_PETD_01", (0x0D, "DT", b"20200301101112.00")))
    full, _ = deidentify(elements, "retain-safe-private", "retain-longitudinal-full-dates")
    assert private(full)[0x0009100D] == b"20200301101112.00"
    assert private(deidentify(elements, "retain-safe-private")[0]) == {}


def test_private_sequences_are_entered_and_keep_only_what_is_known() -> None:
    mint = Mint()
    inner = [
        *block(0x2001, 0x10, PHILIPS, (0x2D, "SS", b"\x18\0"), (0xEE, "LO", mint.token("unknown child").encode())),
        *block(0x2005, 0x10, "Philips MR Imaging DD 001", (0x71, "FL", b"\0\0\x80\x3f")),
        *block(0x2007, 0x10, "SOMEBODY ELSE", (0x01, "LO", mint.token("foreign child").encode())),
    ]
    public = [
        El(0x00081155, "UI", mint.uid("public child").encode()),
        El(0x00081030, "LO", mint.token("a").encode()),
    ]
    stack = [*public[::-1], *inner]
    elements = with_private(block(0x2001, 0x10, PHILIPS, (0x5F, "SQ", [stack]), (0x60, "SL", b"\1\0\0\0")))
    for as_un in (False, True):
        element(elements, 0x2001105F).as_un = as_un
        found, out = deidentify(elements)
        items = element(found, 0x2001105F).items
        assert {el.tag for el in items[0]} == {0x20010010, 0x2001102D, 0x20050010, 0x20051071}
        assert not leaks(out, mint.made)


def test_public_attributes_in_a_private_sequence_follow_their_own_rules() -> None:
    mint = Mint()
    item = [
        El(0x00080008, "CS", b"ORIGINAL\\PRIMARY"),
        El(0x00081155, "UI", mint.uid("reference").encode()),
        El(0x00100010, "PN", mint.name("name").encode()),
        El(0x00200011, "IS", b"3"),
        El(0x00204000, "LT", mint.token("comment").encode()),
    ]
    outer = [*block(0x0021, 0x10, "SIEMENS MR IMA", (0x01, "SQ", [item]))]
    elements = builders.tree(builders.PASS["enhanced_mr"](frames=1))
    frames = element(elements, 0x52009230)
    frames.items[0] += outer
    frames.items[0].sort(key=lambda el: el.tag)
    found, out = deidentify(elements)
    inside = element(element(found, 0x52009230).items[0], 0x00211001).items[0]
    assert {el.tag for el in inside} == {0x00080008, 0x00200011}
    assert not leaks(out, mint.made)


def test_private_attributes_in_public_sequences_need_their_place() -> None:
    shared = block(
        0x0021,
        0x10,
        "SIEMENS MR SDS 01",
        (0xFE, "SQ", [block(0x0021, 0x10, "SIEMENS MR SDS 01", (0x04, "DS", b"1.5"))]),
    )
    elements = builders.tree(builders.PASS["enhanced_mr"](frames=1))
    for tag in (0x52009229, 0x52009230):
        item = element(elements, tag).items[0]
        item += shared
        item.sort(key=lambda el: el.tag)
    found, _ = deidentify(elements)
    home = element(found, 0x52009229).items[0]
    assert {el.tag for el in element(home, 0x002110FE).items[0]} == {0x00210010, 0x00211004}
    assert not private(element(found, 0x52009230).items[0])


def test_a_creator_outside_an_item_says_nothing_of_what_is_inside() -> None:
    elements = with_private(block(0x0019, 0x10, SIEMENS, B_VALUE))
    request = El(0x00081140, "SQ", [[El(0x00081150, "UI", b"1.2.840.10008.5.1.4.1.1.4"), El(0x0019100C, "IS", b"5")]])
    raw.put(elements, request)
    found, _ = deidentify(elements, *SAFE)
    assert not any(0x0019100C in path for path, _ in raw.walk(el for el in found if el.tag == 0x00081140))


KNOWN = [(0x0019, SIEMENS), (0x0009, "GEMS_PETD_01"), (0x2001, PHILIPS), (0x0043, "GEMS_PARM_01")]
NUMBERS = frozenset({"AT", "FD", "FL", "SL", "SS", "UL", "US"})


@pytest.mark.parametrize(("group", "creator"), KNOWN)
@pytest.mark.parametrize("vr", ["LO", "ST", "UN", "OB", "PN", "UR"])
def test_canaries_in_every_element_of_a_known_block(group: int, creator: str, vr: str) -> None:
    """Words that nobody knows, in each of 256 elements, whatever is safe there: cleaned, or checked."""
    mint = Mint()
    safe = safe_elements(group, creator)
    content = []
    for low in range(256):
        known = safe[low].vr if low in safe else ""
        if vr == "UN" and (known in NUMBERS or known in ("SQ", "CS")):
            continue  # any bytes are a number, and any capitals a code: see the next test
        content.append((low, vr, mint.token(f"{creator} {low:02X} as {vr}").encode()))
    _, out = deidentify(with_private(block(group, 0x10, creator, *content)))
    assert [str(leak) for leak in leaks(out, mint.made)] == []


@pytest.mark.parametrize(("group", "creator"), KNOWN)
@pytest.mark.parametrize("vr", ["LO", "UN", "CS", "OB", "FD", "ST"])
def test_the_patients_own_values_are_found_in_every_element_of_a_known_block(group: int, creator: str, vr: str) -> None:
    name = person(1).name.split("^")[0].encode()
    safe = safe_elements(group, creator)
    content = [(low, vr, name.ljust(16)) for low in range(256) if low not in safe or safe[low].vr != "SQ"]
    _, out = deidentify(with_private(block(group, 0x10, creator, *content)))
    assert name not in out


def test_text_is_cleaned_without_clean_descriptors_too() -> None:
    mint = Mint()
    text = (0x0F, "LO", f"HEAD {mint.token('unknown word')}".encode())
    found, out = deidentify(with_private(block(0x0051, 0x10, SIEMENS, text)), "retain-safe-private")
    assert private(found)[0x0051100F].startswith(b"HEAD")
    assert not leaks(out, mint.made)


def test_an_item_keeps_its_character_set() -> None:
    inner = [El(0x00080005, "CS", b"ISO_IR 192"), *block(0x2001, 0x10, PHILIPS, (0x2D, "SS", b"\x18\0"))]
    elements = with_private(block(0x2001, 0x10, PHILIPS, (0x5F, "SQ", [inner])))
    found, _ = deidentify(elements)
    assert 0x00080005 in {el.tag for el in element(found, 0x2001105F).items[0]}


def test_what_an_object_says_of_its_private_attributes_does_not_count() -> None:
    mint = Mint()
    elements = with_private(block(0x0029, 0x10, "MAKER", (0x01, "LO", mint.token("said to be safe").encode())))
    safe = [
        El(0x00080301, "US", b"\x29\0"),
        El(0x00080302, "LO", b"MAKER"),
        El(0x00080303, "CS", b"SAFE"),
    ]
    raw.put(elements, El(0x00080300, "SQ", [safe]))
    found, out = deidentify(elements)
    assert private(found) == {}
    assert 0x00080300 not in {el.tag for el in found}
    assert not leaks(out, mint.made)
