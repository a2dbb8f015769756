"""De-identification by a plan, the slow and obvious way: pydicom reads, and each element gets what its rule says.

Shares nothing with the engine but the plan. Pixels of compressed images and the marks are the engine's own business;
everything else must come out the same, element for element: same tags in the same order, same VRs, same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pydicom
from orthanc_deid.core import standard
from orthanc_deid.core.deidentify import Subject
from orthanc_deid.core.plan import Act, Node, Plan, Rule
from pydicom import datadict
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

MARKS = (0x00120062, 0x00120063, 0x00120064, 0x0018A001, 0x00280303)
CODING_UIDS = (0x0008010C, 0x0008010D, 0x00080117, 0x00080118)
TEXT = frozenset(["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"])
PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
SIZES = {
    **dict.fromkeys(("SS", "US"), 2),
    **dict.fromkeys(("AT", "FL", "OF", "OL", "SL", "UL"), 4),
    **dict.fromkeys(("FD", "OD", "OV", "SV", "UV"), 8),
}
"""Bytes of one number (PS3.5 table 6.2-1)."""
NAMELESS = ("", "anonymous", "anonymized", "unknown", "none", "removed", "na", "n/a", "null", "test", "----")
TITLES = ("dr", "mr", "mrs", "ms", "prof", "md", "jr", "sr", "phd", "ii", "iii")
CLOCK = r"(\d{1,2}:\d{1,2}(:\d{1,2}(\.\d{0,7})?)?|\d{1,6}(\.\d{0,7})?)"
LEGAL = {
    "AE": r"[ -~]*",
    "AS": r"(\d{3}[DWMY])?",
    "CS": r"[A-Za-z0-9_ +\-./]{0,18}",
    "DS": r" *([+-]?\d*\.?\d*([eE][+-]?\d+)?|[+-]?(?i:nan|inf)) *",
    "IS": r" *[+-]?\d{0,14}(\.0*)? *",
    "LO": r"[^\x00-\x08\x0e-\x1a\x1c-\x1f]{0,256}",
    "SH": r"[^\x00-\x08\x0e-\x1a\x1c-\x1f]{0,64}",
    **dict.fromkeys(("LT", "PN", "ST", "UC", "UR", "UT"), r"[^\x00-\x08\x0e-\x1a\x1c-\x1f]*"),
    "TM": rf" *({CLOCK}?( ?-{CLOCK}?)?) *",
    "UI": r"[\d.]{0,64}",
}
"""What one value of a VR may look like to stay (PS3.5 section 6.2, with room for what real senders write)."""

datadict.add_dict_entries(
    {
        tag: (attribute.vr, "1-n", attribute.keyword, "", attribute.keyword)
        for tag, attribute in standard.dictionary().items()
        if not datadict.dictionary_has_tag(tag)
    }
)  # pydicom 3.0 lacks the youngest attributes of Table E.1-1, and would not look into their sequences


@cache
def _kinds() -> dict[int, str]:
    with (standard.FOLDER / "identifying.csv").open(newline="", encoding="utf-8") as file:
        return {int(row["tag"], 16): row["kind"] for row in csv.DictReader(file)}


@cache
def _homely() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    with (standard.FOLDER / "vocabulary.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["where"], set()).add(row["word"])
    return found


@cache
def _registered() -> set[str]:
    names = ("registered_uids.csv", "transfer_syntaxes.csv", "sop_classes.csv")
    return {row.split(",")[0] for name in names for row in (standard.FOLDER / name).read_text("utf-8").splitlines()}


def map_uid(key: bytes, uid: str) -> str:
    """2.25. and a UUID version 8 of HMAC-SHA-256; UIDs that the standard registers stay."""
    if not uid or uid in _registered():
        return uid
    bits = list(f"{int.from_bytes(hmac.new(key, uid.encode(), hashlib.sha256).digest()[:16], 'big'):0128b}")
    bits[48:52] = "1000"
    bits[64:66] = "10"
    return f"2.25.{int(''.join(bits), 2)}"


@dataclass(frozen=True)
class Value:
    """A value of the patient's: what kind, and its text in small letters."""

    kind: str
    text: str


class Reference:
    """One source and what becomes of it."""

    def __init__(self, data: bytes, plan: Plan, subject: Subject) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.source = pydicom.dcmread(io.BytesIO(data), force=True)
        self.data, self.plan, self.subject = data, plan, subject
        self.implicit, self.little = self.source.original_encoding
        # Some files are in implicit VR whatever their transfer syntax says; pydicom notices, and reads on.
        self.implicit |= any(self.source.get_item(tag).VR is None for tag in self.source.keys())  # noqa: SIM118
        if "TransferSyntaxUID" not in self.source.file_meta:
            self.source.file_meta.TransferSyntaxUID = (
                ImplicitVRLittleEndian if self.implicit else ExplicitVRLittleEndian
            )
        self.known: list[Value] = []
        self._harvest(self.source, ["iso8859"])
        self.known = list(dict.fromkeys(self.known))
        self.mapped: set[str] = set()

    def run(self) -> Dataset:
        """The de-identified data set, without marks."""
        # Which UIDs are mapped is known after a first round: on a reading of its own, since pydicom decodes on its way.
        first = Reference(self.data, self.plan, self.subject)
        first._apply(first.source, first.plan.root, ["iso8859"])
        self.mapped = first.mapped
        return self._apply(self.source, self.plan.root, ["iso8859"])

    def _apply(self, dataset: Dataset, node: Node, charset: list[str]) -> Dataset:
        made = Dataset()
        charset = _charset(dataset, charset)
        for tag in sorted(dataset.keys()):
            element = dataset.get_item(tag)
            rule = node[int(tag)]
            after = self._element(dataset, element, rule, charset)
            if after is not None:
                made[tag] = after
        return made

    def _element(
        self, dataset: Dataset, element: RawDataElement | DataElement, rule: Rule, charset: list[str]
    ) -> RawDataElement | DataElement | None:
        tag = int(element.tag)
        match rule.act:
            case Act.REMOVE:
                return None
            case Act.EMPTY:
                return self._new(rule, b"")
            case Act.DUMMY:
                if _length(dataset, element) == 0:
                    return self._new(rule, b"")
                return self._uid(dataset, element) if rule.vr == "UI" else self._dummy(rule)
            case Act.UID:
                return self._uid(dataset, element)
            case Act.PSEUDONYM:
                value = self.subject.pseudonym.encode() if _length(dataset, element) else b""
                return self._new(rule, value)
            case Act.DESCEND:
                return self._sequence(dataset, element, rule, charset)
            case Act.KEEP if rule.vr == "SQ":
                return self._sequence(dataset, element, rule, charset)
            case Act.KEEP:
                if tag in PIXELS:
                    return self._pixels(element)
                if rule.vr == "UI" and not (_uid_like if tag in CODING_UIDS else _standard)(_bytes(element)):
                    return self._uid(dataset, element)
                if tag in CODING_UIDS and self.mapped & set(_uids(_bytes(element))):
                    return self._on_hit(rule)
                if not self._may_stay(element, rule, charset):
                    return self._on_hit(rule)
                if rule.vr != element.VR and element.VR in TEXT and rule.vr in TEXT:
                    return self._raw(tag, rule.vr, _bytes(element))
                return element
        raise NotImplementedError(rule.act)

    def _sequence(
        self, dataset: Dataset, element: RawDataElement | DataElement, rule: Rule, charset: list[str]
    ) -> DataElement | None:
        items = _items(dataset, element)
        if items is None or rule.child is None:
            return self._on_hit(rule)
        return DataElement(element.tag, "SQ", Sequence([self._apply(item, rule.child, charset) for item in items]))

    def _uid(self, dataset: Dataset, element: RawDataElement | DataElement) -> RawDataElement:
        uids = _uids(_bytes(element))
        self.mapped |= {uid for uid in uids if uid and uid not in _registered()}
        return self._raw(int(element.tag), "UI", "\\".join(map_uid(self.subject.uid_key, uid) for uid in uids).encode())

    def _dummy(self, rule: Rule) -> RawDataElement | DataElement:
        if rule.vr != "SQ":
            assert rule.dummy is not None
            return self._raw(rule.tag, rule.vr, rule.dummy)
        item = Dataset()
        for inner in rule.child.required if rule.child is not None else ():
            item[BaseTag(inner.tag)] = self._new(inner, b"") if inner.act == Act.EMPTY else self._dummy(inner)
        return DataElement(rule.tag, "SQ", Sequence([item] if len(item) else []))

    def _on_hit(self, rule: Rule) -> RawDataElement | DataElement | None:
        if rule.on_hit == Act.REMOVE:
            return None
        return self._new(rule, b"") if rule.on_hit == Act.EMPTY else self._dummy(rule)

    def _new(self, rule: Rule, value: bytes) -> RawDataElement | DataElement:
        return DataElement(rule.tag, "SQ", Sequence()) if rule.vr == "SQ" else self._raw(rule.tag, rule.vr, value)

    def _raw(self, tag: int, vr: str, value: bytes) -> RawDataElement:
        value += b"" if len(value) % 2 == 0 else b"\0" if vr in ("UI", "OB", "UN") else b" "
        return RawDataElement(BaseTag(tag), vr, len(value), value, 0, self.implicit, self.little)

    def _pixels(self, element: RawDataElement | DataElement) -> RawDataElement | DataElement:
        value = _bytes(element)
        if self.source.file_meta.TransferSyntaxUID.is_encapsulated or int(element.tag) != 0x7FE00010:
            return element
        d = self.source
        cells = int(d.Rows) * int(d.Columns) * d.get("SamplesPerPixel", 1) * _whole(d.get_item("NumberOfFrames"))
        if d.get("PhotometricInterpretation") == "YBR_FULL_422":
            cells = cells * 2 // 3
        length = (cells * d.BitsAllocated + 7) // 8
        value = value[: length + length % 2]
        return RawDataElement(element.tag, element.VR, len(value), value, 0, self.implicit, self.little)

    # What the patient's own values are, and where they stand

    def _harvest(self, dataset: Dataset, charset: list[str]) -> None:
        charset = _charset(dataset, charset)
        for tag in sorted(dataset.keys()):
            element = dataset.get_item(tag)
            kind = _kinds().get(int(tag))
            if _looks_like_sequence(element):
                for item in _items(dataset, element) or ():
                    self._harvest(item, charset)
            elif kind is not None:
                text = _text(_bytes(element), charset)
                for part in text.split("\\"):
                    self.known += [Value(kind, text) for text in _spellings(kind, part.strip(" \0\r\n\t"))]

    def _may_stay(self, element: RawDataElement | DataElement, rule: Rule, charset: list[str]) -> bool:
        value, vr = _bytes(element), element.VR or rule.vr
        if not _akin(vr, rule.vr):
            return False
        if rule.vr in ("OB", "OW", "UN"):
            low = value.lower()
            return not any(len(known.text) >= 5 and known.text.encode() in low for known in self.known)
        if rule.vr not in TEXT:
            return len(value) % SIZES.get(rule.vr, 1) == 0
        text = _text(value, charset)
        parts = [part.strip(" ").rstrip("\0") for part in text.split("\\")]
        if rule.vr in LEGAL and not all(re.fullmatch(LEGAL[rule.vr], part) for part in parts):
            return False
        if int(element.tag) in _kinds():
            return True
        return not any(self._stands_in(known, text, parts, rule) for known in self.known)

    def _stands_in(self, known: Value, text: str, parts: list[str], rule: Rule) -> bool:
        text = text.casefold()
        if known.text not in text:
            return False
        if rule.vr in ("DS", "IS", "UI"):
            return known.text in parts and len(known.text) >= 6 and known.text.isdigit()
        if known.kind == "step" and len(known.text) < 5:
            return known.text in [part.casefold() for part in parts]
        inside = r"\w*" if len(known.text) >= 5 else ""
        for match in re.finditer(rf"(?<![^\W_]){inside}{re.escape(known.text)}{inside}(?![^\W_])", text):
            homely = _homely().get(f"{rule.tag:08X}", set()) | _homely().get(rule.vr, set())
            if known.kind != "name" or match[0] not in homely:
                return True
        return False


def _uids(value: bytes) -> list[str]:
    return [uid.strip(" \0") for uid in value.decode("latin-1").split("\\")]


def _standard(value: bytes) -> bool:
    """Whether all the UIDs are registered by the standard."""
    return all(not uid or uid in _registered() for uid in value.decode("latin-1").strip("\0 ").split("\\"))


def _uid_like(value: bytes) -> bool:
    """Whether all of them look like UIDs (PS3.5 section 9.1)."""
    return all(re.fullmatch(r"(?:[0-2](?:\.\d+)+)?", uid) for uid in value.decode("latin-1").strip("\0 ").split("\\"))


def _whole(element: RawDataElement | DataElement | None) -> int:
    """Number of Frames as an image reader takes it: digits, or 1."""
    digits = re.match(rb"\s*(\d+)", _bytes(element)) if element is not None else None
    return int(digits[1]) if digits and int(digits[1]) else 1


def _akin(vr: str, own: str) -> bool:
    """Whether a value under one VR can be read as the dictionary's."""
    if vr == own or vr == "UN" or (vr in TEXT and own in TEXT):
        return True
    return {vr, own} <= {"US", "SS", "OW"} or {vr, own} <= {"OB", "OW"}


def _spellings(kind: str, text: str) -> Iterator[str]:
    text = text.casefold()
    if text in NAMELESS:
        return
    if kind == "name":
        whole = set(re.split(r"[\s^,=]+", text))
        for word in whole | {part for group in whole for part in re.split(r"[-'’.]", group)}:
            if len(word) >= 2 and word not in NAMELESS and word not in TITLES:
                yield word
    elif kind in ("date", "birth"):
        if re.match(r"\d{8}", text) and text[:4] > "0000" and "00" < text[4:6] < "13" and "00" < text[6:8] < "32":
            year, month, day = text[:4], text[4:6], text[6:8]
            yield year + month + day
            for mark in "-./":
                yield mark.join((year, month, day))
                yield mark.join((day, month, year))
                yield mark.join((month, day, year))
    else:
        yield text


def _charset(dataset: Dataset, inherited: list[str]) -> list[str]:
    element = dataset.get_item(0x00080005) if 0x00080005 in dataset else None
    if element is None or not _bytes(element):
        return inherited
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(convert_encodings(_bytes(element).decode("latin-1").strip(" \0").split("\\")))


def _text(value: bytes, charset: list[str]) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return str(decode_bytes(value, charset, set(b"\\^=\r\n\f\t")))


def _bytes(element: RawDataElement | DataElement) -> bytes:
    value = element.value
    if isinstance(element, RawDataElement):
        return value or b""
    if isinstance(value, bytes):
        return value
    if value is None or value == "":
        return b""
    # pydicom has decoded it on its way (Specific Character Set, Pixel Representation): as it was, for these.
    values = value if isinstance(value, (list, pydicom.multival.MultiValue)) else [value]
    if element.VR in TEXT:
        return "\\".join(str(one) for one in values).encode("latin-1")
    return b"".join(int(one).to_bytes(2, "little", signed=int(one) < 0) for one in values)


def _length(dataset: Dataset, element: RawDataElement | DataElement) -> int:
    if element.VR == "SQ" and not isinstance(element, RawDataElement):
        return len(element.value)
    return len(element.value or b"")


def _looks_like_sequence(element: RawDataElement | DataElement) -> bool:
    if element.VR == "SQ":
        return True
    by_dictionary = datadict.dictionary_has_tag(element.tag) and datadict.dictionary_VR(element.tag) == "SQ"
    return element.VR in (None, "UN") and by_dictionary


def _items(dataset: Dataset, element: RawDataElement | DataElement) -> list[Dataset] | None:
    """The items of a sequence, as pydicom reads them; None where there are none to be had."""
    if not _looks_like_sequence(element):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(dataset[element.tag].value or [])


Line = tuple[tuple[int, ...], str, bytes]


def flatten(dataset: Dataset, path: tuple[int, ...] = (), implicit: bool | None = None) -> list[Line]:
    """(path, VR, value without padding) of every element, the sequences' own included; without the marks.

    The VR is empty where the transfer syntax does not say it.
    """
    implicit = dataset.original_encoding[0] if implicit is None else implicit
    lines: list[Line] = []
    for tag in dataset.keys():  # noqa: SIM118 (a data set iterates over elements, and decodes them)
        element = dataset.get_item(tag)
        if int(tag) in MARKS and not path:
            continue
        items = _items(dataset, element)
        if items is None:
            vr = "" if implicit else str(element.VR or "UN")
            if vr == "UN" and datadict.dictionary_has_tag(tag):  # kept as it was sent; pydicom writes what it knows
                vr = datadict.dictionary_VR(tag)
            lines.append(((*path, int(tag)), vr, _bytes(element).rstrip(b"\0 ")))
            continue
        lines.append(((*path, int(tag)), "SQ", str(len(items)).encode()))
        for number, item in enumerate(items):
            lines += flatten(item, (*path, int(tag), number), implicit)
    return lines


def read(data: bytes) -> Dataset:
    """pydicom's reading of an output, undecoded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(io.BytesIO(data))


def differences(data: bytes, output: bytes, plan: Plan, subject: Subject) -> list[str]:
    """What the engine's output has that the reference's has not (+), and the other way round (-)."""
    reference = Reference(data, plan, subject)
    wanted = flatten(reference.run(), implicit=reference.implicit)
    got = flatten(read(output), implicit=reference.implicit)
    if pydicom.uid.UID(read(output).file_meta.TransferSyntaxUID).is_encapsulated:
        wanted, got = ([line for line in lines if line[0] != (0x7FE00010,)] for lines in (wanted, got))
    if wanted == got:
        return []
    missing, extra = Counter(wanted) - Counter(got), Counter(got) - Counter(wanted)
    found = [
        f"{sign} {_show(path)} {vr} {value[:40]!r}"
        for sign, lines in (("-", missing), ("+", extra))
        for path, vr, value in lines
    ]
    return found or ["the order differs"]


def _show(path: tuple[int, ...]) -> str:
    return "/".join(f"{step:08x}" if step > 0xFFFF else f"[{step}]" for step in path)
