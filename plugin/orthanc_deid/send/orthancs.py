"""Orthancs as receivers: a peer, through Orthanc's own settings, and this Orthanc itself for the research copies."""

from __future__ import annotations

import threading
from pathlib import Path

from orthanc_deid.orthanc import push
from orthanc_deid.orthanc.client import Failed, NotFound, OrthancClient, OrthancError, Unavailable
from orthanc_deid.orthanc.peers import Peers
from orthanc_deid.send.base import Gone, Reply, ToSend

MOST_REMEMBERED = 10_000
"""Copies, and series, that are remembered: of a copy that is forgotten the intake looks at the bytes, and a series is
marked once more."""


class PeerSender:
    """Sends to a peer of OrthancPeers."""

    def __init__(self, peers: Peers, name: str) -> None:
        self._peers = peers
        self._name = name

    def send(self, path: Path, one: ToSend) -> tuple[Reply, bool]:
        """Send one file."""
        return self._peers.to_peer(self._name, path)

    def alive(self) -> bool:
        """Whether the peer answers, with the credentials that are configured for it."""
        return self._peers.probe(self._name) is None

    def delete(self, one: ToSend) -> Gone:
        """Delete one instance there."""
        return self._peers.delete(self._name, "instances", one.out_orthanc_id)

    def close(self) -> None:
        """The connections are those of all peers."""


class CopySender:
    """Stores research copies in this Orthanc, and marks their studies and series with the project's name."""

    def __init__(
        self, orthanc: OrthancClient, stored_here: dict[str, None], announced: push.Announce = push.unannounced
    ) -> None:
        """`stored_here` is told of each copy before it is stored, so that the intake knows it for our own; `announced`
        is that of push.store_copy."""
        self._announced = announced
        self._orthanc = orthanc
        self._stored_here = stored_here
        self._lock = threading.Lock()
        self._marked: set[str] = set()

    def send(self, path: Path, one: ToSend) -> tuple[Reply, bool]:
        """Store one copy; bytes that stand under its id already are compared, and replaced where they differ."""
        # Who reads the change log takes away what it sees there; of several services only one does.
        if len(self._stored_here) >= MOST_REMEMBERED:
            self._stored_here.clear()
        self._stored_here[one.out_orthanc_id] = None
        reply = push.store_copy(self._orthanc, path, one.out_orthanc_id, one.out_digest, self._announced)
        if reply is Reply.STORED:
            self._mark(one)
        return reply, True

    def _mark(self, one: ToSend) -> None:
        """Mark the study and the series of a copy, once per run of the service."""
        with self._lock:
            if one.out_series in self._marked:
                return
            if len(self._marked) >= MOST_REMEMBERED:
                self._marked.clear()
            self._marked.add(one.out_series)
        study, series, _ = push.orthanc_ids(one.out_patient, one.out_study, one.out_series, one.out_sop)
        try:
            for level, orthanc_id in (("studies", study), ("series", series)):
                push.mark_copy(self._orthanc, level, orthanc_id, one.project)
        except OrthancError:  # the next copy of the series tries again
            with self._lock:
                self._marked.discard(one.out_series)

    def alive(self) -> bool:
        """Whether Orthanc answers."""
        try:
            self._orthanc.system()
        except (Failed, OrthancError):
            return False
        return True

    def delete(self, one: ToSend) -> Gone:
        """Delete one copy."""
        try:
            self._orthanc.change("DELETE", f"/instances/{one.out_orthanc_id}")
        except NotFound:
            return Gone.ABSENT
        except Unavailable:
            return Gone.WAITS
        except OrthancError:
            return Gone.REFUSED
        return Gone.DELETED

    def close(self) -> None:
        """The connections are the client's."""
