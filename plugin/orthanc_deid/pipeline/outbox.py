"""The outbox: finished files on their way, each named after its ledger row and its digest.

A name stands for exact bytes, so a worker that outlives its service, or a step that is done again, cannot put other
bytes under a name that the ledger knows. The folder can be made again from the sources, so files are not fsynced;
after a restart the digest is checked before a file is used.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from io import FileIO
from pathlib import Path

SHELVES = 256
"""Files are spread over this many folders."""


class Outbox:
    """A folder (0700) of finished files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = ""
        """Names this folder among those of other services; given by `prepare`, the same for as long as it exists."""
        self._shelves = [f"{folder}/{number:02x}" for number in range(SHELVES)]

    def prepare(self) -> None:
        """Make the folder and its spool for large sources, and remove what half-written files a dead worker left."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        for rest in self.folder.glob("*/*.part"):
            rest.unlink(missing_ok=True)
        name = self.folder / "name"
        if not name.exists():
            part = self.folder / "name.part"
            part.write_text(secrets.token_hex(16), encoding="ascii")
            part.replace(name)
        self.name = name.read_text(encoding="ascii").strip()

    def path(self, row: int, digest: str) -> Path:
        """Return where the output of a ledger row with this SHA-256 lies."""
        return Path(self._name(row, digest))

    def _name(self, row: int, digest: str) -> str:
        return f"{self._shelves[row % SHELVES]}/{row}-{digest[:24]}.dcm"

    def begin(self, row: int) -> tuple[FileIO, str]:
        """Open a new, empty file for the output of a row: its file and its name, for `finish` or `abandon`."""
        shelf = self._shelves[row % SHELVES]
        part = f"{shelf}/{row}-{secrets.token_hex(4)}.part"
        try:
            return _create(part), part
        except FileNotFoundError:
            Path(shelf).mkdir(mode=0o700, exist_ok=True)
            return _create(part), part

    def finish(self, part: str, row: int, digest: str) -> None:
        """Give a complete file its name."""
        os.replace(part, self._name(row, digest))  # noqa: PTH105 - once per instance: no Path is made for it

    def abandon(self, part: str) -> None:
        """Remove a file that will not be finished."""
        Path(part).unlink(missing_ok=True)

    def intact(self, row: int, digest: str) -> bool:
        """Whether the file is there with exactly these bytes."""
        try:
            with self.path(row, digest).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == digest
        except FileNotFoundError:
            return False

    def drop(self, row: int, digest: str) -> None:
        """Remove a file that is not needed any more."""
        self.path(row, digest).unlink(missing_ok=True)

    def files(self) -> Iterator[tuple[int, Path]]:
        """Yield every finished file with the number of its ledger row."""
        for path in self.folder.glob("*/*.dcm"):
            number = path.name.split("-")[0]
            if number.isdigit():
                yield int(number), path


def _create(path: str) -> FileIO:
    """Make a new file that nobody else may read."""
    return FileIO(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "rb+")
