"""PS3.15 Table E.1-1, 2026d, row by row: an object with the attribute goes in, and what comes out obeys the row.

Each of the 657 rows is tried where an IOD has the attribute, at the Type that the IOD gives it, nested or not, and
where the IOD does not know it, so that it counts as Type 3. The Types are read from PS3.3's module tables here, not
from the plan.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest
from orthanc_deid.core import standard
from orthanc_deid.core.plan import Act

from tests import builders, plants, raw, reference
from tests.canaries import Mint, leaks
from tests.engine import SUBJECT, basic, outcome
from tests.raw import El

CLASSES = [
    "ct",
    "mr",
    "pt",
    "nm",
    "cr",
    "dx",
    "mg",
    "enhanced_ct",
    "enhanced_mr",
    "seg",
    "rtstruct",
    "rtplan",
    "rtdose",
]
CLASSES += ["sr_basic", "sr_comprehensive", "kos", "gsps", "xa"]
STRICT = ["1", "1C", "2", "2C", "3"]
PSEUDONYM = (0x00100010, 0x00100020)

OUTCOMES = {
    # row's action: outcome at Type 1 or 1C, at Type 2 or 2C, at Type 3
    "X": ("dummy", "empty", "gone"),
    "Z": ("dummy", "empty", "empty"),
    "D": ("dummy", "dummy", "dummy"),
    "U": ("uid", "uid", "uid"),
    "X/Z": ("dummy", "empty", "gone"),
    "X/D": ("dummy", "empty", "gone"),
    "Z/D": ("dummy", "empty", "empty"),
    "X/Z/D": ("dummy", "empty", "gone"),
    "X/Z/U*": ("uid", "uid", "gone"),
}
"""PS3.15 E.3.10.1 table E.1-1a: the first of several codes that the Type permits; X on what the IOD demands becomes
the least that it demands (Z, or D). References that the IOD demands are kept with their UIDs replaced (U*)."""


@dataclass(frozen=True)
class Row:
    tag: int
    name: str
    action: str

    def __str__(self) -> str:
        return f"({self.tag:08x}) {self.action}"


@dataclass(frozen=True)
class Place:
    """A SOP class (by its builder's name), the sequences on the way, and the Type there."""

    builder: str
    path: tuple[int, ...]
    type: str


def read(name: str) -> Iterator[dict[str, str]]:
    with (standard.FOLDER / name).open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


@cache
def table() -> list[Row]:
    found = []
    for row in read("e1_1.csv"):
        masks = (
            [row["tag"].replace("xx", number) for number in ("00", "04")]
            if "xx" in row["tag"].lower()
            else [row["tag"]]
        )
        found += [
            Row(int(mask, 16), row["name"], row["basic_profile"]) for mask in masks if mask.isalnum() and len(mask) == 8
        ]
    return found


@cache
def types() -> dict[str, dict[tuple[tuple[int, ...], int], str]]:
    """By SOP class: the strictest Type of each attribute in each context, over the modules of its IOD."""
    iods = {row["uid"]: row["iod"] for row in read("sop_classes.csv")}
    modules = defaultdict(list)
    for row in read("iods.csv"):
        modules[row["iod"]].append(row["module"])
    attributes = defaultdict(list)
    for row in read("module_attributes.csv"):
        path = tuple(int(step, 16) for step in row["path"].split("/") if step)
        attributes[row["module"]].append((path, int(row["tag"], 16), row["type"]))
    found: dict[str, dict[tuple[tuple[int, ...], int], str]] = {}
    for builder in CLASSES:
        known: dict[tuple[tuple[int, ...], int], str] = {}
        for module in modules[iods[builders.ALL[builder]().SOPClassUID]]:
            for path, tag, type_ in attributes[module]:
                if type_ in STRICT:
                    known[path, tag] = min(type_, known.get((path, tag), "3"), key=STRICT.index)
        found[builder] = known
    return found


@cache
def by_tag() -> dict[int, list[Place]]:
    found = defaultdict(list)
    for builder, known in types().items():
        for (path, tag), type_ in known.items():
            found[tag].append(Place(builder, path, type_))
    return found


def entered(place: Place) -> bool:
    """Whether the way to the place is open: no sequence on it is removed, emptied or made anew."""
    node = basic().plan(builders.ALL[place.builder]().SOPClassUID).root
    for tag in place.path:
        rule = node[tag]
        if rule.child is None or rule.act != Act.DESCEND:
            return False
        node = rule.child
    return True


def places(row: Row) -> list[Place]:
    """One place for each Type that an IOD gives the attribute where it can be reached, and one where none knows it."""
    chosen: dict[str, Place] = {}
    for place in sorted(by_tag()[row.tag], key=lambda place: len(place.path)):
        if place.type not in chosen and entered(place):
            chosen[place.type] = place
    strange = [name for name in ("kos", "ct", "rtdose", "gsps") if ((), row.tag) not in types()[name]]
    return [*chosen.values(), *(Place(name, (), "3") for name in strange[:1])]


def content(row: Row, mint: Mint) -> El:
    """The attribute with a value that is to go."""
    attribute = standard.attribute(row.tag)
    vr = attribute.vr if attribute is not None else "UN"
    where = plants.place([row.tag], vr)
    if vr == "SQ":
        # What the identity of an object hangs on, and text: an item that is entered keeps neither.
        inside = [El(0x00081155, "UI", mint.uid("inside").encode()), El(0x00100010, "PN", mint.name("inside").encode())]
        return El(row.tag, vr, [[*inside, El(0x0040A160, "UT", mint.token("inside").encode())]])
    value = mint.value(vr, where)
    if vr == "AS":
        value = b"047Y"
    elif vr in ("DS", "IS"):
        value = b"4711"
    elif not value:
        value = b"\7" * raw.WORD.get(vr, 2)
    return El(row.tag, vr, value)


def build(row: Row, place: Place, mint: Mint) -> bytes:
    elements = builders.tree(
        builders.ALL[place.builder](**({"rows": 8, "columns": 8} if place.builder == "ct" else {}))
    )
    el = content(row, mint)
    for step in reversed(place.path):
        el = El(step, "SQ", [[el]])
    raw.put(elements, el)
    return raw.part10(elements, builders.NATIVE[0])


def find(output: bytes, row: Row, place: Place) -> El | None:
    elements = raw.parse(output)[1]
    for step in place.path:
        sequence = next(el for el in elements if el.tag == step)
        elements = sequence.items[0]
    return next((el for el in elements if el.tag == row.tag), None)


def judge(row: Row, place: Place, output: bytes, source: El) -> None:
    found = find(output, row, place)
    column = 0 if place.type in ("1", "1C") else 1 if place.type in ("2", "2C") else 2
    wanted = OUTCOMES[row.action][column]
    if row.tag in reference.MARKS and not place.path:
        wanted = "mark"
    elif wanted == "uid" and source.vr == "SQ":
        wanted = "entered"
    elif wanted == "dummy" and source.vr == "UI":
        wanted = "uid"  # a UID of its own kind is the only dummy that is valid
    elif row.tag in PSEUDONYM and not place.path:
        wanted = "pseudonym"
    match wanted:
        case "gone":
            assert found is None
        case "mark":
            assert found is None or found != source
        case _:
            assert found is not None, f"gone, though Type {place.type}"
    if found is None:
        return
    match wanted:
        case "empty":
            assert not found.value
        case "dummy" if source.vr == "SQ" and place.type == "3":
            assert found != source  # nothing says what its items must hold, so it may have none
        case "dummy":
            assert found.value and found.value != source.value
        case "uid":
            assert found.bytes.rstrip(b"\0").decode() == reference.map_uid(SUBJECT.uid_key, source.bytes.decode())
        case "pseudonym":
            assert found.bytes.rstrip().decode() == SUBJECT.pseudonym
        case "entered":
            assert found.items


@pytest.mark.parametrize("row", table(), ids=str)
def test_the_row_is_obeyed_at_every_type_that_an_iod_gives_it(row: Row) -> None:
    tried = places(row)
    assert tried
    for place in tried:
        if row.tag >> 16 in (0x0000, 0x0002, 0x0004):
            continue
        mint = Mint()
        output, reason = outcome(build(row, place, mint))
        if output is None:
            assert reason == "pixels-not-cleaned", (place, reason)
            continue
        judge(row, place, output, content(row, Mint()))
        assert leaks(output, mint.made) == []


def test_the_table_is_whole() -> None:
    """657 rows; three are masks of repeating groups, tried twice, and one stands for all private attributes."""
    assert sum(1 for _ in read("e1_1.csv")) == 657
    assert len(table()) == 657 - 1 - 3 + 2 * 3


def test_rows_of_messages_directories_and_file_meta_leave_nothing() -> None:
    """Groups 0000, 0002 and 0004 have no place in a data set: what stands there goes, whatever its action."""
    for row in table():
        if row.tag >> 16 in (0x0000, 0x0004):
            mint = Mint()
            output, _ = outcome(build(row, Place("ct", (), "3"), mint))
            assert output is None or (find(output, row, Place("ct", (), "3")) is None and not leaks(output, mint.made))


def test_each_action_is_met_at_each_kind_of_type() -> None:
    """The rows would pass by default if no place were found for them."""
    met = {(row.action, place.type[:1]) for row in table() for place in places(row)}
    for action in OUTCOMES:
        assert (action, "3") in met
    for wanted in [
        ("X", "1"),
        ("X", "2"),
        ("Z", "2"),
        ("D", "1"),
        ("U", "1"),
        ("Z/D", "1"),
        ("X/Z/D", "1"),
        ("X/D", "1"),
    ]:
        assert wanted in met, wanted
