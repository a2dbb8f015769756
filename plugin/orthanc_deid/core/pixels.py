"""Brings Pixel Data into the output: trimmed to what the image is, its streams cleaned, hidden bits refused.

What may carry burned-in text is decided elsewhere (`pixelrisk`, by SOP class, modality and flags). Here it is only
about bytes that no viewer shows: behind the end of native pixels, in segments of compressed streams, in the bits above
Bits Stored, where overlays once lived (PS3.5 8.1.1, retired).
"""

from __future__ import annotations

from typing import Any

from . import encode, streams
from .actions import Piece
from .errors import Quarantined
from .source import Fragments, Segment, Source
from .syntax import LITTLE
from .walk import PIXEL_DATA, Element, fault

FLOAT_PIXEL_DATA = 0x7FE00008
DOUBLE_PIXEL_DATA = 0x7FE00009
EXTENDED_OFFSETS = 0x7FE00001
EXTENDED_LENGTHS = 0x7FE00002
_PIXEL_VRS = frozenset({b"OB", b"OW", b"OF", b"OD", b"UN"})


def prepare(source: Source) -> dict[int, list[Piece]]:
    """Return what stands in the output for the pixel attributes that change, by tag; raises Quarantined."""
    facts = source.facts
    replaced: dict[int, list[Piece]] = {}
    if source.fragments is None:
        for tag in (EXTENDED_OFFSETS, EXTENDED_LENGTHS):
            if facts.element(tag) is not None:
                replaced[tag] = []
    else:
        if source.fragments.tag != PIXEL_DATA or not source.syntax.encapsulated:
            raise fault(source.fragments.tag, "fragments where native pixels are due")
        replaced.update(_encapsulated(source, source.fragments))
        return replaced
    for tag in (FLOAT_PIXEL_DATA, DOUBLE_PIXEL_DATA, PIXEL_DATA):
        place = facts.element(tag)
        if place is not None:
            if source.syntax.encapsulated and tag == PIXEL_DATA and source.syntax.stream != "raw":
                raise Quarantined("unparsable", "native pixels where fragments are due", tag)
            pieces = _native(source, *place)
            if pieces is not None:
                replaced[tag] = pieces
    return replaced


def frame_length(source: Source) -> int:
    """Return the bytes of one native frame; for 1-bit images of all frames, which are packed (PS3.5 8.1.1)."""
    rows, columns, samples, bits = (_number(source, tag) for tag in (0x00280010, 0x00280011, 0x00280002, 0x00280100))
    values = rows * columns * samples
    if bits == 1:
        return (values * _frames(source) + 7) // 8
    if bits % 8:
        raise Quarantined("unsupported", "Bits Allocated that is no whole byte", 0x00280100)
    if source.facts.get(0x00280004) == "YBR_FULL_422" and samples == 3 and not source.syntax.encapsulated:
        values = rows * columns * 2
    return values * bits // 8


def _number(source: Source, tag: int) -> int:
    number = source.facts.number(tag)
    if number is None and tag == 0x00280002:
        return 1
    if number is None or number < 1:
        raise Quarantined("unparsable", "pixels without their size", tag)
    return number


def _frames(source: Source) -> int:
    frames = source.facts.number(0x00280008)
    return frames if frames is not None and frames > 0 else 1


def _native(source: Source, segment: Segment, element: Element) -> list[Piece] | None:
    """Trim native pixels to the image's size; None when there is nothing to trim."""
    tag, vr, _, start, stop, _, _ = element
    if vr and vr not in _PIXEL_VRS:
        raise Quarantined("unparsable", "pixels under a VR that pixels cannot have", tag)
    length = frame_length(source) * (1 if source.facts.number(0x00280100) == 1 else _frames(source))
    if stop - start < length:
        raise Quarantined("truncated", "fewer pixels than the image has", tag)
    padded = length + (length & 1)
    if stop - start <= padded:
        return None
    walker = segment.walker
    head = encode.header(walker.numbers, walker.explicit, tag, vr, padded)
    pieces: list[Piece] = [head, (segment.base + start, length)]
    if length & 1:
        pieces.append(b"\0")
    return pieces


def hidden_bits(source: Source) -> Any | None:
    """Return a check for native pixels that may hide bits above Bits Stored, None where there is no room for them.

    The check takes a chunk of whole pixels and raises Quarantined `pixels-not-cleaned`.
    """
    facts = source.facts
    allocated, stored = facts.number(0x00280100), facts.number(0x00280101)
    if PIXEL_DATA not in facts.tags or allocated is None or stored is None or stored == allocated:
        return None
    if source.fragments is not None or allocated not in (8, 16, 32):
        return None
    if stored < 1:
        raise Quarantined("unparsable", "pixels without a bit", 0x00280101)
    if facts.number(0x00280102) not in (None, stored - 1):
        raise Quarantined(
            "pixels-not-cleaned", "High Bit is not Bits Stored - 1: bits below or above may be text", 0x00280102
        )
    import numpy

    order = "<" if source.syntax.little else ">"
    signed = facts.number(0x00280103) == 1
    kind = numpy.dtype(f"{order}{'i' if signed else 'u'}{allocated // 8}")
    low = -(1 << (stored - 1)) if signed else 0
    high = (1 << (stored - (1 if signed else 0))) - 1

    def check(chunk: bytes | memoryview) -> None:
        pixels = numpy.frombuffer(chunk, kind, count=len(chunk) // kind.itemsize)
        if pixels.size and (pixels.max() > high or (signed and pixels.min() < low)):
            # Signed images of some senders leave the sign unextended: then the bits above are all zero.
            if signed and pixels.min() >= 0 and int(pixels.max()) < 1 << stored:
                return
            raise Quarantined(
                "pixels-not-cleaned", "bits are set above Bits Stored: there may be an overlay", PIXEL_DATA
            )

    return check


def _encapsulated(source: Source, pixels: Fragments) -> dict[int, list[Piece]]:
    """Clean the streams of all frames; an object with nothing to clean comes out as it is."""
    frames = _by_frame(source, pixels)
    stream = source.syntax.stream
    length = frame_length(source)
    stored = source.facts.number(0x00280101) or 0
    allocated = source.facts.number(0x00280100) or 0
    cleaned: list[list[Piece] | None] = []
    for fragments in frames:
        data = b"".join([source.read(start, size) for _, start, size in fragments])
        parts = streams.clean(stream, data, length)
        bits = streams.precision(stream, data)
        if bits is not None and bits > stored and stored < allocated:
            raise Quarantined(
                "pixels-not-cleaned", "the stream has more bits than Bits Stored: there may be an overlay", PIXEL_DATA
            )
        cleaned.append(None if parts is None else _pieces(parts, data, fragments))
        if parts is not None:
            _prove(stream, parts, data, length)
    if any(frame is not None for frame in cleaned):
        return _rebuilt(source, pixels, frames, cleaned)
    replaced: dict[int, list[Piece]] = {pixels.tag: [(pixels.begin, pixels.end - pixels.begin)]}
    if not _basic_table_fits(source, pixels, frames):
        # A table that points nowhere is of no use, and may be anything; an empty one is allowed (PS3.5 A.4).
        first = pixels.items[1][0] if len(pixels.items) > 1 else pixels.end - 8
        head = encode.header(LITTLE, source.syntax.explicit, pixels.tag, pixels.vr, encode.UNDEFINED)
        replaced[pixels.tag] = [head + encode.item(LITTLE, b""), (first, pixels.end - first)]
    if not _extended_tables_fit(source, frames):
        replaced |= {EXTENDED_OFFSETS: [], EXTENDED_LENGTHS: []}
    return replaced


def _numbers(raw: bytes, size: int) -> list[int]:
    return [int.from_bytes(raw[at : at + size], "little") for at in range(0, len(raw), size)]


def _starts(frames: list[list[tuple[int, int, int]]]) -> list[int]:
    """Return where each frame begins, counted from the first fragment's item (PS3.5 A.4)."""
    return [fragments[0][0] - frames[0][0][0] for fragments in frames]


def _basic_table_fits(source: Source, pixels: Fragments, frames: list[list[tuple[int, int, int]]]) -> bool:
    _, start, size = pixels.items[0]
    return not size or (size == 4 * len(frames) and _numbers(source.read(start, size), 4) == _starts(frames))


def _extended_tables_fit(source: Source, frames: list[list[tuple[int, int, int]]]) -> bool:
    offsets, lengths = source.facts.raw(EXTENDED_OFFSETS), source.facts.raw(EXTENDED_LENGTHS)
    if offsets is None and lengths is None:
        return True
    if offsets is None or lengths is None or len(offsets) != 8 * len(frames) or len(lengths) != len(offsets):
        return False
    sizes = [sum(size for _, _, size in fragments) for fragments in frames]
    told = zip(_numbers(lengths, 8), sizes, strict=True)
    return _numbers(offsets, 8) == _starts(frames) and all(size - 1 <= length <= size for length, size in told)


def _prove(stream: str, parts: list[streams.Part], data: bytes, length: int) -> None:
    """Follow a cleaned stream once more: it must be a stream with nothing left to clean."""
    again = b"".join([part if isinstance(part, bytes) else data[part[0] : part[1]] for part in parts])
    if streams.clean(stream, again, length) is not None:
        raise Quarantined("verify-failed", "a cleaned stream is not clean", PIXEL_DATA)


def _pieces(parts: list[streams.Part], data: bytes, fragments: list[tuple[int, int, int]]) -> list[Piece]:
    if len(fragments) == 1:
        base = fragments[0][1]
        return [part if isinstance(part, bytes) else (base + part[0], part[1] - part[0]) for part in parts]
    return [part if isinstance(part, bytes) else data[part[0] : part[1]] for part in parts]


def _by_frame(source: Source, pixels: Fragments) -> list[list[tuple[int, int, int]]]:
    """Group fragments by frame (PS3.5 A.4): by count, by the Basic or Extended Offset Table, or by SOI."""
    if not pixels.items:
        raise Quarantined("unparsable", "encapsulated pixels without a Basic Offset Table", pixels.tag)
    table, *fragments = pixels.items
    frames = _frames(source)
    if frames == 1:
        return [fragments] if fragments else []
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    starts: list[int] = []
    if table[2] and table[2] == 4 * frames:
        starts = _numbers(source.read(table[1], table[2]), 4)
    elif (extended := source.facts.raw(EXTENDED_OFFSETS)) and len(extended) == 8 * frames:
        starts = _numbers(extended, 8)
    groups: list[list[tuple[int, int, int]]] = []
    if starts:
        origin = fragments[0][0] if fragments else 0
        wanted = set(starts)
        for fragment in fragments:
            if fragment[0] - origin in wanted:
                groups.append([])
            if not groups:
                break
            groups[-1].append(fragment)
    elif source.syntax.stream in ("jpeg", "jpegls", "j2k", "j2kpart2"):
        for fragment in fragments:
            if source.read(fragment[1], min(2, fragment[2])) in (b"\xff\xd8", b"\xff\x4f"):
                groups.append([])
            if not groups:
                break
            groups[-1].append(fragment)
    if len(groups) != frames:
        raise Quarantined("unparsable", "the fragments do not make up the frames", pixels.tag)
    return groups


def _rebuilt(
    source: Source, pixels: Fragments, frames: list[list[tuple[int, int, int]]], cleaned: list[list[Piece] | None]
) -> dict[int, list[Piece]]:
    """Write the fragments anew, with their offset tables."""
    body: list[Piece] = []
    offsets: list[int] = []
    lengths: list[int] = []
    position = 0
    for fragments, parts in zip(frames, cleaned, strict=True):
        offsets.append(position)
        begin = position
        if parts is None:
            for start, value, size in fragments:
                body.append((start, value - start + size))
                position += 8 + size
            lengths.append(position - begin - 8 * len(fragments))
            continue
        size = sum(len(part) if isinstance(part, bytes) else part[1] for part in parts)
        padded = size + (size & 1)
        body.append(encode.item(LITTLE, b"")[:4] + LITTLE.long.pack(padded))
        body += parts
        if size & 1:
            body.append(b"\0")
        position += 8 + padded
        lengths.append(padded)
    if position >= 1 << 32 and pixels.items[0][2]:
        raise Quarantined("unsupported", "a Basic Offset Table beyond 4 GB", pixels.tag)
    table = b"".join([offset.to_bytes(4, "little") for offset in offsets]) if pixels.items[0][2] else b""
    replaced: dict[int, list[Piece]] = {
        pixels.tag: [
            encode.header(LITTLE, source.syntax.explicit, pixels.tag, pixels.vr, encode.UNDEFINED),
            encode.item(LITTLE, table),
            *body,
            encode.sequence_end(LITTLE),
        ]
    }
    for tag, numbers in ((EXTENDED_OFFSETS, offsets), (EXTENDED_LENGTHS, lengths)):
        if source.facts.element(tag) is not None:
            packed = b"".join([number.to_bytes(8, "little") for number in numbers])
            replaced[tag] = [encode.element(LITTLE, source.syntax.explicit, tag, b"OV", packed)]
    return replaced
