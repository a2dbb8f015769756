"""Cleans compressed pixel streams of everything that is not needed to decode them (PS3.5 annex A.4).

Comments, foreign application segments, thumbnails and bytes behind the end go; what the decoder needs stays bit for
bit. A stream without such parts is not touched. A stream that cannot be followed is quarantined.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from itertools import pairwise
from struct import Struct

from .errors import Quarantined

Part = tuple[int, int] | bytes
"""A range (begin, end) of the stream that stays, or new bytes."""

_SHORT = Struct(">H").unpack_from
_LONG = Struct(">L").unpack_from
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_JPEGLS_MARKER = re.compile(rb"\xff[\x80-\xcf\xd8-\xfe]")

_JFIF = b"JFIF\0"
_ADOBE = b"Adobe"
_COLOUR_TRANSFORM = b"mrfx"
_SPIFF = b"SPIFF\0"


def _bad(what: str) -> Quarantined:
    return Quarantined("unparsable", what, 0x7FE00010)


def clean(stream: str, data: bytes, native_length: int) -> list[Part] | None:
    """Return the parts of one frame that stay, or None when all of it does.

    `stream` is the family of the transfer syntax, `native_length` the bytes of the frame decoded. Raises Quarantined
    for what cannot be followed to its end.
    """
    if stream in ("jpeg", "jpegls"):
        parts = _jpeg(data, stream == "jpegls")
    elif stream in ("j2k", "j2kpart2"):
        parts = _jpeg2000(data, _J2K_PART_2 if stream == "j2kpart2" else _J2K_KEPT)
    elif stream == "rle":
        parts = _rle(data, native_length)
    elif stream == "deflate":
        parts = _deflated(data)
    elif stream == "raw":
        if len(data) < native_length:
            raise Quarantined("truncated", "a frame is shorter than its pixels", 0x7FE00010)
        parts = [(0, native_length)]
    else:
        raise Quarantined("unsupported", f"streams of the family {stream} cannot be checked", 0x7FE00010)
    merged: list[Part] = []
    for part in parts:
        if isinstance(part, tuple) and merged and isinstance(merged[-1], tuple) and merged[-1][1] == part[0]:
            merged[-1] = (merged[-1][0], part[1])
        else:
            merged.append(part)
    if len(merged) == 1 and isinstance(merged[0], tuple) and merged[0][0] == 0 and data[merged[0][1] :] in (b"", b"\0"):
        return None
    return merged


def _jpeg(data: bytes, is_ls: bool) -> list[Part]:
    """JPEG (ITU-T T.81) and JPEG-LS (T.87): APP0, APP8 and APP14 stay as far as decoding depends on them."""
    if data[:2] != b"\xff\xd8":
        raise _bad("a JPEG stream does not begin with SOI")
    parts: list[Part] = [(0, 2)]
    marker_in_scan = _JPEGLS_MARKER if is_ls else _JPEG_MARKER
    pos, size, scans = 2, len(data), 0
    while pos + 2 <= size:
        if data[pos] != 0xFF:
            raise _bad("a JPEG marker is due")
        code = data[pos + 1]
        if code == 0xFF:  # a fill byte
            pos += 1
            continue
        if code == 0xD9:
            if not scans:
                raise _bad("a JPEG stream without a scan")
            return [*parts, (pos, pos + 2)]
        if code == 0x01 or 0xD0 <= code <= 0xD8:
            raise _bad("a JPEG marker out of place")
        if pos + 4 > size:
            break
        end = pos + 2 + _SHORT(data, pos + 2)[0]
        if end > size or end < pos + 4:
            break
        if code in _EXACT and end - pos - 2 != _EXACT[code](data, pos):
            raise _bad("a JPEG segment is longer than what it holds")
        if code == 0xDA:
            scans += 1
            found = marker_in_scan.search(data, end)
            if found is None:
                break
            end = found.start()
            parts.append((pos, end))
        elif 0xC0 <= code <= 0xCF or 0xDB <= code <= 0xDF or (is_ls and code in (0xF7, 0xF8)):
            parts.append((pos, end))
        elif 0xE0 <= code <= 0xEF:
            parts += _application_segment(code, data, pos, end)
        elif code != 0xFE:
            raise _bad("an unknown JPEG marker")
        pos = end
    raise Quarantined("truncated", "a JPEG stream has no end", 0x7FE00010)


def _frame_length(data: bytes, pos: int) -> int:
    return 8 + 3 * data[pos + 9] if pos + 9 < len(data) else -1


# Lengths that follow from what a segment says of itself; more would be room for text.
_EXACT: dict[int, Callable[[bytes, int], int]] = {
    0xDA: lambda data, pos: 6 + 2 * data[pos + 4],
    0xDD: lambda _data, _pos: 4,
    0xDC: lambda _data, _pos: 4,
    0xF7: _frame_length,
} | {code: _frame_length for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC)}


def _application_segment(code: int, data: bytes, pos: int, end: int) -> list[Part]:
    body = data[pos + 4 : end]
    if code == 0xE0 and body.startswith(_JFIF) and len(body) >= 14:
        # Densities matter to no pixel, but decoders take JFIF as a sign for YCbCr. The thumbnail goes.
        if len(body) == 14 and body[12:14] == b"\0\0":
            return [(pos, end)]
        return [b"\xff\xe0\0\x10" + body[:12] + b"\0\0"]
    if code == 0xE8 and body.startswith(_COLOUR_TRANSFORM) and len(body) >= 5:
        return [(pos, end)] if len(body) == 5 else [b"\xff\xe8\0\x07" + body[:5]]
    if code == 0xE8 and body.startswith(_SPIFF) and len(body) >= 30:
        return [(pos, end)] if len(body) == 30 else [b"\xff\xe8\0\x20" + body[:30]]
    if code == 0xE8 and body[:4] == b"\0\0\0\1":  # the end of SPIFF's directory
        return [(pos, end)] if len(body) in (4, 6) and not body[4:].strip(b"\xff\xd8") else [b"\xff\xe8\0\x06\0\0\0\1"]
    if code == 0xEE and body.startswith(_ADOBE) and len(body) >= 12:
        return [(pos, end)] if len(body) == 12 else [b"\xff\xee\0\x0e" + body[:12]]
    return []


_J2K_KEPT = frozenset({0x50, 0x51, 0x52, 0x53, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5C, 0x5D, 0x5E, 0x5F, 0x60, 0x61, 0x63})
_J2K_PART_2 = _J2K_KEPT | {0x65, 0x66, 0x67, 0x68, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79}
_J2K_TILE_LENGTHS = frozenset({0x55, 0x57, 0x58})


def _jpeg2000(data: bytes, kept: frozenset[int]) -> list[Part]:
    """JPEG 2000 and HTJ2K codestreams (ISO/IEC 15444-1 annex A): COM segments go, tile-part lengths follow."""
    if data[:4] != b"\xff\x4f\xff\x51":
        raise _bad("a JPEG 2000 stream does not begin with SOC and SIZ (a JP2 file is not allowed)")
    size = len(data)
    pos, parts, lengths = _j2k_segments(data, 2, [(0, 2)], b"\x90\xd9", kept)
    while data[pos : pos + 2] == b"\xff\x90":
        if pos + 12 > size:
            break
        length = _LONG(data, pos + 6)[0]
        header_end, header, more = _j2k_segments(data, pos + 12, [], b"\x93", kept)
        removed = header_end - (pos + 12) - sum(end - begin for begin, end in header)
        if length:
            end = pos + length
        else:  # the last tile-part reaches to the end
            end = data.find(b"\xff\xd9", header_end)
        if end < header_end + 2 or end > size:
            break
        if removed and (lengths | more) & _J2K_TILE_LENGTHS:
            raise Quarantined("unsupported", "a comment in a tile-part with a table of lengths", 0x7FE00010)
        if removed and length:
            parts.append((pos, pos + 6))
            parts.append((length - removed).to_bytes(4, "big"))
            parts.append((pos + 10, pos + 12))
        else:
            parts.append((pos, pos + 12))
        parts += header
        parts.append((header_end, end))
        pos = end
    if data[pos : pos + 2] != b"\xff\xd9":
        raise Quarantined("truncated", "a JPEG 2000 stream has no end", 0x7FE00010)
    return [*parts, (pos, pos + 2)]


def _j2k_segments(
    data: bytes, pos: int, parts: list[Part], until: bytes, kept: frozenset[int]
) -> tuple[int, list[Part], set[int]]:
    """Follow marker segments up to one of `until`; return its place, the parts that stay, the codes seen."""
    seen: set[int] = set()
    while pos + 4 <= len(data):
        if data[pos] != 0xFF:
            raise _bad("a JPEG 2000 marker is due")
        code = data[pos + 1]
        if code in until:
            return pos, parts, seen
        end = pos + 2 + _SHORT(data, pos + 2)[0]
        if end > len(data) or end < pos + 4:
            break
        if code in kept:
            parts.append((pos, end))
            seen.add(code)
        elif code != 0x64:
            raise _bad("an unknown JPEG 2000 marker")
        pos = end
    raise Quarantined("truncated", "a JPEG 2000 header has no end", 0x7FE00010)


def _rle(data: bytes, native_length: int) -> list[Part]:
    """RLE Lossless (PS3.5 annex G): each segment is followed to the bytes it stands for; what lies behind goes."""
    if len(data) < 64:
        raise Quarantined("truncated", "an RLE frame is shorter than its header", 0x7FE00010)
    count, *offsets = Struct("<16L").unpack_from(data)
    if not 1 <= count <= 15 or offsets[0] != 64 or native_length % count:
        raise _bad("an RLE header that does not fit the image")
    want = native_length // count
    bounds = [*offsets[:count], len(data)]
    if any(a >= b for a, b in pairwise(bounds)) or any(offsets[count:]):
        raise _bad("RLE segments out of order")
    parts: list[Part] = [(0, 64)]
    clean_ = True
    segments: list[tuple[int, int]] = []
    for begin, limit in pairwise(bounds):
        end = _rle_end(data, begin, limit, want)
        segments.append((begin, end))
        if data[end:limit] not in (b"", b"\0"):
            clean_ = False
    if clean_:
        return [(0, len(data))]
    header = [count]
    position = 64
    for begin, end in segments:
        header.append(position)
        parts.append((begin, end))
        position += end - begin
        if position & 1:
            parts.append(b"\0")
            position += 1
    parts[0] = Struct("<16L").pack(*header, *[0] * (16 - len(header)))
    return parts


def _rle_end(data: bytes, pos: int, limit: int, want: int) -> int:
    made = 0
    while made < want:
        if pos >= limit:
            raise Quarantined("truncated", "an RLE segment ends early", 0x7FE00010)
        control = data[pos]
        if control < 128:
            made += control + 1
            pos += control + 2
        elif control > 128:
            made += 257 - control
            pos += 2
        else:
            pos += 1
    if made > want or pos > limit:
        raise _bad("an RLE segment runs over its end")
    return pos


def _deflated(data: bytes) -> list[Part]:
    """Deflated Image Frame Compression (PS3.5 A.4.13): bytes behind the end of the deflated data go."""
    inflater = zlib.decompressobj(-15)
    rest = data
    try:
        while not inflater.eof:
            inflater.decompress(rest, 1 << 20)
            rest = inflater.unconsumed_tail
            if not rest and not inflater.eof:
                raise Quarantined("truncated", "a deflated frame ends early", 0x7FE00010)
    except zlib.error:
        raise _bad("a deflated frame cannot be inflated") from None
    return [(0, len(data) - len(inflater.unused_data))]


def precision(stream: str, data: bytes) -> int | None:
    """Return the bits a sample has in a JPEG, JPEG-LS or JPEG 2000 stream; None for the others.

    More bits than Bits Stored (0028,0101) can hold an overlay above the image.
    """
    if stream in ("jpeg", "jpegls"):
        found = re.search(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xf7].{2}(.)", data, re.DOTALL)
        return found[1][0] if found else None
    if stream in ("j2k", "j2kpart2") and len(data) > 43:
        return (data[42] & 0x7F) + 1
    return None
