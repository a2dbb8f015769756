"""Opens a DICOM file or its bytes and walks its top level, so that everything after works on elements.

Of a file only its head is read: up to the first value that lies behind what was read (the pixels, mostly). What lies
behind that value is a segment of its own. So a file of any size costs the memory of its elements, not of its pixels.
"""

from __future__ import annotations

import os
import threading
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Set
from dataclasses import dataclass
from operator import itemgetter
from struct import Struct
from typing import Any

from .errors import Quarantined, Rejected
from .standard import attribute
from .syntax import LITTLE, Syntax, syntaxes
from .text import decode, encodings
from .uids import registered
from .walk import (
    ITEM,
    MAX_ELEMENTS,
    MAX_ITEMS,
    PIXEL_DATA,
    SEQUENCE_END,
    TWICE,
    UNDEFINED,
    Element,
    Short,
    Walker,
    fault,
    is_named,
    put_in_order,
)

HEAD_BYTES = 1 << 15
"""What is read of a file at first: more than the header of most images."""
MAX_HEAD_BYTES = 1 << 28
"""Elements that need more memory than this are refused (256 MB, a per-frame sequence of a million frames)."""
MAX_INFLATED_BYTES = 1 << 29
"""A deflated data set may not grow beyond this."""
BULK_BYTES = 1 << 20
"""A value longer than this is not read with the head of a file: it is kept or dropped without looking inside."""
MAX_DISORDER_BYTES = 1 << 24
"""A file whose attributes are out of order beyond what is read at once is read whole, up to this size."""

ENCAPSULATED_DOCUMENT = 0x00420011
DICOMDIR = "1.2.840.10008.1.3.10"


class _Disorder(Quarantined):
    """Attributes of one part of a file belong before those of the part before it."""


_BEGIN = itemgetter(2)  # where an element stands


class Segment:
    """A run of elements in one buffer; `base` is the buffer's place in the source, positions count in `buf`."""

    __slots__ = ("base", "buf", "elements", "walker")

    def __init__(self, base: int, walker: Walker, elements: list[Element]) -> None:
        self.base = base
        self.walker = walker
        self.elements = elements
        self.buf = walker.buf


@dataclass(frozen=True, slots=True)
class Fragments:
    """Encapsulated Pixel Data of the top level (PS3.5 A.4): places in the source of its fragments, the first the Basic
    Offset Table, as (offset of the item, offset of its value, length of its value)."""

    tag: int
    vr: bytes
    begin: int
    end: int
    items: list[tuple[int, int, int]]


class _Bytes:
    """Where the bytes of a source are: in memory, or in a file."""

    __slots__ = ("data", "fd")

    def __init__(self, data: bytes | None, fd: int | None) -> None:
        self.data = data
        self.fd = fd

    def read(self, offset: int, length: int) -> bytes:
        """Read exactly `length` bytes; raises Quarantined `truncated` where the source ends before."""
        if self.data is not None:
            data = self.data[offset : offset + length]
        else:
            data = os.pread(self.fd, length, offset)  # type: ignore[arg-type]
            while 0 < len(data) < length:
                more = os.pread(self.fd, length - len(data), offset + len(data))  # type: ignore[arg-type]
                if not more:
                    break
                data += more
        if len(data) != length:
            raise Quarantined("truncated", "the source ends within a value")
        return data

    def chunks(self, offset: int, length: int) -> Iterator[memoryview]:
        """Read a range in parts of at most 1 MB. Each part is only valid until the next is asked for.

        The parts of a file come in one buffer: a new one of this size for each image would cost more than the reading.
        """
        if self.data is not None:
            yield memoryview(self.data)[offset : offset + length]
            return
        buffer = _buffer()
        while length:
            part = buffer[: min(length, len(buffer))]
            size = os.preadv(self.fd, [part], offset)  # type: ignore[arg-type]
            if not size:
                raise Quarantined("truncated", "the source ends within a value")
            # Whole pixels only: an odd end is read again with the next part.
            size -= size % 8 if size < length else 0
            yield part[:size]
            offset, length = offset + size, length - size


class Facts:
    """What the top level of a data set says: decoded on demand, never logged."""

    def __init__(self, segments: list[Segment], fragments: Fragments | None, syntax: Syntax, data: _Bytes) -> None:
        # Not the source itself: the two would keep each other, and the pixels, alive until the collector comes by.
        self._data = data
        self._fragments = fragments
        self._places = [(segment, {element[0]: element for element in segment.elements}) for segment in segments]
        self.transfer_syntax = syntax.uid
        self._texts: dict[int, str | None] = {}
        self.charset: tuple[str, ...] = encodings(self.raw(0x00080005) or b"")
        """The Python encodings that Specific Character Set (0008,0005) stands for."""

    @property
    def tags(self) -> set[int]:
        """The tags of the top level."""
        tags = {tag for _, elements in self._places for tag in elements}
        if self._fragments is not None:
            tags.add(self._fragments.tag)
        return tags

    def between(self, first: int, last: int) -> list[int]:
        """The tags of the top level from `first` up to `last`."""
        found = []
        for segment, _ in self._places:
            at = bisect_left(segment.elements, (first,))
            while at < len(segment.elements) and segment.elements[at][0] <= last:
                found.append(segment.elements[at][0])
                at += 1
        return found

    def places(self, tags: Set[int]) -> Iterator[tuple[Segment, Element]]:
        """Yield where those of these attributes stand that are there."""
        for segment, elements in self._places:
            for tag in elements.keys() & tags:
                yield segment, elements[tag]

    def element(self, tag: int) -> tuple[Segment, Element] | None:
        """Return where an attribute stands, or None."""
        for segment, elements in self._places:
            element = elements.get(tag)
            if element is not None:
                return segment, element
        return None

    def raw(self, tag: int) -> bytes | None:
        """Return the bytes of a value, None where the attribute is missing; a bulk value comes cut to 1 MB."""
        for segment, elements in self._places:
            element = elements.get(tag)
            if element is not None:
                if element[4] <= len(segment.buf):
                    return segment.buf[element[3] : element[4]]
                return self._data.read(segment.base + element[3], min(element[4] - element[3], BULK_BYTES))
        return None

    def get(self, tag: int) -> str | None:
        """Return a text value, decoded and stripped, multiple values with backslashes; None where it is missing."""
        if tag not in self._texts:
            raw = self.raw(tag)
            self._texts[tag] = None if raw is None else decode(raw, self.charset).strip(" \0\r\n\t")
        return self._texts[tag]

    def values(self, tag: int) -> list[str]:
        """Return the values of a text attribute; an empty list where it is missing or empty."""
        text = self.get(tag)
        return [value.strip(" \0") for value in text.split("\\")] if text else []

    def number(self, tag: int) -> int | None:
        """Return the first value of a US, SS or IS attribute; None where it is missing or no number.

        Which of them it is says the data dictionary, as the stream may not (implicit VR, UN).
        """
        place = self.element(tag)
        entry = attribute(tag)
        if place is None or entry is None:
            return None
        raw = self.raw(tag) or b""
        if entry.vr in ("US", "SS", "US or SS"):
            return int(place[0].walker.numbers.short.unpack_from(raw)[0]) if len(raw) >= 2 else None
        try:
            return int(float(raw.split(b"\\")[0].strip(b" \0")))
        except (ValueError, OverflowError):
            return None

    def _uid(self, tag: int) -> str:
        """Return an instance's UID as it will be mapped, whatever the character set.

        An empty text where there is none, where there are several, and for one that the standard registers: that is
        no instance's.
        """
        uid = (self.raw(tag) or b"").strip(b" \0")
        return "" if b"\\" in uid or uid in registered() else uid.decode("latin-1")

    @property
    def sop_class(self) -> str:
        """SOP Class UID, or an empty text."""
        return self.get(0x00080016) or ""

    @property
    def sop_instance(self) -> str:
        """SOP Instance UID, or an empty text."""
        return self._uid(0x00080018)

    @property
    def study(self) -> str:
        """Study Instance UID, or an empty text."""
        return self._uid(0x0020000D)

    @property
    def series(self) -> str:
        """Series Instance UID, or an empty text."""
        return self._uid(0x0020000E)

    @property
    def patient_id(self) -> str:
        """Patient ID as it stands there, or an empty text."""
        return self.get(0x00100020) or ""

    @property
    def patient_name(self) -> str:
        """Patient's Name, or an empty text."""
        return self.get(0x00100010) or ""

    @property
    def birth_date(self) -> str:
        """Patient's Birth Date, or an empty text."""
        return self.get(0x00100030) or ""

    @property
    def sex(self) -> str:
        """Patient's Sex, or an empty text."""
        return self.get(0x00100040) or ""

    @property
    def own_mark(self) -> str | None:
        """The mark that this software left in an output, if the instance carries one."""
        from .markers import find_mark

        place = self.element(0x0018A001)
        if place is None:
            return None
        segment, element = place
        return find_mark(segment.buf[element[3] : min(element[4], len(segment.buf))])


class Source:
    """One instance as it came, opened and walked at its top level.

    Raises Rejected (`not-dicom`, `dicomdir`) or Quarantined (`unparsable`, `truncated`, `too-large`,
    `unsupported-transfer-syntax`) when it cannot be.
    """

    def __init__(self, data: bytes | None, fd: int | None, size: int) -> None:
        self._bytes = _Bytes(data, fd)
        self.size = size
        self.segments: list[Segment] = []
        self._elements = 0
        self.fragments: Fragments | None = None
        self.syntax: Syntax
        self.meta: dict[int, bytes] = {}
        self._open()
        self._facts: Facts | None = None

    @classmethod
    def from_bytes(cls, data: bytes) -> Source:
        """Open an instance held in memory."""
        return cls(data, None, len(data))

    @classmethod
    def from_file(cls, file: Any) -> Source:
        """Open an instance in an open regular file (anything with a `fileno`), which must stay open meanwhile."""
        fd = file.fileno()
        return cls(None, fd, os.fstat(fd).st_size)

    @property
    def facts(self) -> Facts:
        """What the top level says."""
        if self._facts is None:
            self._facts = Facts(self.segments, self.fragments, self.syntax, self._bytes)
        return self._facts

    @property
    def fd(self) -> int | None:
        """The descriptor of the file that offsets count in; None where they count in memory."""
        return self._bytes.fd

    def read(self, offset: int, length: int) -> bytes:
        """Read exactly `length` bytes; raises Quarantined `truncated` where the source ends before."""
        return self._bytes.read(offset, length)

    def chunks(self, offset: int, length: int) -> Iterator[memoryview]:
        """Read a range in parts of at most 1 MB. Each part is only valid until the next is asked for."""
        return self._bytes.chunks(offset, length)

    def value(self, segment: Segment, element: Element) -> bytes:
        """Return the value of an element, wherever it lies."""
        if element[4] <= len(segment.buf):
            return segment.buf[element[3] : element[4]]
        return self.read(segment.base + element[3], element[4] - element[3])

    # How it is opened

    def _open(self) -> None:
        data, size = self._bytes.data, HEAD_BYTES
        while True:
            head = self.read(0, min(self.size, size)) if data is None else data
            try:
                pos = self._file_meta(head)
                break
            except Short:
                if len(head) >= self.size:
                    raise Quarantined("truncated", "the file meta information runs over the end") from None
                if size > BULK_BYTES:
                    raise Quarantined("too-large", "the file meta information") from None
                size *= 8
        if self.syntax.deflated:
            head = self._inflate(pos)
            self._bytes = _Bytes(head, None)
            self.size, pos = len(head), 0
        try:
            self._data_set(head, 0, pos)
        except _Disorder:
            # Elements are put in order within a buffer: one for the whole file, if that is no image of some size.
            if self._bytes.fd is None or self.size > MAX_DISORDER_BYTES:
                raise
            head = self.read(0, self.size)
            self._bytes = _Bytes(head, None)
            self.segments, self._elements, self.fragments = [], 0, None
            self._data_set(head, 0, pos)
        if not any(segment.elements for segment in self.segments):
            raise Rejected("not-dicom", "no data set")

    def _file_meta(self, head: bytes) -> int:
        """Read the file meta information (PS3.10 section 7.1), or guess where it is missing; return its end.

        Raises Short where it goes on behind `head`, which may be all there is.
        """
        if head[128:132] == b"DICM":
            pos = 132
        elif head[:4] == b"DICM":
            pos = 4
        elif head[:4] in (b"\x02\x00\x00\x00", b"\x08\x00\x05\x00", b"\x08\x00\x08\x00", b"\x08\x00\x00\x00") or (
            head[:2] == b"\x08\x00" and head[3:4] == b"\x00" and len(head) > 16
        ):
            pos = 0
        else:
            raise Rejected("not-dicom", "no DICM prefix and no data set")
        walker = Walker(head, explicit=True, little=True)
        while head[pos : pos + 2] == b"\x02\x00":
            tag, _, start, length = walker.header(pos)
            if start + length > len(head):
                raise Short
            self.meta[tag] = head[start : start + length]
            pos = start + length
        if pos + 8 > len(head) < self.size:
            raise Short
        uid = self.meta.get(0x00020010, b"").strip(b" \0").decode("ascii", "replace")
        if (
            self.meta.get(0x00020002, b"").strip(b" \0") == DICOMDIR.encode()
            or head[pos : pos + 4] == b"\x04\x00\x00\x11"
        ):
            raise Rejected("dicomdir", "a DICOMDIR is no instance")
        if not uid:
            # PS3.10 asks for it; what comes without is one of the two that senders write without a header.
            explicit = head[pos + 4 : pos + 6].isalpha() and head[pos + 4 : pos + 6].isupper()
            uid = "1.2.840.10008.1.2.1" if explicit else "1.2.840.10008.1.2"
        syntax = syntaxes().get(uid)
        if syntax is None:
            raise Quarantined("unsupported-transfer-syntax", "not in the table of transfer syntaxes", 0x00020010)
        self.syntax = syntax
        return pos

    def _inflate(self, pos: int) -> bytes:
        inflater = zlib.decompressobj(-15)
        try:
            data = inflater.decompress(self.read(pos, self.size - pos), MAX_INFLATED_BYTES)
        except zlib.error:
            raise Quarantined("unparsable", "the deflated data set cannot be inflated") from None
        if inflater.unconsumed_tail:
            raise Quarantined("too-large", "the deflated data set grows too large")
        if not inflater.eof:
            raise Quarantined("truncated", "the deflated data set ends early")
        return data

    def _data_set(self, buf: bytes, base: int, pos: int) -> None:
        """Walk the top level, segment by segment; `pos` counts in `buf`, `base` is the place of `buf` in the source."""
        while True:
            begin = pos
            walker = Walker(buf, self.syntax.explicit, self.syntax.little)
            found: list[Element] = []
            stop = self.size - base
            problem: Exception | None = None
            try:
                _, pos = walker.elements(pos, stop, 0, found=found)
            except (Short, Quarantined) as caught:
                problem = caught
                pos = found[-1][5] if found else pos
                put_in_order(found)
            last = max(found, key=_BEGIN) if found and pos > len(buf) else None
            if last is not None and last[4] > len(buf) and _wanted(last):
                # Its value has to be looked into, so it is read; `problem`, if any, was its missing rest.
                found.remove(last)
                base, buf = self._read_on(walker, base, begin, last[2], found, last[4])
                pos = 0
                continue
            if problem is not None and pos < stop:
                if isinstance(problem, Short) and base + len(buf) < self.size:
                    base, buf = self._read_on(walker, base, begin, pos, found, 0)
                    pos = 0
                    continue
                if not self._trailing(found, base + pos, problem):
                    if isinstance(problem, Short):
                        tag = _tag_at(walker, pos)
                        raise Quarantined("truncated", "the data set ends within an element", tag) from None
                    raise problem
                pos = stop
            self._add(Segment(base, walker, found))
            if pos >= stop:
                return
            # Fragments of encapsulated pixels: their items are read one by one, wherever they lie.
            if self.fragments is not None:
                raise fault(PIXEL_DATA, "a second element of undefined length")
            tag, vr, start, _ = walker.header(pos)
            if any(one[0] == tag for segment in self.segments for one in segment.elements):
                raise fault(tag, TWICE)
            self.fragments = self._fragments(tag, vr, base + pos, base + start)
            base, pos = self.fragments.end, 0
            if base >= self.size:
                return
            in_memory = self._bytes.data is not None
            buf = self.read(base, self.size - base if in_memory else min(self.size - base, HEAD_BYTES))

    def _read_on(
        self, walker: Walker, base: int, begin: int, pos: int, found: list[Element], need: int
    ) -> tuple[int, bytes]:
        """Read more of the source, at least up to `need`; return the new buffer and its place.

        The elements from `begin` on are walked again in a larger buffer, so that a private block, or a date and its
        time, stay in one; where a bulk value lies between them, a new segment starts at `pos`.
        """
        size = len(walker.buf)
        if any(element[4] > size for element in found):
            self._add(Segment(base, walker, found))
            begin, size = pos, pos
        known = max(need, size) - begin
        if known > MAX_HEAD_BYTES:
            raise Quarantined("too-large", "one element needs too much memory")
        # By half at least: what is walked again stays in proportion to what is read.
        wanted = max(need - begin + HEAD_BYTES, (size - begin) * 3 // 2, HEAD_BYTES)
        base += begin
        return base, self.read(base, min(wanted, self.size - base))

    def _add(self, segment: Segment) -> None:
        if not segment.elements:
            return
        if self.fragments is not None and any(one[0] == self.fragments.tag for one in segment.elements):
            raise fault(self.fragments.tag, TWICE)
        if self.segments and self.segments[-1].elements[-1][0] >= segment.elements[0][0]:
            tag = segment.elements[0][0]
            raise _Disorder("unparsable", "the attributes are out of order", tag if is_named(tag) else None)
        self._elements += len(segment.elements)
        if self._elements > MAX_ELEMENTS:
            raise Quarantined("too-large", "more elements than any data set has")
        self.segments.append(segment)

    def _trailing(self, found: list[Element], offset: int, problem: Exception) -> bool:
        """Whether what begins at `offset` is no data set but bytes behind its end: they are dropped.

        An attribute that stands there twice is none of those: nobody can say which of the two is meant.
        """
        if isinstance(problem, Quarantined) and problem.detail == TWICE and (problem.tag or 0) >= 0x00080000:
            return False
        last = [elements[-1][0] for elements in (found, *[segment.elements for segment in self.segments]) if elements]
        if max(last, default=0) >= PIXEL_DATA or self.fragments is not None:
            return True
        rest = self.size - offset
        return rest <= BULK_BYTES and not self.read(offset, rest).strip(b"\0")

    def _fragments(self, tag: int, vr: bytes, begin: int, pos: int) -> Fragments:
        numbers = LITTLE
        items: list[tuple[int, int, int]] = []
        while pos + 8 <= self.size:
            group, element, length = numbers.tag_length.unpack(self.read(pos, 8))
            if group << 16 | element == SEQUENCE_END:
                return Fragments(tag, vr, begin, pos + 8, items)
            if group << 16 | element != ITEM or length == UNDEFINED:
                raise fault(group << 16 | element, "a fragment of pixels is due here")
            items.append((pos, pos + 8, length))
            pos += 8 + length
            if len(items) > MAX_ITEMS:
                raise Quarantined("too-large", "more fragments than any image has", tag)
        raise Quarantined("truncated", "the fragments of pixels have no end", tag if is_named(tag) else None)


def _tag_at(walker: Walker, pos: int) -> int | None:
    """Return the tag of the element that begins at a place, None where no attribute does."""
    if pos + 4 > len(walker.buf):
        return None
    group, element = Struct(walker.numbers.order + "HH").unpack_from(walker.buf, pos)
    return int(group << 16 | element) if is_named(group << 16 | element) else None


_local = threading.local()


def _buffer() -> memoryview:
    """Return this thread's buffer for reading."""
    try:
        return _local.buffer  # type: ignore[no-any-return]
    except AttributeError:
        _local.buffer = memoryview(bytearray(BULK_BYTES))
        return _local.buffer  # type: ignore[no-any-return]


def _wanted(element: Element) -> bool:
    """Whether a value that lies behind the buffer must be read: a sequence, or anything that is no bulk of numbers."""
    tag, vr, _, start, stop, _, _ = element
    if tag == ENCAPSULATED_DOCUMENT:
        return True  # it is searched, where a profile keeps it
    if stop - start <= BULK_BYTES:
        return not 0x7FE00000 <= tag <= 0x7FE0FFFF
    if vr:
        return vr in (b"SQ", b"UN")
    return not (0x7FE00000 <= tag <= 0x7FE0FFFF or 0x60000000 <= tag <= 0x60FFFFFF or 0x50000000 <= tag <= 0x50FFFFFF)
