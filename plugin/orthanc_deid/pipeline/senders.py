"""Makes the sender of a destination from its name in the ledger and what is configured for it."""

from __future__ import annotations

from collections.abc import Callable

from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.send.base import Missing, Sender
from orthanc_deid.send.orthancs import CopySender, PeerSender
from orthanc_deid.store.rows import LOCAL

MakeSender = Callable[[str], Sender]


def maker(shared: Shared) -> MakeSender:
    """Return what makes the sender of a destination."""

    def make(destination: str) -> Sender:
        if destination == LOCAL:
            return CopySender(shared.orthanc, shared.stored_here)
        kind, _, name = destination.partition(":")
        if kind == "peer":
            return PeerSender(shared.orthanc, name)
        return Missing()

    return make
