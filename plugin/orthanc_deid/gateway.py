"""The spool of gateway mode as both sides know it: its folders, what the plugin puts there, and what may be stored.

The plugin loads this file by its path, inside Orthanc: it needs nothing but the standard library, and nothing else of
this package. Orthanc takes any accident of its callback (an exception, an answer of another form) as leave to store the
original; so here every accident ends as a refusal, and the sender tries again.

    tmp ─ fsync, rename ─▶ new ────────────────────▶ taken ─▶ (deleted, when every project is done with it)
                       └▶ waiting ─ AE titles ─┘ └─▶ unmatched

A file has a random name and the bytes as they came. Once it is in `new` or `waiting`, and the folder is on the disk,
the sender may forget the original. Beside it may lie NAME.json with the AE titles that it came by: the callback is not
told them, so where a rule asks for them, the plugin gives Orthanc a placeholder to store, which holds nothing of the
original; Orthanc notes the titles with it, and the service reads them there and removes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TMP, NEW, WAITING, TAKEN, UNMATCHED, ANNOUNCED = "tmp", "new", "waiting", "taken", "unmatched", "announced"
HOLDING = (TMP, NEW, WAITING, TAKEN, UNMATCHED)
"""The folders whose files count towards the size of the spool."""
STATE = "state.json"
"""What the plugin tells of itself: the size that it reckons with, and how often it has refused."""
TITLES = ".json"
"""What is appended to a file's name for the AE titles that it came by."""

ANNOUNCED_SECONDS = 600.0
"""What was announced and did not come within this time is not stored any more."""
MEASURE_SECONDS = (1.0, 15.0)
"""How often the folder is measured: when there is little room, and else."""
MEASURE_SHARE = 20
"""So many times as long as a measurement took passes before the next."""

PLACEHOLDER_PATIENT = "orthanc-deid-placeholder"
PLACEHOLDER_STUDY = "2.25.119260233413811733402346279826415229441"
PLACEHOLDER_SERIES = "2.25.235406790317236428953210377610286610146"
PLACEHOLDER_BYTES = 2000
"""More than a placeholder has, and less than an image."""
_RAW_DATA = "1.2.840.10008.5.1.4.1.1.66"


def prepare(folder: Path) -> None:
    """Make the folders, for their owner alone, and remove what was half written or announced to a former run."""
    for part in (*HOLDING, ANNOUNCED):
        (folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for part in (TMP, ANNOUNCED):
        for rest in (folder / part).iterdir():
            rest.unlink(missing_ok=True)


def sync(folder: Path | str) -> None:
    """Wait until the names in a folder are on the disk."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(held)
    finally:
        os.close(held)


@contextlib.contextmanager
def announced(folder: Path, digest: str) -> Iterator[None]:
    """Let bytes of this SHA-256 be stored, once, while this lasts."""
    mark = folder / ANNOUNCED / digest
    mark.touch(mode=0o600)
    try:
        yield
    finally:
        mark.unlink(missing_ok=True)


def placeholder_uid(name: str) -> str:
    """Return the SOP Instance UID of a file's placeholder."""
    return f"2.25.{int(name, 16)}"


def placeholder(name: str) -> bytes:
    """Return the DICOM file that stands for a file of the spool until its AE titles are known."""

    def element(group: int, number: int, vr: bytes, value: bytes) -> bytes:
        value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, vr, len(value)) + value

    uid = placeholder_uid(name).encode()
    meta = struct.pack("<HH2sHI2s", 2, 1, b"OB", 0, 2, b"\0\1")
    meta += element(2, 2, b"UI", _RAW_DATA.encode())
    meta += element(2, 3, b"UI", uid)
    meta += element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1")
    meta += element(2, 0x12, b"UI", PLACEHOLDER_SERIES.encode())
    data = element(8, 0x16, b"UI", _RAW_DATA.encode())
    data += element(8, 0x18, b"UI", uid)
    data += element(8, 0x60, b"CS", b"OT")
    data += element(0x10, 0x20, b"LO", PLACEHOLDER_PATIENT.encode())
    data += element(0x20, 0x0D, b"UI", PLACEHOLDER_STUDY.encode())
    data += element(0x20, 0x0E, b"UI", PLACEHOLDER_SERIES.encode())
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(meta)) + meta + data


class Refused(Exception):
    """The spool takes nothing more now; the text is a reason code."""


class Gateway:
    """The plugin's side: decides for each instance that comes, and keeps account of the room.

    `actions` is orthanc.ReceivedInstanceAction, `origins` orthanc.InstanceOrigin; `settings` is what `check` printed.
    `nudge` tells the service that something came, and must not wait.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        actions: Any,
        origins: Any,
        nudge: Callable[[], None],
        warn: Callable[[str], None],
    ) -> None:
        """Make the folders. Raises OSError where they cannot be made or written."""
        self.folder = Path(settings["Spool"])
        self._maximum = int(settings["MaximumSize"])
        self._free = int(settings["MinimumFree"])
        self._titles = bool(settings["Titles"])
        self._keep = (actions.KEEP_AS_IS, None)
        self._discard = (actions.DISCARD, None)
        self._closed = (actions.MODIFY, b"")  # Orthanc stores nothing, and tells the sender of an error
        self._modify = actions.MODIFY
        self._dicom, self._rest = int(origins.DICOM_PROTOCOL), int(origins.REST_API)
        self._nudge, self._warn = nudge, warn
        self._lock = threading.Lock()
        self._passing: set[int] = set()
        self._used = self._since = 0
        self._refused = 0
        self._reason = ""
        self._told = ""
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._account, daemon=True)
        prepare(self.folder)
        self.measure()

    # Inside the ingest: nothing here may wait for anybody

    def received(self, data: Any, origin: Any) -> tuple[Any, bytes | None]:
        """Answer Orthanc's callback, with a refusal whatever goes wrong."""
        answer: tuple[Any, bytes | None] = self._closed
        with contextlib.suppress(BaseException):
            answer = self._take(data, origin)
        if answer is self._closed:
            with contextlib.suppress(BaseException):
                self._count()
        return answer

    def by_dicom(self, instance: Any) -> int:
        """Answer Orthanc's filter of what came by C-STORE: a DIMSE status, 0 for what it may store.

        Only a placeholder gets here, right after its original was spooled by the same thread. Anything else does
        because the callback was passed over, and is refused.
        """
        with contextlib.suppress(BaseException):
            passing = threading.get_ident() in self._passing
            self._passing.discard(threading.get_ident())
            if passing and instance.GetInstanceSize() < PLACEHOLDER_BYTES:
                return 0
            self._reason = "passed-over"
            self._count()
        return 0xA700  # out of resources: the sender tries again

    def _take(self, data: Any, origin: Any) -> tuple[Any, bytes | None]:
        self._passing.discard(threading.get_ident())
        self._reason = "error"
        try:
            if type(data) is not bytes or not data:
                raise Refused("no-bytes")
            if int(origin) == self._rest and self._announced(data):
                return self._keep
            waiting = self._titles and int(origin) == self._dicom
            name = self._spool(data, WAITING if waiting else NEW)
            self._nudge()
            if not waiting:
                return self._discard
            answer = (self._modify, placeholder(name))
            self._passing.add(threading.get_ident())
            return answer
        except Refused as error:
            self._reason = str(error)
            raise
        except BaseException as error:
            self._reason = type(error).__name__
            raise

    def _announced(self, data: bytes) -> bool:
        """Whether these very bytes were announced; the announcement is used up by that."""
        folder = f"{self.folder}/{ANNOUNCED}"
        with os.scandir(folder) as any_of_them:
            if next(any_of_them, None) is None:  # nothing was: what follows would cost a millisecond
                return False
        path = f"{folder}/{hashlib.sha256(data).hexdigest()}"
        try:
            age = time.time() - os.stat(path).st_mtime
            os.unlink(path)
        except FileNotFoundError:
            return False
        return abs(age) < ANNOUNCED_SECONDS

    def _spool(self, data: bytes, part: str) -> str:
        """Write a file, and have it on the disk before anybody hears of it; returns its name."""
        size = len(data)
        with self._lock:
            if self._used + size > self._maximum:
                raise Refused("full")
        disk = os.statvfs(self.folder)
        if disk.f_bavail * disk.f_frsize - size < self._free:
            raise Refused("disk-full")
        name = secrets.token_hex(16)
        half = f"{self.folder}/{TMP}/{name}"
        try:
            file = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                rest = memoryview(data)
                while rest:
                    if not (written := os.write(file, rest)):
                        raise Refused("disk-full")
                    rest = rest[written:]
                os.fsync(file)
            finally:
                os.close(file)
            os.rename(half, f"{self.folder}/{part}/{name}")
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(half)
            raise
        with self._lock:
            self._used += size
            self._since += size
        sync(f"{self.folder}/{part}")
        return name

    def _count(self) -> None:
        self._refused += 1
        self._wake.set()

    # Keeping account, on a thread of its own

    def start(self) -> None:
        """Begin to keep account."""
        self._thread.start()

    def stop(self) -> None:
        """End that."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(2)

    def measure(self) -> None:
        """Reckon the size of the spool anew: the service deletes what is done."""
        with self._lock:
            self._since = 0
        used = 0
        for part in HOLDING:
            with os.scandir(self.folder / part) as files:
                for file in files:
                    with contextlib.suppress(FileNotFoundError):
                        used += file.stat().st_size
        with self._lock:
            self._used = used + self._since  # what came meanwhile counts twice at most, until the next time

    def health(self) -> dict[str, Any]:
        """What the plugin knows of the spool; sizes in bytes."""
        return {
            "Used": self._used,
            "MaximumSize": self._maximum,
            "Refused": self._refused,
            "LastRefusal": self._told,
        }

    def _account(self) -> None:
        refused = -1
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.measure()
                if self._refused > max(refused, 0):
                    self._told = self._reason
                    self._warn(f"gateway mode has refused {self._refused} instances since the start: {self._told}")
                if self._refused != refused:
                    refused = self._refused
                    self._tell()
            except OSError as error:
                self._warn(f"the spool cannot be read ({error.strerror})")
            short = self._used > 0.9 * self._maximum
            pause = max(MEASURE_SECONDS[0 if short else 1], MEASURE_SHARE * (time.monotonic() - began))
            if self._wake.wait(pause):
                self._wake.clear()
                self._stopping.wait(MEASURE_SECONDS[0])

    def _tell(self) -> None:
        """Leave word for the service, which shows it as a metric."""
        half = self.folder / f"{STATE}.part"
        half.write_text(json.dumps(self.health()), encoding="utf-8")
        half.replace(self.folder / STATE)
