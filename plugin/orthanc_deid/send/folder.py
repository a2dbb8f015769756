"""A folder as receiver: each output a file of its own, by pseudonym and UIDs, or as the source data of a BIDS data set.

A file that is there already is compared, never overwritten: the same bytes are confirmed, other ones are a conflict. A
folder that is missing, full or read-only is down, and everything for it waits.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import BinaryIO, Literal

from pydicom import dcmread

from orthanc_deid import logs
from orthanc_deid.send import bids, names
from orthanc_deid.send.base import Gone, Reply, ToSend
from orthanc_deid.send.below import Astray, Below
from orthanc_deid.send.names import Place

log = logs.get(__name__)

Layout = Literal["dicom", "bids"]


class FolderSender:
    """Writes outputs below one folder."""

    def __init__(self, root: Path, layout: Layout = "dicom") -> None:
        self._below = Below(root)
        self._layout = layout
        self._entered: set[tuple[str, str]] = set()
        """Subjects and studies that the lists of a BIDS data set have, as far as this run knows."""

    def send(self, path: Path, one: ToSend) -> tuple[Reply, bool]:
        """Write one file, or find that it is there."""
        head = _head(path) if self._layout == "bids" else None
        with path.open("rb") as file:
            try:
                return self._write(file, one, head), True
            except Astray:
                log.warning("a link or a file stands where a folder has to be", reason="astray")
                return Reply.ASTRAY, False
            except OSError as error:
                return (Reply.NO_ROOM if error.errno in (errno.ENOSPC, errno.EDQUOT) else Reply.DOWN), True

    def _write(self, file: BinaryIO, one: ToSend, head: bids.Head | None) -> Reply:
        with self._below.opened() as root:
            place = self._place(one, head)
            with self._below.folder(root, place[:-1], make=True) as folder:
                held = self._below.digest(folder, place[-1])
                if held is None:
                    self._below.write(folder, place[-1], file)
            if held not in (None, one.out_digest):
                return Reply.OTHER
        who = (one.out_patient, one.out_study)
        if head is not None and who not in self._entered:
            bids.enter(self._below, *who, head)
            self._entered.add(who)
        return Reply.STORED

    def _place(self, one: ToSend, head: bids.Head | None) -> Place:
        if head is None:
            return names.derived(one.out_patient, one.out_study, one.out_series, one.out_sop)
        folder = names.acquisition(head.number, head.modality, one.out_series)
        return names.bids(one.out_patient, one.out_study, folder, one.out_sop)

    def alive(self) -> bool:
        """Whether the folder is there and can be written to."""
        try:
            with self._below.opened() as root:
                return os.access(".", os.W_OK | os.X_OK, dir_fd=root)
        except OSError:
            return False

    def delete(self, one: ToSend) -> Gone:
        """Remove the file of an output, the folders that are empty then, and from the lists who has none left."""
        self._entered.discard((one.out_patient, one.out_study))
        try:
            with self._below.opened() as root:
                for place in self._held(root, one):
                    self._below.remove(root, place)
            if self._layout == "bids":
                bids.leave(self._below, one.out_patient, one.out_study)
        except FileNotFoundError:
            return Gone.ABSENT if self.alive() else Gone.WAITS
        except Astray:
            return Gone.REFUSED
        except OSError:
            return Gone.WAITS
        return Gone.DELETED

    def _held(self, root: int, one: ToSend) -> list[Place]:
        """Return where the file may lie: of a BIDS tree the series' folder is known by the end of its name."""
        if self._layout == "dicom":
            return [names.derived(one.out_patient, one.out_study, one.out_series, one.out_sop)]
        *above, _, file = names.bids(one.out_patient, one.out_study, "", one.out_sop)
        ending = names.acquisition("0", "OT", one.out_series).rpartition("_")[2]
        with self._below.folder(root, tuple(above), make=False) as session:
            found = os.listdir(session)  # noqa: PTH208 - of an open folder, which has no path
        return [(*above, name, file) for name in found if name.endswith(f"_{ending}")]

    def close(self) -> None:
        """Nothing is held open."""


def _head(path: Path) -> bids.Head:
    """Read what the tree and its lists say of an output, all of it pseudonymous."""
    wanted = ["Modality", "SeriesNumber", "StudyDate", "StudyTime"]
    found = dcmread(path, stop_before_pixels=True, specific_tags=wanted)

    def text(keyword: str) -> str:
        return str(found.get(keyword) or "").strip()

    return bids.Head(text("SeriesNumber"), text("Modality"), text("StudyDate"), text("StudyTime"))
