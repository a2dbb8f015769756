"""Table E.1-1, row by row: each of its 657 rows for each Type, at the top level and within an item.

What is expected is stated here a second time and plainly, from the words of PS3.15 section E.1.1 and the notes to the
table: the code gives the alternatives, and the first of them that leaves a valid object is taken.
"""

from __future__ import annotations

import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.plan import Act, PlanSpec, Rule, compile_plan

CT = "1.2.840.10008.5.1.4.1.1.2"
SEQUENCE = 0x00081115  # Referenced Series Sequence, outside the table: always entered

R, E, D, U = Act.REMOVE, Act.EMPTY, Act.DUMMY, Act.UID
#        code: Type 1, 1C, 2, 2C, 3
EXPECTED = {
    "X": (D, D, E, E, R),
    "Z": (D, D, E, E, E),
    "D": (D, D, D, D, D),
    "U": (U, U, U, U, U),
    "X/Z": (D, D, E, E, R),
    "X/D": (D, D, E, E, R),
    "Z/D": (D, D, E, E, E),
    "X/Z/D": (D, D, E, E, R),
    "X/Z/U*": (Act.DESCEND, Act.DESCEND, Act.DESCEND, Act.DESCEND, R),
}
TYPES = ("1", "1C", "2", "2C", "3")

MASKED = {"50xxxxxx": 0x50020010, "60xx3000": 0x60063000, "60xx4000": 0x60084000, "private": 0x00291010}
ALWAYS_REMOVED = {
    *MASKED.values(),
    0xFFFAFFFA,  # Digital Signatures Sequence: signs what is changed
    0xFFFCFFFC,  # Data Set Trailing Padding
    0x04000402,
    0x04000403,
}
PSEUDONYMS = {0x00100010, 0x00100020}


def rows() -> list[tuple[int, str, str]]:
    """(tag, code, name) of every row; the four masked rows with a tag that they stand for."""
    found = []
    for row in standard.rows("e1_1.csv"):
        tag = MASKED.get(row[0])
        found.append((int(row[0], 16) if tag is None else tag, row[4], row[1]))
    return found


def rule_for(monkeypatch: pytest.MonkeyPatch, tag: int, type_: str, *, nested: bool) -> Rule:
    """The rule of an attribute in an IOD that gives it this Type."""
    context = standard.Context()
    place = context
    if nested:
        place = context.children[SEQUENCE] = standard.Context(SEQUENCE, context)
    place.types[tag] = (type_, "an-iod")
    monkeypatch.setattr(standard, "iod_context", lambda _iod: context)
    node = compile_plan.__wrapped__(PlanSpec("basic"), CT).root
    if nested:
        entered = node[SEQUENCE]
        assert entered.child is not None
        node = entered.child
    return node[tag]


def test_the_table_has_all_its_rows() -> None:
    assert len(rows()) == 657
    assert {code for _tag, code, _name in rows()} == set(EXPECTED)


@pytest.mark.parametrize("nested", [False, True], ids=["top", "nested"])
@pytest.mark.parametrize(("tag", "code", "name"), rows(), ids=[f"{tag:08X}" for tag, _code, _name in rows()])
def test_row(monkeypatch: pytest.MonkeyPatch, tag: int, code: str, name: str, nested: bool) -> None:
    for type_, expected in zip(TYPES, EXPECTED[code], strict=True):
        rule = rule_for(monkeypatch, tag, type_, nested=nested)
        if tag in ALWAYS_REMOVED or tag >> 16 in (0x0000, 0x0002, 0x0004):
            assert rule.act is Act.REMOVE, name
            continue
        if tag in PSEUDONYMS and not nested:
            assert rule.act is Act.PSEUDONYM, name
            continue
        if rule.vr == "SQ" and expected is Act.DUMMY:
            # Where nothing is known that an item could hold there is nothing to make up, and only Type 1 needs an item.
            assert rule.act is Act.DUMMY or (rule.act is Act.EMPTY and type_ not in ("1", "1C")), name
            assert (rule.child is not None) == (rule.act is Act.DUMMY), name
        else:
            assert rule.act is expected, name
        if rule.act is Act.DUMMY and rule.vr != "SQ":
            assert rule.dummy, name
        assert rule.type == type_
        assert f"basic {code}" in rule.provenance
        assert "an-iod" in rule.provenance
        assert rule.on_hit is {"1": D, "1C": D, "2": E, "2C": E, "3": R}[type_]


@pytest.mark.parametrize(("tag", "code", "name"), rows(), ids=[f"{tag:08X}" for tag, _code, _name in rows()])
def test_nothing_of_a_row_survives_the_basic_profile(
    monkeypatch: pytest.MonkeyPatch, tag: int, code: str, name: str
) -> None:
    for type_ in TYPES:
        assert rule_for(monkeypatch, tag, type_, nested=False).act not in (Act.KEEP, Act.CLEAN, Act.SHIFT), (name, code)
