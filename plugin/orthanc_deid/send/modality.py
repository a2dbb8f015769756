"""A DICOM modality as receiver: an own C-STORE SCU, which keeps its associations open and says what it was told.

What the receiver does not accept as it is, is sent in a plain transfer syntax where that changes no value. Bytes that
differ from the verified ones (another syntax, XNAT's attribute) are made for the sending alone, and their digest is
written down before they go.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pynetdicom.dsutils import split_dataset

from orthanc_deid.core.values import Known
from orthanc_deid.send import dicom, xnat
from orthanc_deid.send.base import Reply, ToSend
from orthanc_deid.send.dicom import Lines, Link, NotAnswered, Unreachable
from orthanc_deid.send.transcode import CannotTranscode, transcode


class Variant(NamedTuple):
    """Bytes that are sent in place of the verified ones: their SHA-256, and what was done."""

    digest: str
    made: str


@dataclass(frozen=True)
class Around:
    """What the sender needs of the service."""

    scratch: Path
    """A private folder for variants."""
    note: Callable[[ToSend, Variant], None]
    """Writes a variant's digest down, durably; called before its bytes go."""
    known: Callable[[ToSend], Known]
    """What is known of the subject of an output."""
    commitment: Callable[[str], bool] = lambda project: False
    """Whether a project asks the receiver to commit to what it stored."""
    xnat: Callable[[str], str | None] = lambda project: None
    """The project's name at XNAT, if the receiver is one."""


class ModalitySender:
    """Sends to one modality."""

    def __init__(self, link: Link, around: Around) -> None:
        self._lines = Lines(link)
        self._around = around

    def send(self, path: Path, one: ToSend) -> tuple[Reply, bool]:
        """Send one file."""
        project = self._around.xnat(one.project)
        if project is None:
            return self._send(path, one, "")
        try:
            with self._scratch() as (file, routed):
                try:
                    xnat.route(path, file, project, one, self._around.known(one))
                except xnat.CannotRoute as problem:
                    if str(problem) != "deflated":
                        return Reply.VALUE_LEFT, False
                    return Reply.UNDECODABLE, False
                except xnat.Torn:
                    raise FileNotFoundError(path) from None
                file.flush()
                return self._send(routed, one, "xnat")
        except FileNotFoundError:
            raise
        except OSError:
            return Reply.LOCAL_DOWN, False

    def _send(self, path: Path, one: ToSend, made: str) -> tuple[Reply, bool]:
        meta, _ = split_dataset(path)
        sop_class, syntax = str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
        left = False
        try:
            with self._lines.line(sop_class, syntax) as line:
                if (sop_class, syntax) in line.accepted:
                    if made:
                        self._around.note(one, Variant(_digest(path), made))
                    left = True
                    return self._said(dicom.store(line, path), one), True
                plain = next((str(uid) for uid in dicom.PLAIN if (sop_class, str(uid)) in line.accepted), None)
                if plain is None:
                    return Reply.NOT_TAKEN, False
                with self._scratch() as (file, other):
                    try:
                        transcode(path, file, plain)
                    except CannotTranscode:
                        return Reply.UNDECODABLE, False
                    file.flush()
                    self._around.note(one, Variant(_digest(other), f"{made}+{plain}" if made else plain))
                    left = True
                    return self._said(dicom.store(line, other), one), True
        except Unreachable:
            return Reply.DOWN, False
        except NotAnswered:
            # It may be this very instance that it dies of: a receiver that lives and ended refuses it.
            return (Reply.REFUSED if self.alive() else Reply.DOWN), left

    def _said(self, status: int, one: ToSend) -> Reply:
        reply = judge(status)
        if reply in (Reply.STORED, Reply.COERCED) and self._around.commitment(one.project):
            return Reply.AWAITED
        return reply

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[tuple[BinaryIO, Path]]:
        """Lend an empty private file; it is gone afterwards."""
        self._around.scratch.mkdir(mode=0o700, exist_ok=True)
        descriptor, name = tempfile.mkstemp(suffix=".part", dir=self._around.scratch)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file, Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def alive(self) -> bool:
        """Ask with C-ECHO."""
        return self._lines.alive()

    def close(self) -> None:
        """Release the associations."""
        self._lines.close()


def judge(status: int) -> Reply:
    """Return what a status of C-STORE means (PS3.4 B.2.3, PS3.7 annex C)."""
    if status == 0x0000:
        return Reply.STORED
    if status in (0x0001, 0x0107, 0x0116) or 0xB000 <= status <= 0xBFFF:
        return Reply.COERCED
    if status == 0x0111:
        return Reply.ALREADY
    if 0xA700 <= status <= 0xA7FF or status == 0x0213:
        return Reply.NO_ROOM
    return Reply.REFUSED


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
