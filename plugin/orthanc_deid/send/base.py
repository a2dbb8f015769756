"""What every receiver has in common: it is sent one finished file at a time and gives one of a few replies."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from orthanc_deid.orthanc.peers import Gone
from orthanc_deid.orthanc.push import Reply
from orthanc_deid.store.rows import ToSend

__all__ = ["CanDelete", "Gone", "Missing", "Reply", "Sender", "ToSend"]


class Sender(Protocol):
    """Sends to one destination. Several threads call `send` at a time; nothing may leave it as an exception but
    FileNotFoundError for the file itself."""

    def send(self, path: Path, one: ToSend) -> tuple[Reply, bool]:
        """Send the file of one delivery; return the reply, and whether any byte may have reached the receiver."""
        ...

    def alive(self) -> bool:
        """Ask the receiver whether it is there, without sending anything of an output."""
        ...

    def close(self) -> None:
        """Give back what is held open; nothing is sent after that."""
        ...


@runtime_checkable
class CanDelete(Protocol):
    """A sender whose receiver lets us take an output back."""

    def delete(self, one: ToSend) -> Gone:
        """Delete what was sent, and say what became of it. Raises OSError where that cannot be done now."""
        ...


class Missing:
    """Stands for a destination that the configuration does not have any more: what is for it waits."""

    def send(self, path: Path, one: ToSend) -> tuple[Reply, bool]:
        """Nothing leaves."""
        return Reply.DOWN, False

    def alive(self) -> bool:
        """It cannot be asked."""
        return False

    def close(self) -> None:
        """Nothing is held."""
