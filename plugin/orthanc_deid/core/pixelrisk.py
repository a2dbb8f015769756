"""Closed by default: which instances may carry text in their pixels (or in sound, or in a document), and are held.

The Basic Profile cleans no pixels. Until a profile can, whatever may carry burned-in text is quarantined: judged by SOP
class, by modality or by a flag, since each of the three is wrong often enough. The rows are data
(closed_by_default.csv), each with its reason. That bits above Bits Stored hold an overlay cannot be seen from
attributes: the engine looks at the pixels for that. Encapsulated documents and raw data pass where the profile says so:
nobody but their maker can clean them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from orthanc_deid.core import standard
from orthanc_deid.core.errors import Quarantined, Rejected

DOCUMENT_RULE = "encapsulated-document"
RAW_DATA_RULE = "raw-data"


class Facts(Protocol):
    """What an instance says about itself at its top level."""

    @property
    def sop_class(self) -> str: ...

    @property
    def transfer_syntax(self) -> str: ...

    def get(self, tag: int) -> str | None:
        """Text value, multiple values with backslashes between; None where the attribute is missing."""

    def raw(self, tag: int) -> bytes | None:
        """Bytes of the value; None where the attribute is missing."""

    def between(self, first: int, last: int) -> list[int]:
        """The tags from `first` up to `last`."""


@dataclass(frozen=True, slots=True)
class RiskRow:
    """A row of closed_by_default.csv: it applies to what it selects, if the test of its attribute holds.

    It selects by at most one of SOP class, modality and transfer syntax; else it applies to all, but to none of
    `others` (in the file: SOP classes behind an exclamation mark).
    """

    rule: str
    sop_classes: frozenset[str]
    others: frozenset[str]
    modalities: frozenset[str]
    transfer_syntaxes: frozenset[str]
    attribute: str  # 8 hex digits, or 60xxeeee for that element of any overlay group; empty: no test
    test: str  # tag: is there; present: has a value; in, not-in, matches: one of its values does; not-zero
    value: str
    reason: str

    def holds(self, facts: Facts) -> bool:
        """Whether the row applies and the test of the attribute holds."""
        if facts.sop_class in self.others:
            return False
        return not self.attribute or any(
            _TESTS[self.test](facts, tag, self.value) for tag in _tags(self.attribute, facts)
        )


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows by what they select, so that an instance is held against the few that can concern it."""

    by_sop_class: dict[str, list[RiskRow]]
    by_modality: dict[str, list[RiskRow]]
    by_syntax: dict[str, list[RiskRow]]
    for_all: list[RiskRow]


@lru_cache(maxsize=1)
def risk_rows() -> tuple[RiskRow, ...]:
    """All rows of closed_by_default.csv."""

    def parts(text: str) -> frozenset[str]:
        return frozenset(part for part in text.split("|") if part)

    return tuple(
        RiskRow(
            rule,
            frozenset(uid for uid in parts(sop) if uid[0] != "!"),
            frozenset(uid[1:] for uid in parts(sop) if uid[0] == "!"),
            parts(modality),
            parts(syntax),
            attribute,
            test,
            value,
            reason,
        )
        for rule, sop, modality, syntax, attribute, test, value, reason in standard.rows("closed_by_default.csv")
    )


@lru_cache(maxsize=1)
def _index() -> _Rows:
    index = _Rows({}, {}, {}, [])
    for row in risk_rows():
        for uid in row.sop_classes:
            index.by_sop_class.setdefault(uid, []).append(row)
        for modality in row.modalities:
            index.by_modality.setdefault(modality, []).append(row)
        for uid in row.transfer_syntaxes:
            index.by_syntax.setdefault(uid, []).append(row)
        if not (row.sop_classes or row.modalities or row.transfer_syntaxes):
            index.for_all.append(row)
    return index


def refuse(facts: Facts, *, keep_documents: bool = False, keep_raw_data: bool = False) -> None:
    """Raise Rejected or Quarantined for an instance that may not pass.

    `keep_documents` and `keep_raw_data` are the profile's word for objects of these SOP classes, whatever else they say
    of themselves; a document inside another object is held all the same.
    """
    if keep_documents and facts.sop_class in _classes(DOCUMENT_RULE):
        return
    if facts.sop_class in _classes(RAW_DATA_RULE):
        if keep_raw_data:
            return
        raise Rejected("raw-data", "nobody but the scanner's maker can say what is in raw data", 0x00080016)
    risk = assess(facts)
    if risk is not None:
        raise Quarantined("pixels-not-cleaned", risk)


@lru_cache(maxsize=8)
def _classes(rule: str) -> frozenset[str]:
    return frozenset(uid for row in risk_rows() if row.rule == rule for uid in row.sop_classes)


def assess(facts: Facts) -> str | None:
    """Say why an instance is held, by rule and reason and without any of its values; None where it may pass.

    Instances of one series say the same of themselves, so the answer is remembered by all that the rows look at.
    """
    single, present, repeating = _attributes()
    looked_at: list[object] = [facts.sop_class, facts.transfer_syntax, *[facts.raw(tag) for tag in single]]
    looked_at += [bool(facts.between(tag, tag)) for tag in present]
    for attribute in repeating:
        looked_at += [(tag, facts.raw(tag)) for tag in _tags(attribute, facts)]
    key = tuple(looked_at)
    if key not in _answers:
        if len(_answers) >= _REMEMBERED:
            _answers.clear()
        _answers[key] = _assess(facts)
    return _answers[key]


_REMEMBERED = 1024
_answers: dict[tuple[object, ...], str | None] = {}


@lru_cache(maxsize=1)
def _attributes() -> tuple[tuple[int, ...], tuple[int, ...], tuple[str, ...]]:
    """All that the rows look at: tags whose values count, tags that only need to be there, and repeating groups.

    A value that only needs to be there (an encapsulated document) may be large, and is not remembered.
    """
    valued = {row.attribute for row in risk_rows() if row.attribute and row.test != "tag"} | {"00080060"}
    present = {row.attribute for row in risk_rows() if row.test == "tag"} - valued
    single = sorted(int(attribute, 16) for attribute in valued if "x" not in attribute)
    repeating = sorted(attribute for attribute in valued if "x" in attribute)
    return tuple(single), tuple(sorted(int(attribute, 16) for attribute in present)), tuple(repeating)


def _assess(facts: Facts) -> str | None:
    index = _index()
    candidates = list(index.by_sop_class.get(facts.sop_class, ()))
    for modality in _values(facts.get(0x00080060)):
        candidates += index.by_modality.get(modality, ())
    candidates += index.by_syntax.get(facts.transfer_syntax, ())
    candidates += index.for_all
    for row in candidates:
        if row.holds(facts):
            return f"{row.rule}: {row.reason}"
    return None


def _tags(attribute: str, facts: Facts) -> list[int]:
    if "x" not in attribute:
        return [int(attribute, 16)]
    first, element = int(attribute[:2], 16) << 24, int(attribute[4:], 16)
    return [tag for tag in facts.between(first, first | 0xFFFFFF) if tag & 0xFFFF == element]


def _values(text: str | None) -> list[str]:
    """Values in upper case and without padding: senders differ in case and in how they pad."""
    return [value for part in (text or "").split("\\") if (value := part.strip(" \0\t\r\n").upper())]


_TESTS: dict[str, Callable[[Facts, int, str], bool]] = {
    "tag": lambda facts, tag, _value: bool(facts.between(tag, tag)),
    "present": lambda facts, tag, _value: bool(_values(facts.get(tag))),
    "in": lambda facts, tag, value: not set(value.split("|")).isdisjoint(_values(facts.get(tag))),
    "not-in": lambda facts, tag, value: not set(value.split("|")).issuperset(_values(facts.get(tag))),
    "matches": lambda facts, tag, value: any(re.fullmatch(value, text) for text in _values(facts.get(tag))),
    "not-zero": lambda facts, tag, _value: any(facts.raw(tag) or b""),  # a binary number, in either byte order
}
