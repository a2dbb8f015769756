"""What every part asks of the servers: processes and their memory, the ledger, and what identifies and was found."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from orthanc_deid.orthanc.push import orthanc_ids

from tests.canaries import Canary, Index, leaks, of_person
from tests.objects.base import ROOT, Origin
from tests.orthancs import Orthanc

MB = 1 << 20
_ORTHANC_ID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}")


class PartFailed(Exception):
    """A part did not come to the end it should; the text says what was seen instead."""


def database(clinical: Orthanc) -> Path:
    """The service's database."""
    return clinical.folder / "orthanc-deid" / "deid.sqlite3"


def ask(clinical: Orthanc, sql: str) -> list[tuple[object, ...]]:
    """Read the service's database from outside."""
    with closing(sqlite3.connect(f"file:{database(clinical)}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(sql).fetchall()


def states(clinical: Orthanc) -> dict[str, int]:
    """How many rows of the ledger are in each state."""
    return {
        str(state): int(str(number))
        for state, number in ask(clinical, "SELECT state, count(*) FROM ledger GROUP BY state")
    }


def family(pid: int) -> list[int]:
    """The processes of a service beside itself: its fork server and the workers, all in its process group."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != pid:
            try:
                group = int((folder / "stat").read_text().rpartition(")")[2].split()[2])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if group == pid:
                found.append(int(folder.name))
    return found


def workers(pid: int) -> list[int]:
    """The worker processes of a service: children of its fork server, which may be dead."""
    return [one for one in family(pid) if _field(one, "PPid") not in (pid, 0)]


def _field(pid: int, name: str) -> int:
    """A number of /proc/PID/status (memory in bytes); 0 for a process that is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    for line in lines:
        key, _, rest = line.partition(":")
        if key == name:
            number, *unit = rest.split()
            return int(number) * (1024 if unit == ["kB"] else 1)
    return 0


def resident(pid: int) -> int:
    """Bytes of memory that a process holds now."""
    return _field(pid, "VmRSS")


def highest(pid: int) -> int:
    """The most bytes of memory that a process ever held (VmHWM)."""
    return _field(pid, "VmHWM")


def forget_highest(pid: int) -> None:
    """Let the highest memory of a process be counted from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def slope(points: Iterable[tuple[float, float]]) -> float:
    """The slope of the straight line through points (least squares)."""
    points = list(points)
    if len(points) < 2:
        return 0.0
    x = sum(p[0] for p in points) / len(points)
    y = sum(p[1] for p in points) / len(points)
    spread = sum((p[0] - x) ** 2 for p in points)
    return sum((p[0] - x) * (p[1] - y) for p in points) / spread if spread else 0.0


_RANDOM = re.compile(
    rb"[0-9a-f]{8}(?:-[0-9a-f]{8}){4}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    rb"|(?<![0-9a-f])(?=[0-9]*[a-f])(?:[0-9a-f]{32}){1,2}(?![0-9a-f])"
)
"""Orthanc's ids, the names of its files and their MD5, one or two: in a hundred thousand of each, eight digits in a row
make some patient's date by chance."""
MOST_FILES, SMALL = 4000, 1 << 20
"""Files that are looked through of one place, where there are more; those of a megabyte always are."""
MOST_SHOWN = 20
"""Finds that are printed of one place."""


class Sweep:
    """Looks for all that a hospital knows of its patients, and for the ids that its Orthanc gives to their objects."""

    def __init__(self, origins: Iterable[Origin]) -> None:
        found = {Canary("a source UID", ROOT + "."): None}
        self._ids: set[bytes] = set()
        studies: dict[tuple[str, int], Origin] = {}
        for o in origins:
            studies.setdefault((o.person.patient_id, o.study), o)
            ids = orthanc_ids(o.person.patient_id, o.study_uid, o.series_uid, o.sop_uid)
            self._ids.update(one.encode() for one in ids)
        for o in studies.values():
            # One UID stands for all: every source UID has the same root.
            found |= {one: None for one in of_person(o.person, o) if not one.value.startswith(ROOT)}
        self._index = Index(found)

    def over(self, clinical: Orthanc, peer: Orthanc, most: int | None = None) -> list[str]:
        """What was found: in the peer's storage, database and log, in the service's folder and logs, in its answers.

        What is found is printed, since the files go. `most`: only so many bytes of each file, since pixels are not
        looked through five times. Where there are more than MOST_FILES files, as many of them are looked through,
        evenly chosen by their names, and all others' names.
        """
        found: list[str] = []
        for place in (peer.folder, data_folder(clinical), clinical.log):
            files = sorted(place.rglob("*")) if place.is_dir() else [place]
            every = max(1, len(files) // MOST_FILES)
            for number, file in enumerate(files):
                if every > 1 and file.suffix == "" and number % every and file.stat().st_size < SMALL:
                    found += [f"a source's id names {file}"] if file.name.encode() in self._ids else []
                    continue
                found += self._in(str(file.relative_to(place.parent)).encode(), f"the name of {file}")
                if file.is_file():
                    with file.open("rb") as opened:
                        found += self._in(opened.read(-1 if most is None else most), str(file))
        for path in ("/deid/health", "/deid/metrics"):
            found += self._in(clinical.request("GET", path).content, path)
        for one in found[:MOST_SHOWN]:
            print(f"  found: {one}", flush=True)
        return found

    def _in(self, data: bytes, place: str) -> list[str]:
        found = [str(leak) for leak in leaks(_RANDOM.sub(b"#", data), self._index, place)]
        return found + [f"a source's id in {place}" for _ in set(_ORTHANC_ID.findall(data)) & self._ids]


def data_folder(clinical: Orthanc) -> Path:
    """The folder of the service's database, outbox and key."""
    return clinical.folder / "orthanc-deid"
