"""Associations with a DICOM modality: as Orthanc's DicomModalities describes it, several instances over each.

What is sent goes as it lies in the file, in pieces, with a bound on how much waits in memory; a receiver that stops
taking bytes is noticed. An association is proposed with the SOP classes and transfer syntaxes that were sent before
too, so that one does for a study of several kinds.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from orthanc_deid.orthanc.settings import Modality

_config.STORE_SEND_CHUNKED_DATASET = True  # files go as they are, and never whole through the memory
# A line or two for each attempt to reach somebody who is down; what matters of it is said by whoever sends.
logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 120.0
"""How long a receiver may take to answer an instance, unless its Timeout says otherwise."""
STALL_SECONDS = 60.0
"""How long it may take no bytes."""
IDLE_SECONDS = 10.0
"""An association that nothing was sent over for so long is released."""
ASSOCIATIONS = 4
"""Open to one receiver at a time; fewer where it does not accept as many."""
WAITING = 64
"""Pieces of a file that wait for the network."""
MOST_CONTEXTS = 126
PLAIN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""Transfer syntaxes that are always proposed, since everything that can be decoded can be written in them."""


class Unreachable(Exception):
    """There is no association, and nothing was sent."""


class NotAnswered(Exception):
    """The association ended, or the receiver was silent, while something was being sent."""


@dataclass(frozen=True)
class Link:
    """How a modality is reached, and what we call ourselves there."""

    aet: str
    host: str
    port: int
    local_aet: str
    timeout: float = ANSWER_SECONDS
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, modality: Modality, orthanc: Mapping[str, Any]) -> Link:
        """Make it of an entry of DicomModalities and Orthanc's own settings, as Orthanc would. Raises OSError."""
        own = modality.local_aet or str(orthanc.get("DicomAet") or "ORTHANC")
        timeout = float(modality.timeout or ANSWER_SECONDS)
        return cls(modality.aet, modality.host, modality.port, own, timeout, _tls(modality, orthanc))


def _tls(modality: Modality, orthanc: Mapping[str, Any]) -> ssl.SSLContext | None:
    """Return who we are and whom we believe; as with Orthanc, certificates stand for themselves, not for hosts."""
    if not modality.use_dicom_tls:
        return None
    trusted = orthanc.get("DicomTlsTrustedCertificates")
    context = ssl.create_default_context(cafile=str(trusted) if trusted else None)
    context.check_hostname = False
    if orthanc.get("DicomTlsCertificate"):
        key = orthanc.get("DicomTlsPrivateKey")
        context.load_cert_chain(str(orthanc["DicomTlsCertificate"]), str(key) if key else None)
    return context


@dataclass
class Line:
    """One association, and what it was proposed and accepted for."""

    association: Association
    proposed: frozenset[tuple[str, str]]
    accepted: frozenset[tuple[str, str]]
    used: float = field(default_factory=time.monotonic)


class _Bounded(queue.Queue[Any]):
    """The pieces on their way to the network: whoever adds one waits for room, and not for ever."""

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add a piece. Raises NotAnswered when the network takes none for too long."""
        try:
            super().put(item, timeout=STALL_SECONDS)
        except queue.Full:
            raise NotAnswered from None


class Lines:
    """The associations with one modality."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._changed = threading.Condition()
        self._idle: list[Line] = []
        self._busy = 0
        self._most = ASSOCIATIONS
        self._known: dict[tuple[str, str], None] = {}
        self._sweeping = False
        self._closed = False

    # Taking one

    @contextlib.contextmanager
    def line(self, sop_class: str, syntax: str) -> Iterator[Line]:
        """Lend an association that was proposed for this SOP class in this transfer syntax.

        It is kept for others, unless it has ended meanwhile. Raises Unreachable.
        """
        line = self._take(sop_class, syntax)
        try:
            yield line
        except NotAnswered:
            _end(line.association)
            raise
        finally:
            line.used = time.monotonic()
            with self._changed:
                self._busy -= 1
                keep = line.association.is_established and not self._closed
                if keep:
                    self._idle.append(line)
                    self._watch()
                self._changed.notify()
            if not keep:
                _end(line.association)

    def _take(self, sop_class: str, syntax: str) -> Line:
        while True:
            with self._changed:
                if self._closed:
                    raise Unreachable
                self._remember(sop_class, syntax)
                for line in reversed(self._idle):
                    if line.association.is_established and (sop_class, syntax) in line.proposed:
                        self._idle.remove(line)
                        self._busy += 1
                        return line
                if self._busy >= self._most:
                    self._changed.wait(1.0)
                    continue
                # An idle one that was not proposed for this makes room for one that is.
                spare = self._idle.pop(0) if self._busy + len(self._idle) >= self._most else None
                self._busy += 1
            try:
                if spare is not None:
                    _release(spare.association)
                opened = self._open()
            except BaseException:
                with self._changed:
                    self._busy -= 1
                    self._changed.notify()
                raise
            if opened is not None:
                return opened
            with self._changed:  # not as many at a time: wait for one of those that there are
                self._busy -= 1
                if self._busy == 0:
                    raise Unreachable
                self._most = max(1, self._busy)

    def _remember(self, sop_class: str, syntax: str) -> None:
        self._known.pop((sop_class, syntax), None)
        self._known[sop_class, syntax] = None  # the newest is last
        while len(_contexts(self._known)) > MOST_CONTEXTS:
            del self._known[next(iter(self._known))]

    def _open(self) -> Line | None:
        """Open an association for all that is known; None where the receiver says that it has enough of them."""
        with self._changed:
            pairs = _contexts(self._known)
        # Verification is accepted everywhere: so an association comes about, whatever else is not accepted.
        contexts = [build_context(Verification), *(build_context(*pair) for pair in pairs)]
        association = associate(self.link, contexts)
        if not association.is_established:
            primitive = association.acceptor.primitive
            transient = primitive is not None and primitive.result == 0x02
            if association.is_rejected and transient:
                return None
            raise Unreachable
        association.dul.to_provider_queue = _Bounded(WAITING)
        transport = association.dul.socket
        if transport is not None and transport.socket is not None:
            # Or a short piece waits for the acknowledgement of the one before.
            transport.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted = frozenset((str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in association.accepted_contexts)
        return Line(association, frozenset(pairs), accepted)

    # Keeping them

    def _watch(self) -> None:
        if not self._sweeping:
            self._sweeping = True
            timer = threading.Timer(IDLE_SECONDS, self._sweep)
            timer.daemon = True
            timer.start()

    def _sweep(self) -> None:
        with self._changed:
            now = time.monotonic()
            old = [line for line in self._idle if now - line.used >= IDLE_SECONDS]
            self._idle = [line for line in self._idle if line not in old]
            self._sweeping = False
            if self._idle:
                self._watch()
        for line in old:
            _release(line.association)

    def close(self) -> None:
        """Release what is idle; what is in use ends when its user is done."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            self._changed.notify_all()
        for line in idle:
            _release(line.association)

    def alive(self) -> bool:
        """Ask with C-ECHO."""
        return echo(self.link)


def _contexts(known: Mapping[tuple[str, str], None]) -> list[tuple[str, str]]:
    """Return pairs of SOP class and transfer syntax to propose, each in a context of its own: so what is accepted is
    known for each."""
    pairs = dict.fromkeys(known)
    for sop_class, _ in known:
        pairs |= dict.fromkeys((sop_class, str(plain)) for plain in PLAIN)
    return list(pairs)


def associate(link: Link, contexts: list[PresentationContext], **more: Any) -> Association:
    """Ask for an association; the caller looks whether it came about."""
    entity = AE(ae_title=link.local_aet)
    entity.connection_timeout = CONNECT_SECONDS
    entity.acse_timeout = CONNECT_SECONDS
    entity.dimse_timeout = link.timeout
    entity.network_timeout = None
    tls = (link.tls, link.host) if link.tls else None
    return entity.associate(link.host, link.port, contexts=contexts, ae_title=link.aet, tls_args=tls, **more)


def echo(link: Link) -> bool:
    """Whether a modality answers C-ECHO."""
    try:
        association = associate(link, [build_context(Verification)])
        if not association.is_established:
            return False
        try:
            return bool(association.send_c_echo().get("Status") == 0x0000)
        finally:
            _release(association)
    except (OSError, RuntimeError, ValueError):
        return False


def store(line: Line, path: Path) -> int:
    """Send one file over an association that accepted its SOP class and syntax; return the status of the answer.

    Raises NotAnswered.
    """
    try:
        status = line.association.send_c_store(path).get("Status")
    except (OSError, RuntimeError):
        raise NotAnswered from None
    if status is None:
        raise NotAnswered
    return int(status)


def _release(association: Association) -> None:
    if association.is_established:
        association.release()


def _end(association: Association) -> None:
    """End an association that is of no more use, even where the other side has stopped taking bytes."""
    if not association.is_established:
        return
    association.dul.to_provider_queue = queue.Queue()
    association._reactor_checkpoint.set()
    transport = association.dul.socket
    if transport is not None and transport.socket is not None:
        with contextlib.suppress(OSError):
            transport.socket.shutdown(socket.SHUT_RDWR)
