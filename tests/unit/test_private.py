"""Safe private attributes: what is known, where it holds, and who wins where the sources disagree."""

from __future__ import annotations

import csv
import re

import pytest
from orthanc_deid.core import private, standard
from orthanc_deid.core.private import SafeElement, root, safe_elements

SIEMENS = "SIEMENS MR HEADER"
PHILIPS = "Philips Imaging DD 001"


def table(name: str) -> list[dict[str, str]]:
    with (standard.FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def known() -> list[tuple[str, str, int, SafeElement]]:
    top = []
    for row in table("safe_private_merged.csv"):
        if row["code"] == "X" or "xx" not in row["attribute"][:6]:
            continue
        vrs = frozenset(vr.encode() for vr in (row["vr"], *row["other_vrs"].split()))
        low = int(row["attribute"][6:8], 16)
        one = SafeElement(low, row["vr"], row["code"], row["provenance"], vrs, row["stated"] == "Y")
        top.append((row["place"], row["attribute"][9:], int(row["attribute"][:4], 16), one))
    return top


def test_an_attribute_of_the_standards_table_stays() -> None:
    b_value = safe_elements(0x0019, SIEMENS)[0x0C]
    assert (b_value.vr, b_value.code, b_value.provenance) == ("IS", "K", "E.3.10-1")


def test_an_attribute_that_only_the_knowledge_base_names_stays() -> None:
    mosaic = safe_elements(0x0019, SIEMENS)[0x0A]
    assert (mosaic.vr, mosaic.code, mosaic.provenance) == ("US", "K", "TCIA")


@pytest.mark.parametrize(
    ("group", "creator"),
    [(0x0019, "SOMEBODY ELSE"), (0x0021, SIEMENS), (0x0019, SIEMENS.lower()), (0x0019, ""), (0x0029, "SIEMENS CSA")],
)
def test_creator_and_group_must_match(group: int, creator: str) -> None:
    assert not safe_elements(group, creator)


@pytest.mark.parametrize("creator", [f"{SIEMENS} ", f" {SIEMENS}\0", f"{SIEMENS}\0\0"])
def test_padding_of_a_creator_does_not_matter(creator: str) -> None:
    assert safe_elements(0x0019, creator) == safe_elements(0x0019, SIEMENS)


def test_unknown_creators_are_not_remembered() -> None:
    before = len(root()._safe)
    for number in range(100):
        assert not safe_elements(0x0019, f"INVENTED {number}")
    assert len(root()._safe) == before


def test_the_twenty_conflicts_are_decided_for_the_careful_side() -> None:
    rows = table("safe_private_conflicts.csv")
    assert len({row["attribute"] for row in rows}) == 20
    for row in rows:
        group, low, creator = int(row["attribute"][:4], 16), int(row["attribute"][6:8], 16), row["attribute"][9:]
        place: private.Place | None = root()
        for step in row["place"].split(" > ") if row["place"] else ():
            if place is None:
                break
            if "xx" in step[:6]:
                above = place.safe(int(step[:4], 16), step[9:]).get(int(step[6:8], 16))
                place = above.children if above is not None else None
            else:
                place = place.inside(int(step, 16))
        one = place.safe(group, creator).get(low) if place is not None else None
        if row["decision"].startswith("goes"):
            assert one is None, row
        elif one is not None:  # not reachable where the sequence around it goes
            assert one.admits(row["vr"].encode()), row
            assert not one.admits(b"UN"), row
            assert not one.admits(b""), row


def test_what_goes_everywhere_goes_in_every_sequence() -> None:
    for place in (root(), root().inside(0x52009230), root().inside(0x00081115)):
        assert 0x67 not in place.safe(0x2001, PHILIPS)
        assert 0x0A in place.safe(0x2001, PHILIPS)


def test_an_attribute_of_the_table_is_safe_in_any_public_sequence_but_where_tcia_says_no() -> None:
    assert 0x3F in root().safe(0x2001, PHILIPS)
    assert 0x3F in root().inside(0x00400275).safe(0x2001, PHILIPS)
    assert 0x3F not in root().inside(0x0070005A).safe(0x2001, PHILIPS)


def test_knowledge_of_the_base_is_bound_to_its_place() -> None:
    inner = root().inside(0x52009229).safe(0x0021, "SIEMENS MR SDS 01")[0xFE]
    assert inner.vr == "SQ"
    assert inner.children is not None
    assert inner.children.safe(0x0021, "SIEMENS MR SDS 01")[0x04].code == "K"
    assert 0xFE not in root().inside(0x00400275).safe(0x0021, "SIEMENS MR SDS 01")


def test_public_attributes_in_private_sequences_are_those_that_the_base_names() -> None:
    stated = root().inside(0x52009230).safe(0x0021, "SIEMENS MR IMA")[0x01]
    assert stated.children is not None
    assert stated.children.public is not None
    assert 0x00080008 in stated.children.public
    assert 0x00100010 not in stated.children.public
    stack = safe_elements(0x2001, PHILIPS)[0x5F]
    assert stack.children is not None
    assert stack.children.public == {0x00080005}
    assert stack.children.inside(0x00081140).public == {0x00080005}
    assert root().public is None
    assert root().inside(0x00081140).public is None


def test_every_sequence_has_children_and_nothing_else_has() -> None:
    for place in (root(), root().inside(0x52009229)):
        for group, creator in ((0x2001, PHILIPS), (0x0021, "SIEMENS MR SDS 01"), (0x0029, "MMCPrivate")):
            for one in place.safe(group, creator).values():
                assert (one.children is not None) == (one.vr == "SQ")


def test_no_blob_stays_that_the_table_does_not_name(known: list[tuple[str, str, int, SafeElement]]) -> None:
    for place, creator, _, one in known:
        if one.vrs & {b"OB", b"OW", b"OF", b"UN", b"OD", b"OL"}:
            assert one.provenance == "E.3.10-1", (place, creator, one)


def test_actions_follow_from_the_vr(known: list[tuple[str, str, int, SafeElement]]) -> None:
    for place, creator, group, one in known:
        where = (place, creator, hex(group), one)
        assert one.code in ("K", "C", "U", "SHIFT"), where
        if one.vr in ("LO", "SH", "ST", "LT", "UT", "UC"):
            assert one.code == "C", where
        if one.vr in ("DA", "DT", "TM"):
            assert one.code == "SHIFT", where
        if one.vr == "UI":
            assert one.code == "U", where
        assert not one.vrs & {b"PN", b"AE", b"UR", b""}, where
        if one.code == "K" and not one.stated:  # without a VR, letters are never taken for numbers or the other way
            words, numbers = {b"CS", b"DS", b"IS"}, {b"SS", b"US", b"SL", b"UL", b"FL", b"FD"}
            assert not (one.vrs & words and one.vrs & numbers), where


def test_what_would_tell_the_offset_goes() -> None:
    petd = safe_elements(0x0009, "GEMS_PETD_01")
    assert 0x0E not in petd  # Scan Ready: the same for all patients of a release
    assert petd[0x0D].code == "SHIFT"  # Scan Date Time
    assert 0x04 not in safe_elements(0x0017, "GEMS_PETD_01")  # calibration
    assert 0x9D not in safe_elements(0x0019, "GEMS_ACQU_01")  # release of a pulse sequence
    assert 0x27 not in safe_elements(0x0009, "GEMS_IDEN_01")  # a date as a number of seconds
    assert 0x70 not in safe_elements(0x0023, "GEMS_STDY_01")


def test_nothing_stays_that_the_list_of_exclusions_names(known: list[tuple[str, str, int, SafeElement]]) -> None:
    patterns = [
        re.compile(re.escape(row["attribute"]).replace(r"\*", ".*")) for row in table("safe_private_excluded.csv")
    ]
    assert patterns
    for _, creator, group, one in known:
        text = f"{group:04X}xx{one.element:02X} {creator}"
        assert not any(pattern.fullmatch(text) for pattern in patterns), text


def test_sources_are_complete() -> None:
    """All that the standard's table names is there, in conflict, without a VR, or excluded with a reason."""
    merged = {row["attribute"] for row in table("safe_private_merged.csv") if row["place"] == "*"}
    gone = {row["attribute"] for row in table("safe_private_conflicts.csv") if row["decision"] == "goes everywhere"}
    excluded = [
        re.compile(re.escape(row["attribute"]).replace(r"\*", ".*")) for row in table("safe_private_excluded.csv")
    ]
    for row in table("safe_private.csv"):
        text = f"{row['tag']} {row['private_creator']}"
        if row["vr"]:
            assert text in merged or text in gone or any(pattern.fullmatch(text) for pattern in excluded), text


def test_every_sequence_that_stays_leads_somewhere() -> None:
    merged = table("safe_private_merged.csv")
    places = {row["place"] for row in merged}
    for row in merged:
        if row["vr"] == "SQ" and row["place"] != "*":
            path = f"{row['place']} > {row['attribute']}" if row["place"] else row["attribute"]
            assert path in places, path
