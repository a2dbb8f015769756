"""Files below a folder, reached one name at a time: no symbolic link leads out of it.

A file gets its name only when it is whole and on the disk (fsync, then rename), and the folder is told too. Files and
folders all bear the same time, since the true one would tell the day of a study whose dates were moved.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from orthanc_deid import logs
from orthanc_deid.send.names import Place

log = logs.get(__name__)

CHUNK = 1 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_PART = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
LOCK = ".orthanc-deid.lock"
WHEN = 315_619_200
"""The time of all files and folders: 2 January 1980, 0 h UTC. ZIP and FAT hold none before 1980 in local time, which
this is in every zone."""


class Astray(Exception):
    """Something stands in the way that is none of ours: a link, or a file where a folder should be."""


@contextlib.contextmanager
def _named(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(name: str, flags: int, folder: int, mode: int = 0o640) -> int:
    try:
        return os.open(name, flags, mode, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EMLINK):
            raise Astray(name) from None
        raise


class Below:
    """One root folder. It has to be there: one that is missing may be a disk that is not mounted."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._told = False

    @contextlib.contextmanager
    def opened(self) -> Iterator[int]:
        """Open the root itself; the administrator may have made it a link. Raises OSError."""
        with _named(os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
            yield root

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Open the root and keep everybody else from changing the same lists. Raises OSError."""
        with self.opened() as root, _named(_open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, root)) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._level(lock)
            yield root

    @contextlib.contextmanager
    def folder(self, root: int, names: Place, *, make: bool) -> Iterator[int]:
        """Open a folder by its names, making what is missing. Raises OSError, Astray."""
        here = os.dup(root)
        try:
            for name in names:
                made = make and self._make(here, name)
                deeper = _open(name, _FOLDER, here)
                os.close(here)
                here = deeper
                if made:
                    self._level(here)
            yield here
        finally:
            os.close(here)

    def _make(self, folder: int, name: str) -> bool:
        """Make a folder; returns whether there was none."""
        try:
            os.mkdir(name, 0o750, dir_fd=folder)
        except FileExistsError:
            return False
        self._level(folder)
        os.fsync(folder)
        return True

    def _level(self, descriptor: int) -> None:
        """Give an open file or folder the time that all have.

        Only its owner may: a folder that somebody else made keeps its own, and so may what lies on a file system that
        gives all files to one user.
        """
        try:
            os.utime(descriptor, (WHEN, WHEN))
        except OSError:
            if not self._told:
                self._told = True
                log.warning("some files or folders keep the time at which they were written", reason="time")

    def digest(self, folder: int, name: str) -> str | None:
        """Return the SHA-256 of a file, None where there is none. Raises OSError, Astray."""
        try:
            descriptor = _open(name, _FILE, folder)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def write(self, folder: int, name: str, source: BinaryIO) -> str:
        """Write a whole file under a name, in place of what stands there; return its SHA-256. Raises OSError."""
        part = f".{name}.part"  # always the same: what a crash has left is written over, and does not stay
        hasher = hashlib.sha256()
        with os.fdopen(_open(part, _PART, folder), "wb", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate()
            try:
                while data := source.read(CHUNK):
                    hasher.update(data)
                    view = memoryview(data)
                    while view:
                        view = view[file.write(view) :]
                self._level(file.fileno())
                os.fsync(file.fileno())
                os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(part, dir_fd=folder)
                raise
        self._level(folder)
        os.fsync(folder)
        return hasher.hexdigest()

    def text(self, folder: int, name: str) -> str | None:
        """Return a small text file, None where there is none. Raises OSError, Astray."""
        try:
            descriptor = _open(name, _FILE, folder)
        except FileNotFoundError:
            return None
        with os.fdopen(descriptor, "r", encoding="utf-8", newline="") as file:
            return file.read()

    def remove(self, root: int, place: Place) -> None:
        """Remove a file, and the folders that are empty then. Raises OSError, Astray."""
        with self.folder(root, place[:-1], make=False) as folder, contextlib.suppress(FileNotFoundError):
            os.unlink(place[-1], dir_fd=folder)
            self._level(folder)
            os.fsync(folder)
        for depth in range(len(place) - 1, 0, -1):
            with self.folder(root, place[: depth - 1], make=False) as parent:
                try:
                    os.rmdir(place[depth - 1], dir_fd=parent)
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        return
                    raise
                self._level(parent)
