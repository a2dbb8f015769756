"""The folder of gateway mode's spool, as the service uses it: its files by name, what they say, and where they are."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orthanc_deid import gateway
from orthanc_deid.core.errors import Quarantined
from orthanc_deid.core.source import Source
from orthanc_deid.orthanc.push import orthanc_ids

_PLACES = (gateway.TAKEN, gateway.NEW, gateway.UNMATCHED, gateway.WAITING)
_MODALITY = 0x00080060


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the spool as the intake needs it; all of it may identify, none of it may be logged.

    `instance` and `series` are the ids that Orthanc would have given, `attributes` the values that rules ask for.
    """

    name: str
    path: Path
    size: int
    instance: str
    series: str
    study_uid: str
    modality: str
    md5: str
    remote_aet: str
    called_aet: str
    attributes: Mapping[int, list[str]]


class Spool:
    """A folder that the plugin fills and the service empties; gateway.py has its layout."""

    def __init__(self, folder: Path, tags: Iterable[int] = ()) -> None:
        """`tags` are the attributes that rules ask for."""
        self.folder = folder
        self._tags = frozenset(tags)

    def prepare(self) -> None:
        """Make the folders that are missing: in life the plugin did that before."""
        for part in (*gateway.HOLDING, gateway.ANNOUNCED):
            (self.folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)

    def names(self, part: str, older: float = 0.0) -> list[str]:
        """Return the files of a part, in the order of their arrival; with `older`, those that are it by so many
        seconds."""
        limit = time.time() - older
        found = []
        with os.scandir(self.folder / part) as files:
            for file in files:
                if file.name.endswith(gateway.TITLES):
                    continue
                try:
                    when = file.stat().st_mtime_ns
                except FileNotFoundError:
                    continue
                if not older or when < limit * 1e9:
                    found.append((when, file.name))
        return [name for _, name in sorted(found)]

    def there(self, name: str) -> bool:
        """Whether a file is anywhere in the spool."""
        return find(self.folder, name) is not None

    def size(self, name: str) -> int:
        """Return the size of a file, 0 if there is none."""
        path = find(self.folder, name)
        return path.stat().st_size if path else 0

    def move(self, name: str, part: str, to: str) -> None:
        """Move a file, and its titles before it."""
        for file in (name + gateway.TITLES, name):
            try:
                (self.folder / part / file).rename(self.folder / to / file)
            except FileNotFoundError:
                continue

    def drop(self, name: str) -> None:
        """Delete a file, and then its titles."""
        for file in (name, name + gateway.TITLES):
            for part in _PLACES:
                (self.folder / part / file).unlink(missing_ok=True)

    def read(self, name: str) -> Entry:
        """Read what a file says. Raises FileNotFoundError, and DeidError where it says too little to be routed."""
        path = find(self.folder, name)
        if path is None:
            raise FileNotFoundError(name)
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
            facts = Source.from_file(file).facts
            uids = (facts.study, facts.series, facts.sop_instance)
            if not all(uids):
                raise Quarantined("uid-missing", "one of the three UIDs is missing or no instance's")
            _, series, instance = orthanc_ids(facts.patient_id, *uids)
            remote, called = titles(self.folder, name)
            attributes = {tag: facts.values(tag) for tag in self._tags}
            modality = facts.get(_MODALITY) or ""
            size = os.fstat(file.fileno()).st_size
        return Entry(name, path, size, instance, series, uids[0], modality, md5, remote, called, attributes)

    def set_titles(self, name: str, remote: str, called: str) -> None:
        """Write down by which AE titles a waiting file came, and let it go on."""
        path = self.folder / gateway.WAITING / (name + gateway.TITLES)
        with path.open("w", encoding="utf-8") as file:
            json.dump({"RemoteAET": remote, "CalledAET": called}, file)
            file.flush()
            os.fsync(file.fileno())
        self.move(name, gateway.WAITING, gateway.NEW)
        gateway.sync(self.folder / gateway.NEW)

    def count(self) -> tuple[dict[str, int], int]:
        """Return the number of files by part, and the bytes of all."""
        numbers, size = {}, 0
        for part in gateway.HOLDING:
            number = 0
            with os.scandir(self.folder / part) as files:
                for file in files:
                    try:
                        size += file.stat().st_size
                    except FileNotFoundError:
                        continue
                    number += not file.name.endswith(gateway.TITLES)
            numbers[part] = number
        return numbers, size

    def told(self) -> dict[str, Any]:
        """Return what the plugin has told of its own account."""
        try:
            told = json.loads((self.folder / gateway.STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return told if isinstance(told, dict) else {}


def find(folder: Path, name: str) -> Path | None:
    """Return where a file is now; it may be moved on while it is looked for, so the first places are asked twice."""
    for part in (*_PLACES, *_PLACES[:2]):
        path = folder / part / name
        if path.exists():
            return path
    return None


def titles(folder: Path, name: str) -> tuple[str, str]:
    """Return the AE titles that a file came by: calling and called, empty where it came by REST."""
    path = find(folder, name + gateway.TITLES)
    if path is None:
        return "", ""
    told = json.loads(path.read_text(encoding="utf-8"))
    return str(told["RemoteAET"]), str(told["CalledAET"])
