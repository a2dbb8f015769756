"""A cohort as people give it: a list of keys by keyword, as JSON or as a table (CSV) with a header of keywords."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence

from pydicom.datadict import dictionary_VR, tag_for_keyword

MAX_LINES = 50_000
MAX_VALUE = 1024
_TEXT = frozenset({"AE", "AS", "CS", "DA", "DT", "IS", "LO", "PN", "SH", "TM", "UI"})
_EXACT = ("PatientID", "StudyInstanceUID", "AccessionNumber")
_DATES = re.compile(r"[0-9]{8}(-[0-9]{8})?")


class BadCohort(ValueError):
    """A cohort that cannot be asked for; the text names lines and keywords, never a value."""


def check(lines: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Return the lines without what is empty. Raises BadCohort with the first faults, each with its line."""
    if not 0 < len(lines) <= MAX_LINES:
        raise BadCohort(f"a cohort has at least one line and at most {MAX_LINES}")
    good, faults = [], []
    for number, line in enumerate(lines, start=1):
        keys = {key.strip(): value.strip() for key, value in line.items() if value and value.strip()}
        fault = _fault(keys)
        if fault:
            faults.append(f"line {number}: {fault}")
        good.append(keys)
    if faults:
        raise BadCohort("; ".join(faults[:20]) + (f"; and {len(faults) - 20} more" if len(faults) > 20 else ""))
    return good


def _fault(keys: Mapping[str, str]) -> str:
    unknown = [key for key in keys if not _askable(key)]
    if unknown:
        return f"{len(unknown)} of {len(keys)} names are no keyword of an attribute that can be asked for"
    if any(len(value) > MAX_VALUE or not value.isprintable() for value in keys.values()):
        return "a value is too long or holds a control character"
    for key in _EXACT:
        if set(keys.get(key, "")) & set("*?\\"):
            return f"{key} has to be one value without wildcards"
    if "StudyDate" in keys and not _DATES.fullmatch(keys["StudyDate"]):
        return "StudyDate is not of the form YYYYMMDD or YYYYMMDD-YYYYMMDD"
    if not any(keys.get(key) for key in (*_EXACT, "StudyDate")):
        return "none of PatientID, StudyInstanceUID, AccessionNumber and StudyDate is given"
    return ""


def _askable(keyword: str) -> bool:
    tag = tag_for_keyword(keyword)
    return tag is not None and dictionary_VR(tag) in _TEXT


def read_csv(data: bytes) -> list[dict[str, str]]:
    """Read a table in UTF-8 with a header of keywords; separated by comma, semicolon or tab. Raises BadCohort."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadCohort("the table is not in UTF-8") from None
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        table = [row for row in reader if any(cell.strip() for cell in row)]
    except csv.Error:
        raise BadCohort("the table cannot be read") from None
    if len(table) < 2:
        raise BadCohort("the table needs a header of keywords and at least one line")
    names = [name.strip() for name in table[0]]
    if len(set(names)) != len(names) or not all(names):
        raise BadCohort("the header has an empty name, or one twice")
    wrong = [number for number, row in enumerate(table[1:], start=1) if len(row) != len(names)]
    if wrong:
        raise BadCohort(f"{len(wrong)} lines have another number of cells than the header; the first is {wrong[0]}")
    return [dict(zip(names, row, strict=True)) for row in table[1:]]
