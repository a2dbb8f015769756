"""Walks the elements of a DICOM byte stream without copying or interpreting values (PS3.5 section 7).

An element is a tuple, because a CT slice has 160 of them and each must cost well under a microsecond:

    (tag, vr, begin, start, stop, end, items)

`begin` is where its header stands, `start`…`stop` its value, `end` the first byte after it (which lies behind
`stop` for undefined lengths: the delimiter). `vr` is two bytes, or b"" in implicit VR. `items` is None, except for
a sequence of undefined length: its end is only found by walking it, so what was found is kept.

An item is a tuple (begin, start, stop, end, elements), like above; a fragment of encapsulated pixels (PS3.5 A.4) is
one with no elements.
"""

from __future__ import annotations

from itertools import pairwise, repeat
from struct import error as StructError

from .errors import Quarantined
from .standard import attribute
from .syntax import BIG, LITTLE, Numbers

Element = tuple[int, bytes, int, int, int, int, "list[Item] | None"]
Item = tuple[int, int, int, int, "list[Element]"]

SHORT_VRS = frozenset(b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split())
"""VRs with a 16-bit length (PS3.5 table 7.1-2)."""
LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
"""VRs with two reserved bytes and a 32-bit length (PS3.5 table 7.1-1)."""

TWICE = "the attribute stands there twice"
UNDEFINED = 0xFFFFFFFF
ITEM = 0xFFFEE000
ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010

MAX_ELEMENTS = 1 << 16
"""Elements of one data set or item: no object has a tenth of it, and a flood of empty ones would fill the memory."""
MAX_ITEMS = 1 << 20
"""Items of one sequence, or fragments of one image: a million frames."""
MAX_DEPTH = 128
"""Sequences nested deeper than this are refused: a bound for time and for Python's stack."""


class Short(Exception):
    """The buffer ends within an element: the caller reads more of the source, or there is no more to read."""


def fault(tag: int, what: str, last: int = -1) -> Quarantined:
    """Say what is wrong with the stream, at which tag; behind `last` where the tag is none.

    In a stream that has gone wrong, what is read as a tag may be four letters of somebody's name: only attributes that
    the dictionary knows are named.
    """
    if is_named(tag):
        return Quarantined("unparsable", what, tag)
    if is_named(last):
        return Quarantined("unparsable", f"{what}, behind this attribute", last)
    return Quarantined("unparsable", what)


def is_named(tag: int) -> bool:
    """Whether a tag is the standard's, so that it can be told to anybody."""
    return tag >> 16 == 0xFFFE or (tag >= 0 and attribute(tag) is not None)


class Walker:
    """Walks one buffer in one encoding; `numbers` and `explicit` may differ from the file's inside UN (PS3.5 6.2.2)."""

    __slots__ = ("buf", "explicit", "numbers")

    def __init__(self, buf: bytes, explicit: bool, little: bool) -> None:
        self.buf = buf
        self.explicit = explicit
        self.numbers: Numbers = LITTLE if little else BIG

    def implicit_little(self) -> Walker:
        """Return a walker of the same buffer for what a UN holds."""
        return Walker(self.buf, explicit=False, little=True)

    def header(self, pos: int) -> tuple[int, bytes, int, int]:
        """Read one element header: tag, VR (b"" if implicit), start of the value, length (or UNDEFINED)."""
        try:
            if self.explicit:
                group, element, vr, length = self.numbers.short_head.unpack_from(self.buf, pos)
                tag = group << 16 | element
                if vr in SHORT_VRS:
                    return tag, vr, pos + 8, length
                if group == 0xFFFE:
                    return tag, b"", pos + 8, self.numbers.long.unpack_from(self.buf, pos + 4)[0]
                if vr in LONG_VRS:
                    return tag, vr, pos + 12, self.numbers.long.unpack_from(self.buf, pos + 8)[0]
                raise fault(tag, "no such VR")
            group, element, length = self.numbers.tag_length.unpack_from(self.buf, pos)
        except StructError:
            raise Short from None
        return group << 16 | element, b"", pos + 8, length

    def elements(
        self, pos: int, stop: int, depth: int, delimiter: int = 0, found: list[Element] | None = None
    ) -> tuple[list[Element], int]:
        """Walk the elements from `pos` up to `stop`, or up to `delimiter` where the length is undefined.

        Return them in the order of their tags, and the position after them (before the delimiter). Raises Short at
        the buffer's end, Quarantined for what is no data set. What was walked before that is in `found`, if given.

        At depth 0 `stop` may lie behind the buffer's end (a file of which the head was read): a value may then lie
        behind it too; and fragments are left to the caller, who gets their position.
        """
        if found is None:
            found = []
        add = found.append
        last = -1
        ordered = True
        buf = self.buf
        explicit = self.explicit
        unpack = self.numbers.short_head.unpack_from
        long_ = self.numbers.long.unpack_from
        short_vrs, long_vrs = SHORT_VRS, LONG_VRS
        for _ in repeat(None, MAX_ELEMENTS):
            if pos >= stop:
                if delimiter:
                    raise Short
                break
            # The header is read in place and not by self.header(): this loop is the engine's hottest.
            if explicit:
                try:
                    group, element, vr, length = unpack(buf, pos)
                    tag = group << 16 | element
                    if vr in short_vrs:
                        start = pos + 8
                    elif group == 0xFFFE:
                        vr, start, length = b"", pos + 8, long_(buf, pos + 4)[0]
                    elif vr in long_vrs:
                        start = pos + 12
                        length = long_(buf, pos + 8)[0]
                    else:
                        raise fault(tag, "no such VR", last)
                except StructError:
                    raise Short from None
            else:
                tag, vr, start, length = self.header(pos)
            if tag <= last:
                if tag == last:
                    raise fault(tag, TWICE)
                ordered = False
            last = tag
            if tag >= 0xFFFE0000:
                if tag == delimiter:
                    break
                if tag >> 16 == 0xFFFE:
                    raise fault(tag, "a delimiter where an element is due", last)
            if length != UNDEFINED:
                end = start + length
                if end > stop:
                    if delimiter or not depth:
                        raise Short
                    raise fault(tag, "its value runs over the end of its item", last)
                add((tag, vr, pos, start, end, end, None))
                pos = end
            else:
                sequence = vr == b"SQ" or vr == b"UN" or (not vr and tag != PIXEL_DATA)
                if not sequence and not depth:
                    break
                # Items of an undefined-length UN are in implicit VR little endian, whatever the file's syntax.
                walker = self.implicit_little() if vr == b"UN" else self
                if sequence:
                    if depth >= MAX_DEPTH:
                        raise Quarantined("too-large", "sequences are nested too deep", tag)
                    try:
                        items, end = walker.items(start, len(buf), depth, delimited=True)
                    except Quarantined as no:
                        raise (
                            no if no.tag is not None or not is_named(tag) else Quarantined(no.reason, no.detail, tag)
                        ) from None
                elif vr == b"OB" or vr == b"OW" or not vr:
                    items, end = self.fragments(start)
                else:
                    raise fault(tag, "undefined length is not allowed here")
                add((tag, vr, pos, start, end - 8, end, items))
                pos = end
        else:
            raise Quarantined("too-large", "more elements than any data set has", last if is_named(last) else None)
        if not ordered:
            put_in_order(found)
        return found, pos

    def fragments(self, pos: int) -> tuple[list[Item], int]:
        """Walk the fragments of encapsulated pixels within the buffer; return them and the position after them."""
        found: list[Item] = []
        for _ in repeat(None, MAX_ITEMS):
            try:
                group, element, length = self.numbers.tag_length.unpack_from(self.buf, pos)
            except StructError:
                raise Short from None
            tag = group << 16 | element
            if tag == SEQUENCE_END:
                return found, pos + 8
            end = pos + 8 + length
            if tag != ITEM or length == UNDEFINED:
                raise fault(tag, "a fragment of pixels is due here")
            if end > len(self.buf):
                raise Short
            found.append((pos, pos + 8, end, end, []))
            pos = end
        raise Quarantined("too-large", "more fragments than any image has", PIXEL_DATA)

    def items(self, pos: int, stop: int, depth: int, delimited: bool) -> tuple[list[Item], int]:
        """Walk the items of a sequence; return them and the position after the sequence, its delimiter included."""
        found: list[Item] = []
        unpack = self.numbers.tag_length.unpack_from
        while pos < stop:
            try:
                group, element, length = unpack(self.buf, pos)
            except StructError:
                raise Short from None
            tag = group << 16 | element
            if tag == SEQUENCE_END and delimited:
                return found, pos + 8
            if tag != ITEM:
                raise fault(tag, "an item of a sequence is due here")
            start = pos + 8
            if length == UNDEFINED:
                elements, at = self.elements(start, len(self.buf), depth + 1, ITEM_END)
                end = at + 8
                if end > len(self.buf):
                    raise Short
                if not delimited and end > stop:
                    raise fault(tag, "an item runs over the end of its sequence")
                found.append((pos, start, at, end, elements))
            else:
                end = start + length
                if end > stop:
                    if delimited or end > len(self.buf):
                        raise Short
                    raise fault(tag, "an item runs over the end of its sequence")
                elements, _ = self.elements(start, end, depth + 1)
                found.append((pos, start, end, end, elements))
            pos = end
            if len(found) > MAX_ITEMS:
                raise Quarantined("too-large", "more items than any sequence has", ITEM)
        if delimited:
            raise Short
        return found, pos

    def sequence(self, element: Element, depth: int) -> tuple[Walker, list[Item]]:
        """Return the items of a sequence element and the walker that reads what is in them.

        A UN of defined length is tried as what it should be, implicit VR little endian, then in the file's own
        encoding, which some senders leave in it.
        """
        tag, vr, _, start, stop, _, items = element
        if items is not None:
            return (self.implicit_little() if vr == b"UN" else self), items
        if start == stop:
            return self, []
        if depth >= MAX_DEPTH:
            raise Quarantined("too-large", "sequences are nested too deep", tag)
        try:
            if vr == b"UN":
                inner = self.implicit_little()
                try:
                    return inner, inner.items(start, stop, depth, delimited=False)[0]
                except (Short, Quarantined):
                    return self, self.items(start, stop, depth, delimited=False)[0]
            return self, self.items(start, stop, depth, delimited=False)[0]
        except Short:
            raise fault(tag, "the sequence ends within an element") from None
        except Quarantined as no:
            raise no if no.tag is not None or not is_named(tag) else Quarantined(no.reason, no.detail, tag) from None


def put_in_order(elements: list[Element]) -> None:
    """Sort elements by tag (PS3.5 7.1), in place; an attribute that stands there twice is a fault."""
    elements.sort(key=_tag)
    for before, after in pairwise(elements):
        if before[0] == after[0]:
            raise fault(after[0], TWICE)


def _tag(element: Element) -> int:
    return element[0]
