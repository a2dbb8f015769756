"""Writes an output in a plain transfer syntax for a receiver that does not take its own: the same values, pixel for
pixel, under the same UID.

Only what was stored without loss is decoded: two decoders of a lossy stream need not agree. What is native already is
written anew around its pixels, which are copied; so its size does not matter.
"""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset
from pydicom.filebase import DicomFileLike
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

LOSSLESS = frozenset(
    map(
        str,
        [
            *(RLELossless, JPEGLossless, JPEGLosslessSV1, JPEGLSLossless),
            *(JPEG2000Lossless, HTJ2KLossless, HTJ2KLosslessRPCL),
        ],
    )
)
"""Encapsulated transfer syntaxes that are decoded."""
NATIVE = (str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian))
"""Transfer syntaxes that outputs are written in here."""
MOST = 1 << 28
"""Bytes of pixels, decoded, that are held in memory."""
CHUNK = 1 << 20
_PIXELS = (b"\xe0\x7f\x10\x00", b"\xe0\x7f\x08\x00", b"\xe0\x7f\x09\x00")
"""The tags of Pixel Data and of its two kinds of numbers, as little endian has them."""
_UNDEFINED = 0xFFFFFFFF


class CannotTranscode(Exception):
    """There is no way to write it otherwise without a loss; the text is a reason code."""


def transcode(source: Path, target: BinaryIO, syntax: str) -> None:
    """Write the file in another transfer syntax, one of NATIVE. Raises CannotTranscode."""
    assert syntax in NATIVE
    try:
        with source.open("rb") as file:
            head = dcmread(file, stop_before_pixels=True)
            own = str(head.file_meta.TransferSyntaxUID)
            if own in NATIVE:
                _around_the_pixels(head, file, target, syntax)
                return
        if own not in LOSSLESS and own != DeflatedExplicitVRLittleEndian:
            raise CannotTranscode("lossy" if head.file_meta.TransferSyntaxUID.is_compressed else "transfer-syntax")
        if own in LOSSLESS and _decoded_size(head) > MOST:
            raise CannotTranscode("too-large")
        _decoded(source, target, syntax)
    except CannotTranscode:
        raise
    except Exception:
        # Decoders meet anything; their texts may hold values. What they cannot do is refused, and its file is kept.
        raise CannotTranscode("undecodable") from None


def _decoded_size(head: Dataset) -> int:
    pixels = (
        int(head.Rows) * int(head.Columns) * int(head.get("SamplesPerPixel", 1)) * int(head.get("NumberOfFrames") or 1)
    )
    return pixels * (int(head.BitsAllocated) + 7) // 8


def _decoded(source: Path, target: BinaryIO, syntax: str) -> None:
    dataset = dcmread(source)
    if str(dataset.file_meta.TransferSyntaxUID) in LOSSLESS:
        # The colours stay in the space they were stored in, and the instance stays the same instance.
        dataset.decompress(as_rgb=False, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dcmwrite(target, dataset, implicit_vr=syntax == NATIVE[0], little_endian=True, enforce_file_format=True)


def _around_the_pixels(head: FileDataset, file: BinaryIO, target: BinaryIO, syntax: str) -> None:
    """Write everything before the pixels anew, then the pixels' own bytes, then what is behind them."""
    explicit_before = str(head.file_meta.TransferSyntaxUID) == NATIVE[1]
    start = file.tell()
    tag = file.read(4)
    head.file_meta.TransferSyntaxUID = UID(syntax)
    dcmwrite(target, head, implicit_vr=syntax == NATIVE[0], little_endian=True, enforce_file_format=True)
    if not tag:
        return
    if tag not in _PIXELS:
        raise CannotTranscode("undecodable")
    if explicit_before:
        vr = file.read(2)
        (length,) = struct.unpack("<2xI", file.read(6))
    else:
        vr = {b"\x08": b"OF", b"\x09": b"OD"}.get(tag[2:3], b"OW")
        (length,) = struct.unpack("<I", file.read(4))
    if length == _UNDEFINED or start < 132:
        raise CannotTranscode("undecodable")
    target.write(tag + (vr + b"\0\0" if syntax == NATIVE[1] else b"") + struct.pack("<I", length))
    left = length
    while left:
        data = file.read(min(CHUNK, left))
        if not data:
            raise CannotTranscode("undecodable")
        target.write(data)
        left -= len(data)
    _behind(file, target, explicit_before, syntax)


def _behind(file: BinaryIO, target: BinaryIO, explicit_before: bool, syntax: str) -> None:
    """Write what comes after the pixels: signatures and padding, most often nothing."""
    rest = file.read(CHUNK + 1)
    if not rest:
        return
    if len(rest) > CHUNK:
        raise CannotTranscode("too-large")
    more = read_dataset(BytesIO(rest), is_implicit_VR=not explicit_before, is_little_endian=True)
    wrapped = DicomFileLike(target)
    wrapped.is_little_endian, wrapped.is_implicit_VR = True, syntax == NATIVE[0]
    write_dataset(wrapped, more)
