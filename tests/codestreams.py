"""Small compressed images, made here or from pydicom's bundled files, for objects in every compressed transfer syntax.

The JPEG streams are real (a decoder accepts them) and flat grey: DC coefficients or predictor differences only, with
the tables of ITU-T T.81 Annex K. JPEG 2000, JPEG-LS: from pydicom's files. HTJ2K: a real main header with no coded data
behind it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pydicom
from pydicom.encaps import generate_frames
from pydicom.uid import (
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

FILES = Path(pydicom.__file__).parent / "data" / "test_files"

DC_BITS = bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0])
DC_VALUES = bytes(range(12))


def segment(marker: int, payload: bytes) -> bytes:
    """A JPEG or JPEG 2000 marker segment."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


class _Bits:
    def __init__(self) -> None:
        self.number, self.count = 0, 0

    def put(self, code: str) -> None:
        self.number = self.number << len(code) | int(code, 2) if code else self.number
        self.count += len(code)

    def done(self) -> bytes:
        missing = -self.count % 8
        number = self.number << missing | (1 << missing) - 1
        return number.to_bytes((self.count + missing) // 8, "big").replace(b"\xff", b"\xff\x00")


def _codes(bits: bytes) -> list[str]:
    out, code = [], 0
    for length, count in enumerate(bits, 1):
        for _ in range(count):
            out.append(format(code, f"0{length}b"))
            code += 1
        code <<= 1
    return out


_DC = _codes(DC_BITS)


def _difference(value: int) -> str:
    size = abs(value).bit_length()
    tail = format(value if value > 0 else value + (1 << size) - 1, f"0{size}b") if size else ""
    return _DC[size] + tail


def jpeg_baseline(
    rows: int, columns: int, grey: int = 90, *, extra: Iterable[bytes] = (), jfif: bool = True, sof: int = 0xC0
) -> bytes:
    """A flat grey baseline (or, sof=0xC1, extended) JPEG; `extra` marker segments stand right behind APP0."""
    bits = _Bits()
    level = grey - 128
    for block in range((rows + 7) // 8 * ((columns + 7) // 8)):
        bits.put(_difference(level if block == 0 else 0) + "00")  # "00" ends the block in the AC table below
    out = b"\xff\xd8"
    if jfif:
        out += segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")
    out += b"".join(extra)
    out += segment(0xDB, b"\0" + bytes([8] * 64))
    out += segment(sof, struct.pack(">BHHB", 8, rows, columns, 1) + b"\1\x11\0")
    out += segment(0xC4, b"\0" + DC_BITS + DC_VALUES)
    out += segment(0xC4, b"\x10" + bytes([0, 1] + [0] * 14) + b"\0")
    out += segment(0xDA, b"\1\1\0\0\x3f\0")
    return out + bits.done() + b"\xff\xd9"


def jpeg_lossless(
    rows: int, columns: int, grey: int = 1000, *, extra: Iterable[bytes] = (), predictor: int = 1
) -> bytes:
    """A flat grey 12-bit lossless JPEG (SOF3)."""
    bits = _Bits()
    for pixel in range(rows * columns):
        bits.put(_difference(grey - 2048 if pixel == 0 else 0))
    out = b"\xff\xd8" + b"".join(extra)
    out += segment(0xC3, struct.pack(">BHHB", 12, rows, columns, 1) + b"\1\x11\0")
    out += segment(0xC4, b"\0" + DC_BITS + DC_VALUES)
    out += segment(0xDA, b"\1\1\0" + bytes([predictor]) + b"\0\0")
    return out + bits.done() + b"\xff\xd9"


@cache
def _frame_of(name: str) -> bytes:
    dataset = pydicom.dcmread(FILES / name)
    return bytes(next(generate_frames(dataset.PixelData, number_of_frames=1))).rstrip(b"\0")


def jpeg_2000(*, extra: Iterable[bytes] = (), comments: bool = True) -> bytes:
    """64 × 64, 16 bit signed, lossless (pydicom's MR_small); `extra` segments stand at the end of the main header.

    The file's own comment segment names its encoder; `comments=False` leaves it out.
    """
    stream = _frame_of("MR_small_jp2klossless.dcm")
    start = stream.index(b"\xff\x4f\xff\x51")
    at = start + 2
    head = stream[:at]
    while stream[at : at + 2] != b"\xff\x90":
        end = at + 2 + struct.unpack(">H", stream[at + 2 : at + 4])[0]
        if comments or stream[at + 1] != 0x64:
            head += stream[at:end]
        at = end
    return head + b"".join(extra) + stream[at:]


def jpeg_ls(*, extra: Iterable[bytes] = ()) -> bytes:
    """64 × 64, 16 bit, lossless JPEG-LS (pydicom's MR_small)."""
    stream = _frame_of("MR_small_jpeg_ls_lossless.dcm")
    return stream[:2] + b"".join(extra) + stream[2:]


def htj2k(rows: int, columns: int, *, extra: Iterable[bytes] = ()) -> bytes:
    """The headers of an HTJ2K code stream and an empty tile: enough for whoever passes it through."""
    size = struct.pack(">HLLLLLLLLH", 0x4000, columns, rows, 0, 0, columns, rows, 0, 0, 1) + b"\x0b\1\1"
    out = b"\xff\x4f" + segment(0x51, size) + segment(0x50, b"\0\2\0\0\0\0")
    out += segment(0x52, b"\0\2\0\1\0\5\4\4\x40\1") + segment(0x5C, b"\x20" + b"\x48" * 16) + b"".join(extra)
    return out + segment(0x90, struct.pack(">HLBB", 0, 14, 0, 1)) + b"\xff\x93" + b"\xff\xd9"


def rle(rows: int, columns: int) -> bytes:
    """A flat 16-bit RLE frame: two segments of replicate runs."""
    runs = b"".join(bytes([257 - min(128, columns - i), 3]) for i in range(0, columns, 128)) * rows
    runs += b"\0" * (len(runs) % 2)
    return struct.pack("<16L", 2, 64, 64 + len(runs), *[0] * 13) + runs * 2


def frame(syntax: str, *, extra: Iterable[bytes] = ()) -> tuple[bytes, int, int, int, int, int]:
    """One frame for a compressed syntax: (stream, rows, columns, bits allocated, bits stored, signed)."""
    if syntax == JPEGBaseline8Bit:
        return jpeg_baseline(64, 64, extra=extra), 64, 64, 8, 8, 0
    if syntax == JPEGExtended12Bit:
        return jpeg_baseline(64, 64, extra=extra, sof=0xC1), 64, 64, 8, 8, 0
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        return jpeg_lossless(64, 64, extra=extra, predictor=1), 64, 64, 16, 12, 0
    if syntax == RLELossless:
        return rle(64, 64), 64, 64, 16, 16, 0
    if syntax.startswith("1.2.840.10008.1.2.4.8"):
        return jpeg_ls(extra=extra), 64, 64, 16, 16, 1
    if syntax.startswith("1.2.840.10008.1.2.4.20"):
        return htj2k(64, 64, extra=extra), 64, 64, 16, 12, 0
    if syntax.startswith("1.2.840.10008.1.2.4.9"):
        return jpeg_2000(extra=extra), 64, 64, 16, 16, 1
    if syntax.startswith("1.2.840.10008.1.2.4.10"):  # MPEG: start codes with nothing a player would show
        return b"\0\0\0\1\x67\x42\0\x1e" + b"\0\0\0\1\x65" + b"\x88" * 64, 64, 64, 8, 8, 0
    raise ValueError(f"no codestream for {syntax}")


COMPRESSED = (
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    RLELossless,
)
