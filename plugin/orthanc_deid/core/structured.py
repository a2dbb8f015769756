"""What Clean Structured Content does to a content item (PS3.15 section E.3.4), decided by its concept.

Table E.3.4-1 names concepts whose values identify somebody; profiles/standard/sr_content_more.csv adds to it. The
value of any other concept is decided by what holds it: names go, text is cleaned, dates follow the profile's options,
UIDs are mapped, codes and numbers stay. Items are never removed: references within a document count them, so that X
becomes a value that says nothing. References to instances stay too: their UIDs are mapped, and tell nobody anything.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache

from orthanc_deid.core import standard

_HOLDERS = (
    # Tag of the attribute, the Value Type whose value it holds, and what it becomes instead of X.
    (0x0040A120, "DATETIME", "D"),
    (0x0040A121, "DATE", "D"),
    (0x0040A122, "TIME", "D"),
    (0x0040A123, "PNAME", "D"),
    (0x0040A124, "UIDREF", "U"),  # a mapped UID says nothing of its owner, and references to it still meet
    (0x0040A160, "TEXT", "D"),
    (0x0040A161, "NUM", "D"),
    (0x0040A162, "NUM", "D"),
    (0x0040A163, "NUM", "D"),
    (0x0040A168, "CODE", "D"),
    (0x0040A300, "NUM", "Z"),  # Measured Value Sequence may be empty: no value is better than a false one
    (0x0040A30A, "NUM", "D"),
)
"""Attributes that hold the value of a content item (PS3.3 sections 10.2 and C.17.3)."""

_VALUE_TYPES = frozenset((
    "CODE", "COMPOSITE", "CONTAINER", "DATE", "DATETIME", "IMAGE", "NUM", "NUMERIC", "PNAME", "SCOORD", "SCOORD3D",
    "TABLE", "TCOORD", "TEXT", "TIME", "UIDREF", "WAVEFORM",
))  # fmt: skip

Row = Mapping[str, str]
"""Action codes of a concept: 'basic' and the columns of the options that have one."""


@lru_cache(maxsize=1)
def _concepts() -> tuple[dict[tuple[str, str, str], Row], frozenset[tuple[str, str]]]:
    """Rows by code, scheme and Value Type; and the concepts of which no option keeps or cleans a value."""
    rows: dict[tuple[str, str, str], Row] = {}
    for name in ("sr_content.csv", "sr_content_more.csv"):  # the later one decides
        with (standard.FOLDER / name).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows[row.pop("code"), row.pop("scheme"), row["value_type"]] = row
    columns = [option.column for option in standard.options().values() if option.column]
    lenient = {key[:2] for key, row in rows.items() if any(row.get(column) for column in columns)}
    return rows, frozenset(key[:2] for key in rows) - lenient


@lru_cache(maxsize=4096)
def content_codes(value_type: str, code: str, scheme: str, options: frozenset[str]) -> tuple[tuple[int, str], ...]:
    """Action codes, by tag, for the attributes that hold the value of a content item.

    `value_type` may be '' (Acquisition Context has items without one; items that refer to another have none); one that
    the standard does not know has no value that stays. `options` are the profile's. Codes are Table E.1-1's, and SHIFT.
    """
    rows, never = _concepts()
    concept = code.strip(), scheme.strip()
    if (value_type and value_type not in _VALUE_TYPES) or concept in never:
        return tuple((tag, instead) for tag, _, instead in _HOLDERS)
    found = []
    for tag, holds, instead in _HOLDERS:
        row = rows.get((*concept, holds))
        action = _usual(holds, options) if row is None else _by_row(row, holds, options)
        found.append((tag, action or instead))
    return tuple(found)


def _by_row(row: Row, holds: str, options: frozenset[str]) -> str:
    """Return what the concept's row says, '' where the value does not stay; of two options the careful one decides."""
    codes = {
        (row.get(option.column) or "", option.clean_act)
        for option in (standard.options()[name] for name in options)
        if option.column
    }
    if ("C", "shift") in codes:
        return "SHIFT"
    if ("C", "clean") in codes:
        return "C"
    if any(code == "D" for code, _ in codes):
        return ""
    if any(code == "K" for code, _ in codes):
        return "K"
    return ""


def _usual(holds: str, options: frozenset[str]) -> str:
    """Return what is done to a value of which no table knows the concept; '' where it does not stay."""
    if holds in ("CODE", "NUM"):
        return "K"
    if holds == "TEXT":
        return "C" if "clean-descriptors" in options else ""
    if holds == "UIDREF":
        return "K" if "retain-uids" in options else "U"
    if holds in ("DATE", "TIME", "DATETIME"):
        if "retain-longitudinal-modified-dates" in options:
            return "SHIFT"
        return "K" if "retain-longitudinal-full-dates" in options else ""
    return ""
