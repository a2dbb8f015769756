"""The tables of the DICOM standard and the reviewed lists beside them, read from profiles/standard.

Every table is read at most once a process, and the Types of an IOD only when a plan for it is compiled: start-up time
is the command line's and every worker's. Tags are ints (0xGGGGEEEE) everywhere. Editions and sources stand in
profiles/standard/README.md.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parents[1] / "profiles" / "standard"
EDITION = "2026d"
"""Edition of PS3.15 Table E.1-1 that the tables come from."""

TYPES = ("1", "1C", "2", "2C", "3")
"""Attribute Types, the strictest first (PS3.5 section 7.4)."""


class Attribute(NamedTuple):
    """An entry of the data dictionary (PS3.6)."""

    keyword: str
    vr: str  # one VR; of several that depend on the pixels, the one that holds all their values
    retired: bool


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of PS3.15 Table E.1-1: the Basic Profile's action code, and the code of each option that has one."""

    name: str
    basic: str
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class Option:
    """An option of the Basic Profile (CID 7050), its column in Table E.1-1 and whether this release acts on it."""

    name: str
    code: str
    column: str  # empty: the option has no column (it is about pixels)
    clean_act: str  # what code C in its column means: 'clean' or 'shift'
    supported: bool


@dataclass(frozen=True, slots=True)
class SopClass:
    """A storage SOP class (PS3.4 B.5) and the IOD that says what its attributes mean."""

    uid: str
    name: str
    keyword: str
    iod: str
    origin: str


@dataclass(frozen=True, slots=True)
class Always:
    """An attribute that is treated in one way whatever a profile says."""

    act: str  # 'remove' or 'pseudonym'
    root_only: bool
    reason: str


@dataclass(frozen=True, slots=True)
class DummyElement:
    """An element of the item that replaces the items of a sequence; `children` where it is a sequence itself."""

    tag: int
    vr: str
    value: str
    children: tuple[DummyElement, ...]


@dataclass(slots=True)
class Context:
    """The Types that an IOD gives to the attributes at one place in its tree of sequences.

    `types` holds Type and module by tag, without those of Type 3; `children` the contexts of the items of sequences.
    """

    tag: int = 0  # the sequence that leads here; 0 at the top level
    parent: Context | None = None
    types: dict[int, tuple[str, str]] = field(default_factory=dict)
    children: dict[int, Context] = field(default_factory=dict)

    def inside(self, sequence: int) -> Context | None:
        """Context of the items of `sequence`, or None where the IOD knows nothing about them.

        A sequence inside itself, as Content Sequence, has the context of its outer occurrence.
        """
        found = self.children.get(sequence)
        if found is not None:
            return found
        outer: Context | None = self
        while outer is not None:
            if outer.tag == sequence:
                return outer
            outer = outer.parent
        return None


def rows(name: str) -> Iterator[list[str]]:
    """Rows of a table of this folder, without its header."""
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        yield from reader


@lru_cache(maxsize=1)
def digest() -> str:
    """SHA-256 over every table, in hex: part of each plan's digest, so that any changed cell makes another plan."""
    total = hashlib.sha256()
    for path in sorted(FOLDER.glob("*.csv")):
        content = path.read_bytes()
        total.update(f"{path.name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


# --- PS3.6 ---------------------------------------------------------------------------------------------------------


def _single_vr(text: str) -> str:
    """'US or SS' → 'US'; where OW is among them it is OW, which every value of the others fits into."""
    choices = text.split(" or ")
    return "OW" if "OW" in choices else choices[0]


@lru_cache(maxsize=1)
def dictionary() -> dict[int, Attribute]:
    """The data dictionary by tag, without repeating groups (see `attribute`)."""
    return {
        int(tag, 16): Attribute(keyword, vr if len(vr) == 2 else _single_vr(vr), retired == "Y")
        for tag, keyword, vr, _vm, retired in rows("dictionary.csv")
        if "x" not in tag
    }


@lru_cache(maxsize=1)
def _repeating() -> list[tuple[re.Pattern[str], Attribute]]:
    return [
        (re.compile(tag.replace("x", "[0-9A-F]")), Attribute(keyword, _single_vr(vr), retired == "Y"))
        for tag, keyword, vr, _vm, retired in rows("dictionary.csv")
        if "x" in tag
    ]


def attribute(tag: int) -> Attribute | None:
    """Dictionary entry of a tag, repeating groups (60xx) included; None where the standard does not know the tag."""
    found = dictionary().get(tag)
    if found is None and not tag & 0x10000:
        text = f"{tag:08X}"
        found = next((entry for pattern, entry in _repeating() if pattern.fullmatch(text)), None)
    return found


@lru_cache(maxsize=1)
def tags_by_keyword() -> dict[str, int]:
    """Tag by keyword, repeating groups left out."""
    return {entry.keyword: tag for tag, entry in dictionary().items() if entry.keyword}


# --- PS3.15, PS3.16 ------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _table() -> dict[str, TableRow]:
    with (FOLDER / "e1_1.csv").open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        columns = next(reader)[5:]
        return {
            tag: TableRow(name, basic, {column: code for column, code in zip(columns, codes, strict=True) if code})
            for tag, name, _retired, _in_iod, basic, *codes in reader
        }


@lru_cache(maxsize=1)
def confidentiality_table() -> dict[int, TableRow]:
    """Table E.1-1 by tag, without its four rows that stand for many tags."""
    return {int(tag, 16): row for tag, row in _table().items() if "x" not in tag and tag != "private"}


def table_row(tag: int) -> TableRow | None:
    """Row of Table E.1-1 for a tag; the whole of the overlay and curve groups and of the private groups has one."""
    group = tag >> 16
    if group & 1:
        return _table()["private"]
    if group & 0xFF00 == 0x5000:
        return _table()["50xxxxxx"]
    if group & 0xFF00 == 0x6000:
        return _table()["60xx4000" if tag & 0xFFFF == 0x4000 else "60xx3000"]
    return confidentiality_table().get(tag)


@lru_cache(maxsize=1)
def options() -> dict[str, Option]:
    """The options of the Basic Profile by their names in a profile file."""
    return {
        name: Option(name, code, column, clean, supported == "Y")
        for name, code, column, clean, supported in rows("options.csv")
    }


@lru_cache(maxsize=1)
def method_codes() -> dict[str, tuple[str, str, str]]:
    """CID 7050: (code, scheme, meaning) by code."""
    return {code: (code, scheme, meaning) for code, scheme, meaning in rows("cid_7050.csv")}


# --- lists of our own ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def keep_list() -> dict[int, str]:
    """Attributes outside Table E.1-1 that are kept although their VR can hold text: reason by tag."""
    return {int(tag, 16): reason for tag, _keyword, _vr, reason in rows("keep.csv")}


@lru_cache(maxsize=1)
def drop_list() -> dict[int, str]:
    """Attributes outside Table E.1-1 that are not kept although their VR has no room for text: reason by tag."""
    return {int(tag, 16): reason for tag, _keyword, _vr, reason in rows("drop.csv")}


@lru_cache(maxsize=1)
def uid_constants() -> dict[int, str]:
    """Attributes whose UIDs are constants of the standard or of a maker, and are kept: reason by tag."""
    return {int(tag, 16): reason for tag, _keyword, reason in rows("uid_constants.csv")}


@lru_cache(maxsize=1)
def always() -> dict[int, Always]:
    """Attributes that no profile decides about."""
    return {
        int(tag, 16): Always(act, where == "root", reason) for tag, _keyword, act, where, reason in rows("always.csv")
    }


@lru_cache(maxsize=1)
def dummy_items() -> dict[str, tuple[DummyElement, ...]]:
    """Items that replace those of a sequence, by the sequence's tag (8 hex digits) or macro ('code', 'any')."""
    found: dict[str, dict[str, list[tuple[int, str, str]]]] = {}
    for sequence, path, tag, vr, value, *_keywords in rows("dummy_items.csv"):
        found.setdefault(sequence, {}).setdefault(path, []).append((int(tag, 16), vr, value))

    def build(parts: dict[str, list[tuple[int, str, str]]], path: str) -> tuple[DummyElement, ...]:
        elements = []
        for tag, vr, value in sorted(parts.get(path, [])):
            inner = f"{path}/{tag:08X}".lstrip("/")
            elements.append(DummyElement(tag, vr, value, build(parts, inner) if vr == "SQ" else ()))
        return tuple(elements)

    return {sequence: build(parts, "") for sequence, parts in found.items()}


@dataclass(frozen=True, slots=True)
class Graphic:
    """What Clean Graphics does to an attribute outside Table E.1-1's column: action code and reason."""

    code: str
    reason: str


@lru_cache(maxsize=1)
def graphics() -> dict[int, Graphic]:
    """Attributes of annotations that Clean Graphics decides about, beyond Table E.1-1."""
    return {int(tag, 16): Graphic(code, reason) for tag, _keyword, code, reason in rows("graphics.csv")}


@lru_cache(maxsize=1)
def references() -> dict[int, str]:
    """Sequences of references that the Basic Profile removes and a profile can keep, UIDs mapped: reason by tag."""
    return {int(tag, 16): reason for tag, _keyword, reason in rows("references.csv")}


# --- PS3.3, PS3.4 --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def sop_classes() -> dict[str, SopClass]:
    """Storage SOP classes by UID."""
    return {row[0]: SopClass(*row) for row in rows("sop_classes.csv")}


def find_sop_class(text: str) -> SopClass | None:
    """A SOP class by UID, name or keyword; case, spaces and the word Storage do not matter."""

    def plain(name: str) -> str:
        return re.sub(r"[^a-z0-9]|storage", "", name.lower())

    classes = sop_classes()
    if text.strip() in classes:
        return classes[text.strip()]
    return next((one for one in classes.values() if plain(text) in (plain(one.name), plain(one.keyword))), None)


@lru_cache(maxsize=1)
def macro_types() -> dict[int, str]:
    """Types inside items of the code sequence and SOP instance reference macros, wherever such an item is."""
    return {int(tag, 16): type_ for _macro, tag, type_, _keyword in rows("macros.csv")}


@lru_cache(maxsize=1)
def sequence_macros() -> dict[int, str]:
    """Macro ('code', 'sop-reference') that the items of a sequence follow, by the sequence's tag."""
    return {int(tag, 16): macro for tag, _keyword, macro in rows("sequence_macros.csv")}


@lru_cache(maxsize=1)
def _module_rows() -> dict[str, list[str]]:
    """Lines of module_attributes.csv by module, not yet taken apart."""
    blocks: dict[str, list[str]] = {}
    lines = (FOLDER / "module_attributes.csv").read_text("utf-8").splitlines()
    for line in lines[1:]:
        module, _, rest = line.partition(",")
        blocks.setdefault(module, []).append(rest)
    return blocks


@lru_cache(maxsize=1)
def _modules_of_iods() -> dict[str, list[str]]:
    table: dict[str, list[str]] = {}
    for iod, module, _usage in rows("iods.csv"):
        table.setdefault(iod, []).append(module)
    return table


@lru_cache(maxsize=1)
def iods_listing_references() -> frozenset[str]:
    """IODs whose Common Instance Reference module (PS3.3 C.12.2) is mandatory, or depends on references in them."""
    return frozenset(
        iod for iod, module, usage in rows("iods.csv") if module == "common-instance-reference" and usage in ("M", "C")
    )


@lru_cache(maxsize=64)
def iod_context(iod: str) -> Context:
    """Types of an IOD's attributes: for each place the strictest of all modules that give the attribute there.

    Modules of usage C and U count too: Types matter only for attributes that are present, and then their module is.
    """
    root = Context()
    for module in _modules_of_iods()[iod]:
        for line in _module_rows().get(module, ()):
            path, tag_text, type_, _keyword = line.split(",")
            context = root
            for step in path.split("/") if path else ():
                sequence = int(step, 16)
                inner = context.children.get(sequence)
                if inner is None:
                    inner = context.children[sequence] = Context(sequence, context)
                context = inner
            tag = int(tag_text, 16)
            before = context.types.get(tag)
            if before is None or TYPES.index(type_) < TYPES.index(before[0]):
                context.types[tag] = (type_, module)
    return root
