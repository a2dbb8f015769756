"""DICOM as a tree that may lie: lengths, VRs, delimiters and nesting that no honest writer would write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from tests import raw

UNDEFINED = 0xFFFFFFFF
_LONG = frozenset(vr.encode() for vr in raw.LONG_VRS)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
SMALL_VALUE = 160
"""Values of the sources are cut to this many bytes: it is the structure that is mutated, and small inputs are many."""
SMALL_IMAGE = 8


class Node:
    """One element. `value` is in little endian order; `items` make it a sequence, `fragments` encapsulated pixels.

    `length` is what the header says in spite of the truth; `no_end` leaves the delimiter out; `un` writes the
    element as UN with implicit VR little endian inside (PS3.5 section 6.2.2).
    """

    __slots__ = ("fragments", "items", "length", "no_end", "tag", "un", "undefined", "undefined_items", "value", "vr")

    def __init__(self, tag: int, vr: bytes, value: bytes = b"", items: list[list[Node]] | None = None) -> None:
        self.tag, self.vr, self.value, self.items = tag, vr, value, items
        self.fragments: list[bytes] | None = None
        self.undefined = self.undefined_items = self.no_end = self.un = False
        self.length: int | None = None

    def copy(self) -> Node:
        """Return a deep copy."""
        made = Node(self.tag, self.vr, self.value, None if self.items is None else [copied(i) for i in self.items])
        made.fragments = None if self.fragments is None else list(self.fragments)
        made.undefined, made.undefined_items = self.undefined, self.undefined_items
        made.no_end, made.un, made.length = self.no_end, self.un, self.length
        return made


def copied(nodes: list[Node]) -> list[Node]:
    """Return a deep copy of one level."""
    return [node.copy() for node in nodes]


def encode(nodes: Iterable[Node], order: str, explicit: bool) -> bytes:
    """Return the bytes of one level, with all its lies."""
    out: list[bytes] = []
    pack = struct.pack
    mark = order + "HHL"
    for node in nodes:
        vr = b"UN" if node.un else node.vr
        length = -1
        if node.fragments is not None:
            body = b"".join([pack(mark, *_ITEM, len(part)) + part for part in node.fragments])
            length = UNDEFINED
        elif node.items is not None:
            inside = ("<", False) if node.un else (order, explicit)
            body = _items(node, *inside)
            if node.undefined:
                length = UNDEFINED
        else:
            body = node.value if order == "<" else raw.swap(vr.decode("latin-1"), node.value)
        if length == UNDEFINED and not node.no_end:
            body += pack(("<" if node.un else order) + "HHL", *_SEQUENCE_END, 0)
        if node.length is not None:
            length = node.length
        elif length < 0:
            length = len(body)
        group, element = node.tag >> 16, node.tag & 0xFFFF
        if not explicit:
            out.append(pack(mark, group, element, length))
        elif vr in _LONG:
            out.append(pack(order + "HH2sHL", group, element, vr, 0, length))
        else:
            out.append(pack(order + "HH2sH", group, element, vr, length & 0xFFFF))
        out.append(body)
    return b"".join(out)


def _items(node: Node, order: str, explicit: bool) -> bytes:
    out: list[bytes] = []
    mark = order + "HHL"
    for item in node.items or ():
        body = encode(item, order, explicit)
        out.append(struct.pack(mark, *_ITEM, UNDEFINED if node.undefined_items else len(body)) + body)
        if node.undefined_items and not node.no_end:
            out.append(struct.pack(mark, *_ITEM_END, 0))
    return b"".join(out)


def data_set(nodes: list[Node], syntax: str) -> bytes:
    """Return the data set in the encoding of a transfer syntax, not deflated."""
    return encode(nodes, ">" if syntax == ExplicitVRBigEndian else "<", syntax != ImplicitVRLittleEndian)


def deflated(body: bytes) -> bytes:
    """Deflate, padded to even length."""
    packer = zlib.compressobj(1, wbits=-15)
    packed = packer.compress(body) + packer.flush()
    return packed + b"\0" * (len(packed) & 1)


def is_deflated(syntax: str) -> bool:
    """Whether the data set of this syntax is deflated."""
    return bool(syntax == DeflatedExplicitVRLittleEndian)


def from_raw(elements: Iterable[raw.El], inside: bool = False) -> list[Node]:
    """Make a tree of what the tests' reader read, with long values cut and the pixels made few."""
    made: list[Node] = []
    native = {0x7FE00010, 0x7FE00008, 0x7FE00009}
    for el in elements:
        vr = (el.vr or raw_vr(el.tag)).encode()
        if el.fragments is not None:
            node = Node(el.tag, vr)
            node.fragments = list(el.fragments)
        elif isinstance(el.value, list):
            node = Node(el.tag, b"SQ", items=[from_raw(item, True) for item in el.value[:3]])
            node.un = el.vr == "UN"
        else:
            keep = len(el.value) if el.tag in native and not inside else SMALL_VALUE
            node = Node(el.tag, vr, el.value[:keep])
        made.append(node)
    return made


def raw_vr(tag: int) -> str:
    """Return the VR of an attribute that the stream does not say."""
    if raw.dictionary_has_tag(tag):
        return str(raw.dictionary_VR(tag)).split(" or ")[0]
    return "UN"


def shrink(nodes: list[Node]) -> None:
    """Make a native image small: a few rows and columns, at most two frames, pixels to match. In place."""
    found = {node.tag: node for node in nodes}
    pixels = found.get(0x7FE00010)
    if pixels is None or pixels.fragments is not None or len(pixels.value) <= 4 * SMALL_IMAGE**2:
        return
    try:
        bits = struct.unpack("<H", found[0x00280100].value[:2])[0]
        samples = struct.unpack("<H", found[0x00280002].value[:2])[0] if 0x00280002 in found else 1
    except (KeyError, struct.error):
        pixels.value = pixels.value[: 4 * SMALL_IMAGE**2]
        return
    frames = 1
    if 0x00280008 in found:
        frames = 1 if found[0x00280008].value.strip(b" \0") in (b"", b"0", b"1") else 2
        found[0x00280008].value = b"%d " % frames
    for tag in (0x00280010, 0x00280011):
        found[tag].value = struct.pack("<H", SMALL_IMAGE)
    count = (SMALL_IMAGE * SMALL_IMAGE * samples * frames * bits + 7) // 8
    pixels.value = pixels.value[: count + (count & 1)]
