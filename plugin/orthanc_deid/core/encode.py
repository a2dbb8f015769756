"""Writes data elements in the encoding of a file (PS3.5 section 7.1)."""

from __future__ import annotations

from .errors import Quarantined
from .syntax import Numbers
from .walk import ITEM, LONG_VRS, SEQUENCE_END, UNDEFINED

_NUL_PADDED = frozenset({b"UI", b"OB", b"OW", b"UN"})


def element(numbers: Numbers, explicit: bool, tag: int, vr: bytes, value: bytes) -> bytes:
    """Return a whole element; the value is padded to even length as its VR asks (PS3.5 6.2)."""
    if len(value) & 1:
        value += b"\0" if vr in _NUL_PADDED else b" "
    return header(numbers, explicit, tag, vr, len(value)) + value


def header(numbers: Numbers, explicit: bool, tag: int, vr: bytes, length: int) -> bytes:
    """Return the header of an element whose value has `length` bytes (or UNDEFINED)."""
    if explicit and vr not in LONG_VRS and length > 0xFFFF:
        raise Quarantined("too-large", "the new value is longer than its VR can be", tag)
    if not explicit:
        return numbers.tag_length.pack(tag >> 16, tag & 0xFFFF, length)
    if vr in LONG_VRS:
        return numbers.long_head.pack(tag >> 16, tag & 0xFFFF, vr, 0, length)
    return numbers.short_head.pack(tag >> 16, tag & 0xFFFF, vr, length)


def item(numbers: Numbers, body: bytes) -> bytes:
    """Return an item of defined length (PS3.5 7.5)."""
    return numbers.tag_length.pack(ITEM >> 16, ITEM & 0xFFFF, len(body)) + body


def sequence(numbers: Numbers, explicit: bool, tag: int, items: list[bytes]) -> bytes:
    """Return a sequence of defined length with these item bodies."""
    return element(numbers, explicit, tag, b"SQ", b"".join([item(numbers, body) for body in items]))


def sequence_end(numbers: Numbers) -> bytes:
    """Return the delimiter of a sequence of undefined length."""
    return numbers.tag_length.pack(SEQUENCE_END >> 16, SEQUENCE_END & 0xFFFF, 0)


__all__ = ["UNDEFINED", "element", "header", "item", "sequence", "sequence_end"]
