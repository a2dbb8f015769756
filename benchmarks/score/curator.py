"""What a careful curator decides for each element: from PS3.15 and TCIA's rules, and from nothing that a tool does.

The order: decisions.csv (each with its reason); Table E.1-1 of PS3.15 with the options that research needs (Modified
Dates, Patient Characteristics, Safe Private, Clean Descriptors, Structured Content, Graphics); TCIA's list where the
table says nothing; else the element is research content and stays.
"""

from __future__ import annotations

import re
from functools import cache

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from benchmarks.score import tables
from benchmarks.score.key import Category, Check, step, text_of
from benchmarks.score.planting import Planted

_OPTIONS = (
    "retain_patient_characteristics",
    "retain_longitudinal_modified_dates",
    "clean_descriptors",
    "clean_structured_content",
    "clean_graphics",
)
_HIPAA = {
    "name": "HIPAA-A",
    "address": "HIPAA-B",
    "date": "HIPAA-C",
    "phone": "HIPAA-D",
    "email": "HIPAA-F",
    "ssn": "HIPAA-G",
    "mrn": "HIPAA-H",
    "accession": "HIPAA-R",
    "device": "HIPAA-M",
    "url": "HIPAA-N",
    "ip": "HIPAA-O",
    "uid": "HIPAA-R",
    "institution": "HIPAA-B",
    "other": "HIPAA-R",
}
_UI, _DATES = {"UI"}, {"DA", "DT"}
_BULK = {"OB", "OW", "OF", "OD", "OL", "OV", "UN"}
_LONGEST = 2000
"""Longer values (contours) are not written into the key."""


@cache
def decision(tag: int) -> str:
    """What becomes of a standard attribute: keep, clean, remove, shift, uid, or a decision of decisions.csv."""
    digits = f"{tag:08X}"
    exact, masked = _decisions()
    if digits in exact:
        return exact[digits]
    return next((what for pattern, what in masked if pattern.fullmatch(digits)), "keep")


@cache
def _decisions() -> tuple[dict[str, str], list[tuple[re.Pattern[str], str]]]:
    """Decisions by tag, and those of repeating groups by pattern."""
    actions = {"hashuid": "uid", "incrementdate": "shift", "time": "keep", "keep": "keep", "process": "keep"}
    exact = {row["tag"]: actions.get(row["action"], "remove") for row in tables.rows("tcia_standard.csv")}
    masked = []
    for row in tables.standard("e1_1.csv"):
        if "x" in row["tag"]:
            masked.append((re.compile(row["tag"].replace("x", ".")), _by_table(row)))
        else:
            exact[row["tag"]] = _by_table(row)
    exact.update((row["tag"], row["decision"]) for row in tables.rows("decisions.csv"))
    return exact, masked


def _by_table(row: dict[str, str]) -> str:
    for option in _OPTIONS:
        if row[option]:
            shifts = option == "retain_longitudinal_modified_dates"
            return "keep" if row[option] == "K" else "shift" if shifts else "clean"
    return "uid" if row["basic_profile"] == "U" else "remove"


class Curator:
    """Writes the checks of one instance."""

    def __init__(self, dataset: Dataset, known_uids: frozenset[str]) -> None:
        self.dataset = dataset
        self.known_uids = known_uids  # UIDs that the mapping of the tool must hold
        self.types = tables.types(str(dataset.SOPClassUID))
        self.checks: list[Check] = []

    def run(self) -> tuple[Check, ...]:
        self._items(self.dataset, "", 0, (), inside=False)
        return tuple(self.checks)

    def _items(self, dataset: Dataset, parent: str, item: int, tags: tuple[int, ...], inside: bool) -> None:
        planted = getattr(dataset, "_planted", {})
        private = getattr(dataset, "_private", {})
        concept = _content_rule(dataset) if 0x0040A040 in dataset and tags and tags[-1] == 0x0040A730 else None
        for element in dataset:
            place = step(parent, item, element)
            tag = int(element.tag)
            known = planted.get(tag)
            if element.tag.is_private:
                self._private(element, place, private.get(tag, ""), known)
                continue
            what = decision(tag)
            if concept is not None and tag in (0x0040A160, 0x0040A123, 0x0040A120, 0x0040A121, 0x0040A122, 0x0040A124):
                what = concept if tag == 0x0040A160 else {"PN": "remove", "UI": "uid"}.get(element.VR, "shift")
                if not inside and what != "remove":
                    self._add("text_notnull", element, place, dicom="DICOM-IOD-1")
            if what == "none":
                continue
            if element.VR == "SQ":
                goes = inside or what in ("remove", "inside")
                if not goes:
                    self._obligation(element, place, (*tags, tag))
                for number, inner in enumerate(element.value or ()):
                    self._items(inner, place, number, (*tags, tag), goes)
                continue
            if inside:
                self._nothing_left(element, place, known, what)
            else:
                self._obligation(element, place, (*tags, tag))
                self._judge(element, place, known, what)

    def _judge(self, element: DataElement, place: str, planted: Planted | None, what: str) -> None:
        value = text_of(element)
        if not value or element.tag == 0x7FE00010:
            return
        if element.VR in _UI:
            self._uid(element, place, value)
        elif what in ("shift", "date_needed", "time_needed") or (what == "remove" and element.VR in _DATES):
            self._date(element, place, value, needed=what in ("date_needed", "time_needed"))
        elif what == "patient":
            self._add("patid_consistent", element, place, dicom="DICOM-P15-BASIC-C")
            self._add("text_removed", element, place, value, hipaa=_HIPAA["mrn"])
        elif what == "age":
            if int(value[:3]) > 89 and value[3] == "Y":
                if value != "090Y":  # which is how "90 and more" is written too
                    self._add("text_removed", element, place, value, hipaa=_HIPAA["date"])
                self._add("text_notnull", element, place, tcia="TCIA-P15-PAT-K")
            else:
                self._add("text_retained", element, place, value, tcia="TCIA-P15-PAT-K")
        elif what == "remove":
            self._gone(element, place, value, planted)
        elif planted is not None:
            self._pieces(element, place, planted, retained=what != "identifiers")
        elif element.VR in _BULK:
            self._add("tag_retained", element, place, dicom="DICOM-IOD")
        elif len(value) <= _LONGEST:
            self._add("text_retained", element, place, value, tcia="TCIA-P15-DESC-C" if what == "clean" else "TCIA-REV")

    def _nothing_left(self, element: DataElement, place: str, planted: Planted | None, what: str) -> None:
        """Inside a sequence that goes or is replaced: only what identifies is judged."""
        value = text_of(element)
        if not value:
            return
        if element.VR in _UI:
            self._uid(element, place, value, needed=False)
        elif element.VR in _DATES:
            self._date(element, place, value, needed=False)
        elif planted is not None:
            for piece in planted.identifiers:
                self._identifier(element, place, piece.text, piece.kind)
        elif element.VR == "PN" or what == "remove":
            self._gone(element, place, value, None)

    def _gone(self, element: DataElement, place: str, value: str, planted: Planted | None) -> None:
        if element.VR in ("TM", "AS", *_BULK):
            return
        kinds = {piece.kind for piece in planted.identifiers} if planted else set()
        kind = "name" if element.VR == "PN" else kinds.pop() if len(kinds) == 1 else _kind_of(element)
        for one in element.value if element.VM > 1 else [value]:
            self._add("text_removed", element, place, str(one), hipaa=_HIPAA[kind], dicom="DICOM-P15-BASIC-X")

    def _pieces(self, element: DataElement, place: str, planted: Planted, retained: bool) -> None:
        for kept in planted.kept if retained else ():
            self._add("text_retained", element, place, kept, tcia="TCIA-P15-DESC-C")
        for piece in planted.identifiers:
            self._identifier(element, place, piece.text, piece.kind)

    def _identifier(self, element: DataElement, place: str, text: str, kind: str) -> None:
        action = {"date": "date_shifted", "uid": "uid_changed"}.get(kind, "text_removed")
        value = text if action != "text_removed" else text_of(element)
        self._add(action, element, place, text, value=value, hipaa=_HIPAA[kind], tcia="TCIA-P15-DESC-C")

    def _uid(self, element: DataElement, place: str, value: str, needed: bool = True) -> None:
        for uid in [str(one) for one in element.value] if element.VM > 1 else [value]:
            if uid.startswith("1.2.840.10008."):
                if needed:
                    self._add("text_retained", element, place, uid, tcia="TCIA-REV")
                continue
            self._add("uid_changed", element, place, uid, value=uid, hipaa="HIPAA-R")
            if needed and element.VM == 1 and uid in self.known_uids:
                self._add("text_notnull", element, place, dicom="DICOM-P15-BASIC-U")
                self._add("uid_consistent", element, place, uid, dicom="DICOM-P15-BASIC-U")

    def _date(self, element: DataElement, place: str, value: str, needed: bool) -> None:
        if element.VR in _DATES:
            self._add("date_shifted", element, place, value, hipaa="HIPAA-C")
        if needed:
            self._add("text_notnull", element, place, tcia="TCIA-P15-DATE-C")

    def _private(self, element: DataElement, place: str, action: str, planted: Planted | None) -> None:
        value = text_of(element)
        if action == "creator":
            self._add("text_retained", element, place, value, tcia="TCIA-PTKB-K")
        elif action == "keep" and planted is not None and element.VR in ("LO", "SH", "ST", "LT"):
            for kept in planted.kept:
                self._add("text_retained", element, place, kept, tcia="TCIA-PTKB-K")
            for piece in planted.identifiers:
                self._identifier(element, place, piece.text, piece.kind)
        elif action == "keep":
            self._add("text_retained", element, place, value, tcia="TCIA-PTKB-K")
        elif action == "uid":
            self._add("uid_changed", element, place, value, hipaa="HIPAA-R", tcia="TCIA-PTKB-C")
        elif action == "date":
            self._add("date_shifted", element, place, value, hipaa="HIPAA-C", tcia="TCIA-PTKB-C")
        elif action == "remove":
            self._add("text_removed", element, place, value, tcia="TCIA-PTKB-X")

    def _obligation(self, element: DataElement, place: str, tags: tuple[int, ...]) -> None:
        kind = self.types.get(tags)
        if kind == "1" and (element.VR in _BULK or text_of(element)):
            self._add("text_notnull", element, place, dicom="DICOM-IOD-1")
        elif kind == "2":
            self._add("tag_retained", element, place, dicom="DICOM-IOD-2")

    def _add(
        self, action: str, element: DataElement, place: str, text: str = "", value: str | None = None, **of: str
    ) -> None:
        if element.VR in _BULK or element.VR == "SQ":
            shown = ""
        else:
            shown = text_of(element) if value is None else value
        check = Check(action, place, element.name, shown[:_LONGEST], text, Category(**of))
        if check not in self.checks[-6:]:
            self.checks.append(check)


def _kind_of(element: DataElement) -> str:
    keyword = element.keyword
    if "Telephone" in keyword or "Phone" in keyword:
        return "phone"
    if "Address" in keyword or "Residence" in keyword or "Location" in keyword:
        return "address"
    if "Institution" in keyword or "Organization" in keyword or "Department" in keyword:
        return "institution"
    if "Patient" in keyword and "ID" in keyword:
        return "mrn"
    if "Name" in keyword:
        return "name"
    if keyword in {"DeviceSerialNumber", "StationName", "GantryID", "PlateID", "CassetteID", "DetectorID"}:
        return "device"
    return "other"


@cache
def _content_codes() -> dict[tuple[str, str], str]:
    return {
        (row["code"], row["scheme"]): ("clean" if row["clean_descriptors"] == "C" else "remove")
        for row in tables.standard("sr_content.csv")
        if row["value_type"] == "TEXT"
    }


def _content_rule(item: Dataset) -> str:
    """What becomes of a content item's Text Value: by Table E.3.4-1, cleaned where that does not name the concept."""
    names = item.get("ConceptNameCodeSequence")
    if not names:
        return "clean"
    return _content_codes().get((str(names[0].CodeValue), str(names[0].CodingSchemeDesignator)), "clean")
