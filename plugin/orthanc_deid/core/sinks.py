"""Where an output goes: memory or a file. What was written counts only once `deidentify` has returned."""

from __future__ import annotations

import os
from typing import Any, Protocol

from .source import Source


class Sink(Protocol):
    """Takes the output in order."""

    def write(self, data: bytes | memoryview) -> None:
        """Take new bytes."""

    def copy(self, source: Source, offset: int, length: int) -> None:
        """Take a range of the source."""


class BytesSink:
    """Collects the output in memory."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes | memoryview) -> None:
        """Take new bytes."""
        self._parts.append(bytes(data))

    def copy(self, source: Source, offset: int, length: int) -> None:
        """Take a range of the source."""
        self._parts.append(source.read(offset, length))

    def getvalue(self) -> bytes:
        """Return the whole output."""
        return b"".join(self._parts)


class FileSink:
    """Writes the output to an open, empty file (anything with a `fileno`), at constant memory."""

    def __init__(self, file: Any) -> None:
        self._fd = file.fileno()

    def write(self, data: bytes | memoryview) -> None:
        """Take new bytes."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def copy(self, source: Source, offset: int, length: int) -> None:
        """Take a range of the source: within the kernel where it is a file."""
        while length and source.fd is not None:
            try:
                done = os.copy_file_range(source.fd, self._fd, min(length, 1 << 30), offset)
            except OSError:  # another file system, or one that cannot: by hand, below
                break
            if not done:
                break
            offset, length = offset + done, length - done
        for chunk in source.chunks(offset, length) if length else ():
            self.write(chunk)
