"""Tells XNAT's receiver where an output belongs: one attribute, put in at sending, and proven to be all that differs.

XNAT looks for `Project:… Subject:… Session:…` in Patient Comments (0010,4000) before anything else. The bytes that
verification passed stay as they are around it: their digest is computed again while they are copied. What is put in is
made of the project's name at XNAT, the pseudonym and a label derived from the output study's UID, and is searched for
what is known of the subject, like everything that leaves.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import BinaryIO

from pydicom.filereader import read_partial
from pydicom.tag import BaseTag
from pydicom.uid import UID

from orthanc_deid.core.values import Known
from orthanc_deid.send import names
from orthanc_deid.send.base import ToSend

PATIENT_COMMENTS = 0x00104000
CHUNK = 1 << 20


class CannotRoute(Exception):
    """The text is a reason code."""


class Torn(Exception):
    """The file is not the one that was verified."""


def comment(project: str, pseudonym: str, study: str) -> str:
    """Return what XNAT reads: letters, digits, hyphens and underscores only, parted by blanks."""
    subject = names.subject(pseudonym).removeprefix("sub-")
    return f"Project:{project} Subject:{subject} Session:{subject}_{names.label(study)}"


def route(source: Path, target: BinaryIO, project: str, one: ToSend, known: Known) -> None:
    """Write the file with its way at XNAT. Raises CannotRoute, Torn."""
    text = comment(project, one.out_patient, one.out_study)
    if known.needles.hit(text, "LT", PATIENT_COMMENTS):
        raise CannotRoute("value-left")
    with source.open("rb") as file:
        begin, end, syntax = _place(file)
        if syntax.is_deflated:
            raise CannotRoute("deflated")
        file.seek(0)
        verified = hashlib.sha256()
        _copy(file, target, begin, verified)
        target.write(_element(text, syntax))
        verified.update(file.read(end - begin))
        _copy(file, target, None, verified)
    if verified.hexdigest() != one.out_digest:
        raise Torn


def _place(file: BinaryIO) -> tuple[int, int, UID]:
    """Return from where to where Patient Comments stands, or where it would stand, and the transfer syntax."""
    found = []
    for beyond in (PATIENT_COMMENTS - 1, PATIENT_COMMENTS):

        def behind(tag: BaseTag, _vr: str | None, _length: int, beyond: int = beyond) -> bool:
            return int(tag) > beyond

        file.seek(0)
        head = read_partial(file, stop_when=behind)
        found.append(file.tell())
    return found[0], found[1], UID(head.file_meta.TransferSyntaxUID)


def _element(text: str, syntax: UID) -> bytes:
    value = text.encode("ascii")
    value += b" " * (len(value) % 2)
    order = "<" if syntax.is_little_endian else ">"
    tag = struct.pack(f"{order}HH", PATIENT_COMMENTS >> 16, PATIENT_COMMENTS & 0xFFFF)
    if syntax.is_implicit_VR:
        return tag + struct.pack("<I", len(value)) + value
    return tag + b"LT" + struct.pack(f"{order}H", len(value)) + value


def _copy(file: BinaryIO, target: BinaryIO, size: int | None, hasher: hashlib._Hash) -> None:
    while size is None or size:
        data = file.read(CHUNK if size is None else min(CHUNK, size))
        if not data:
            return
        hasher.update(data)
        target.write(data)
        size = None if size is None else size - len(data)
