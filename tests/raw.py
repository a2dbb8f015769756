"""DICOM as a plain tree of elements, with an obvious writer and reader.

The tests need bytes that pydicom refuses to write (values that break their VR, lengths of every kind, UN in front of a
sequence) and a reader that shares nothing with the engine. An element's value is bytes in little endian order, a list
of items for a sequence, or a list of fragments for encapsulated pixels.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

LONG_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
WORD = {
    "US": 2,
    "SS": 2,
    "OW": 2,
    "AT": 2,
    "UL": 4,
    "SL": 4,
    "FL": 4,
    "OF": 4,
    "OL": 4,
    "FD": 8,
    "OD": 8,
    "SV": 8,
    "UV": 8,
    "OV": 8,
}
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD

Items = list[list["El"]]


@dataclass
class El:
    """One element: bytes in little endian order, or the items of a sequence; fragments only for encapsulated pixels."""

    tag: int
    vr: str
    value: bytes | Items = b""
    fragments: list[bytes] | None = None
    undefined: bool = False  # a sequence of undefined length
    undefined_items: bool = False  # its items too
    as_un: bool = False  # written as UN: a sequence in implicit VR inside, as PS3.5 section 6.2.2 says
    pad: bool = True

    @property
    def items(self) -> Items:
        assert isinstance(self.value, list)
        return self.value

    @property
    def bytes(self) -> bytes:
        assert not isinstance(self.value, list)
        return self.value


@dataclass
class Form:
    """How a tree is written: `explicit`, `little`, and whether every sequence or item gets an undefined length."""

    explicit: bool = True
    little: bool = True
    undefined: bool = False
    undefined_items: bool = False
    order: str = field(init=False)

    def __post_init__(self) -> None:
        self.order = "<" if self.little else ">"


def form_of(syntax: str) -> Form:
    """The form of a transfer syntax's data set (deflation apart)."""
    return Form(explicit=syntax != ImplicitVRLittleEndian, little=syntax != ExplicitVRBigEndian)


def swap(vr: str, value: bytes) -> bytes:
    """Reverse the bytes of every word of a binary value: what big endian does to it."""
    size = WORD.get(vr, 1)
    if size == 1 or len(value) % size:
        return value
    return b"".join(value[i : i + size][::-1] for i in range(0, len(value), size))


def _tag(tag: int, form: Form) -> bytes:
    return struct.pack(form.order + "HH", tag >> 16, tag & 0xFFFF)


def _header(tag: int, vr: str, length: int, form: Form) -> bytes:
    if not form.explicit:
        return _tag(tag, form) + struct.pack(form.order + "L", length)
    if vr in LONG_VRS:
        return _tag(tag, form) + vr.encode() + b"\0\0" + struct.pack(form.order + "L", length)
    return _tag(tag, form) + vr.encode() + struct.pack(form.order + "H", length)


def _items(el: El, form: Form, undefined: bool) -> bytes:
    out = bytearray()
    loose_items = el.undefined_items or form.undefined_items
    for item in el.items:
        body = encode(item, form)
        out += _tag(ITEM, form) + struct.pack(form.order + "L", UNDEFINED if loose_items else len(body)) + body
        if loose_items:
            out += _tag(ITEM_END, form) + b"\0\0\0\0"
    if undefined:
        out += _tag(SEQUENCE_END, form) + b"\0\0\0\0"
    return bytes(out)


def encode(elements: Iterable[El], form: Form | None = None) -> bytes:
    """The bytes of a data set, elements in the order given."""
    form = form or Form()
    out = bytearray()
    for el in elements:
        if el.fragments is not None:
            out += _header(el.tag, el.vr, UNDEFINED, form)
            for fragment in el.fragments:
                fragment += b"\0" * (len(fragment) % 2)
                out += _tag(ITEM, form) + struct.pack(form.order + "L", len(fragment)) + fragment
            out += _tag(SEQUENCE_END, form) + b"\0\0\0\0"
        elif isinstance(el.value, list):
            undefined = el.undefined or form.undefined
            body = _items(el, replace(form, explicit=False, little=True) if el.as_un else form, undefined)
            vr = "UN" if el.as_un else "SQ"
            out += _header(el.tag, vr, UNDEFINED if undefined else len(body), form) + body
        else:
            value = el.value if form.little else swap(el.vr, el.value)
            if el.pad and len(value) % 2:
                value += b"\0" if el.vr in ("UI", "OB", "UN") else b" "
            out += _header(el.tag, "UN" if el.as_un else el.vr, len(value), form) + value
    return bytes(out)


def part10(
    elements: Iterable[El],
    syntax: str,
    *,
    meta: Iterable[El] = (),
    preamble: bytes = b"\0" * 128,
    form: Form | None = None,
    after: bytes = b"",
) -> bytes:
    """A file: preamble, file meta (made from the data set, with `meta` put in), data set, `after` at its very end."""
    elements = list(elements)
    found = {el.tag: el for el in elements}
    base = {
        0x00020001: El(0x00020001, "OB", b"\0\1"),
        0x00020002: El(0x00020002, "UI", found[0x00080016].bytes if 0x00080016 in found else b""),
        0x00020003: El(0x00020003, "UI", found[0x00080018].bytes if 0x00080018 in found else b""),
        0x00020010: El(0x00020010, "UI", syntax.encode()),
        0x00020012: El(0x00020012, "UI", b"1.2.826.0.1.3680043.10.9999.1"),
    }
    base.update({el.tag: el for el in meta})
    head = encode(base[tag] for tag in sorted(base))
    body = encode(elements, form or form_of(syntax)) + after
    if syntax == DeflatedExplicitVRLittleEndian:
        squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        body = squeeze.compress(body) + squeeze.flush()
        body += b"\0" * (len(body) % 2)
    group = encode([El(0x00020000, "UL", struct.pack("<L", len(head)))])
    return preamble + b"DICM" + group + head + body


def from_dataset(dataset: Dataset, encodings: list[str] | None = None, signed: int = 0) -> list[El]:
    """The tree of a pydicom data set (its file meta apart), values encoded by pydicom in little endian."""
    out = []
    if "SpecificCharacterSet" in dataset:
        encodings = convert_encodings(dataset.SpecificCharacterSet)
    signed = dataset.get("PixelRepresentation", signed)
    for element in dataset:
        if element.VR == "SQ":
            out.append(El(int(element.tag), "SQ", [from_dataset(item, encodings, signed) for item in element.value]))
            continue
        if " or " in element.VR:
            binary = isinstance(element.value, bytes)
            element = DataElement(element.tag, "OW" if binary else "SS" if signed else "US", element.value)
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_data_element(buffer, element, encodings)
        data = buffer.getvalue()
        vr = data[4:6].decode()
        start = 12 if vr in LONG_VRS else 8
        if element.is_undefined_length and struct.unpack("<L", data[8:12])[0] == UNDEFINED:
            out.append(El(int(element.tag), vr, fragments=list(_fragments(data, 12, Form())[0])))
        else:
            out.append(El(int(element.tag), vr, data[start:]))
    return out


def _fragments(data: bytes, at: int, form: Form) -> tuple[list[bytes], int]:
    found: list[bytes] = []
    while True:
        group, number, length = struct.unpack_from(form.order + "HHL", data, at)
        at += 8
        if group << 16 | number == SEQUENCE_END:
            return found, at
        found.append(data[at : at + length])
        at += length


def parse(data: bytes) -> tuple[list[El], list[El], str]:
    """A file as (meta, elements, transfer syntax). Raises on anything that is not well-formed, with the offset."""
    assert data[128:132] == b"DICM"
    meta_form = Form()
    meta: list[El] = []
    at = 132
    while at + 2 <= len(data) and data[at : at + 2] == b"\x02\x00":
        el, at = _element(data, at, len(data), meta_form)
        meta.append(el)
    syntax = next(el for el in meta if el.tag == 0x00020010).bytes.rstrip(b"\0 ").decode()
    if syntax == DeflatedExplicitVRLittleEndian:
        inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        data, at = inflate.decompress(data[at:]), 0
    return meta, parse_dataset(data, at, len(data), form_of(syntax)), syntax


def parse_dataset(data: bytes, at: int, end: int, form: Form) -> list[El]:
    """The elements of data[at:end]."""
    out = []
    while at < end:
        el, at = _element(data, at, end, form)
        out.append(el)
    if at != end:
        raise ValueError(f"an element ends at {at}, past its parent's end at {end}")
    return out


def _element(data: bytes, at: int, end: int, form: Form) -> tuple[El, int]:
    group, number, length = struct.unpack_from(form.order + "HHL", data, at)
    tag = group << 16 | number
    vr = ""
    if form.explicit:
        vr = data[at + 4 : at + 6].decode("ascii")
        if vr in LONG_VRS:
            (length,) = struct.unpack_from(form.order + "L", data, at + 8)
            at += 12
        else:
            (length,) = struct.unpack_from(form.order + "H", data, at + 6)
            at += 8
    else:
        at += 8
    if tag == 0x7FE00010 and length == UNDEFINED:
        fragments, at = _fragments(data, at, form)
        return El(tag, vr, fragments=fragments), at
    inside = replace(form, explicit=False, little=True) if vr == "UN" else form
    if (
        vr == "SQ"
        or length == UNDEFINED
        or (vr in ("", "UN") and _is_sequence(tag, data[at : at + min(4, length)], inside))
    ):
        stop, loose = end if length == UNDEFINED else at + length, length == UNDEFINED
        try:
            items, at = _read_items(data, at, stop, inside, loose)
        except (ValueError, struct.error):
            if inside is form:
                raise
            items, at = _read_items(data, at, stop, form, loose)  # some write the file's own encoding inside a UN
        return El(tag, "SQ" if vr != "UN" else "UN", items), at
    if at + length > end:
        raise ValueError(f"element {tag:08x} runs past the end")
    value = data[at : at + length]
    return El(tag, vr, value if form.little else swap(vr, value)), at + length


def _is_sequence(tag: int, begin: bytes, form: Form) -> bool:
    """Whether an implicit element holds items: by the dictionary, or, unknown to it, by the look of its value."""
    if not tag >> 16 & 1 and dictionary_has_tag(tag):
        return bool(dictionary_VR(tag) == "SQ") and begin in (b"", _tag(ITEM, form), _tag(SEQUENCE_END, form))
    return begin == _tag(ITEM, form)


def _read_items(data: bytes, at: int, end: int, form: Form, undefined: bool) -> tuple[Items, int]:
    items: Items = []
    while undefined or at < end:
        group, number, length = struct.unpack_from(form.order + "HHL", data, at)
        tag = group << 16 | number
        at += 8
        if tag == SEQUENCE_END:
            return items, at
        if tag != ITEM:
            raise ValueError(f"{tag:08x} where an item should be, at {at - 8}")
        if length != UNDEFINED:
            items.append(parse_dataset(data, at, at + length, form))
            at += length
            continue
        item = []
        while struct.unpack_from(form.order + "HH", data, at) != (0xFFFE, 0xE00D):
            el, at = _element(data, at, end, form)
            item.append(el)
        items.append(item)
        at += 8
    return items, at


def walk(elements: Iterable[El], path: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], El]]:
    """Every element with its path of tags and item numbers, depth first."""
    for el in elements:
        yield (*path, el.tag), el
        if isinstance(el.value, list):
            for number, item in enumerate(el.value):
                yield from walk(item, (*path, el.tag, number))


def put(elements: list[El], el: El) -> None:
    """Replace the element of that tag or insert it in tag order."""
    for index, other in enumerate(elements):
        if other.tag == el.tag:
            elements[index] = el
            return
        if other.tag > el.tag:
            elements.insert(index, el)
            return
    elements.append(el)


def is_encapsulated(syntax: str) -> bool:
    return bool(UID(syntax).is_encapsulated) if UID(syntax).is_transfer_syntax else False
