"""Receivers of all kinds for the tests: a folder of what came, whoever took it in."""

from __future__ import annotations

import contextlib
import io
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import AllTransferSyntaxes
from pynetdicom import AE, AllStoragePresentationContexts, build_role, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from tests.orthancs import free_port, until


@dataclass
class Scp:
    """A storage SCP of pynetdicom's, with storage commitment as the test wants it."""

    status: Callable[[str], int] = lambda sop: 0x0000
    """What it answers to an instance; above all, whether it takes it."""
    syntaxes: list[str] = field(default_factory=lambda: list(map(str, AllTransferSyntaxes)))
    commits: Callable[[str], int] = lambda sop: 0
    """0: it commits to this instance; else the failure reason."""
    elsewhere: tuple[str, int] | None = None
    """Where it brings its answers; None: the association on which it was asked."""
    silent: bool = False
    """It takes requests for commitment and never answers."""
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        self.received: list[tuple[str, bytes]] = []
        self.asked: list[tuple[str, list[str]]] = []
        self.associations = 0
        self.answers: list[int] = []
        self._server: Any = None

    def start(self) -> Scp:
        entity = AE(ae_title="RECEIVER")
        for context in AllStoragePresentationContexts:
            entity.add_supported_context(context.abstract_syntax, self.syntaxes)
        entity.add_supported_context(Verification)
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        entity.maximum_associations = 20
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_N_ACTION, self._action),
            (evt.EVT_ACCEPTED, self._accepted),
        ]
        self._server = entity.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server = None

    @property
    def kept(self) -> dict[str, bytes]:
        """SOP Instance UID → data set, as a file."""
        return dict(self.received)

    def _accepted(self, event: evt.Event) -> None:
        self.associations += 1

    def _store(self, event: evt.Event) -> int:
        sop = str(event.request.AffectedSOPInstanceUID)
        status = self.status(sop)
        if status == 0 or 0xB000 <= status <= 0xBFFF:
            self.received.append((sop, event.encoded_dataset()))
        return status

    def _action(self, event: evt.Event) -> tuple[int, None]:
        request = event.action_information
        uids = [(str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID)) for i in request.ReferencedSOPSequence]
        self.asked.append((str(request.TransactionUID), [uid for _, uid in uids]))
        if not self.silent:
            own = None if self.elsewhere else event.assoc
            threading.Thread(target=self.answer, args=(str(request.TransactionUID), uids, own), daemon=True).start()
        return 0x0000, None

    def answer(self, transaction: str, uids: list[tuple[str, str]], association: Any = None) -> None:
        """Say what is kept: on an association that is open, or on one of its own."""
        answer = Dataset()
        answer.TransactionUID = transaction
        kept, failed = [], []
        for sop_class, uid in uids:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
            reason = self.commits(uid) if uid in self.kept else 0x0112
            if reason:
                item.FailureReason = reason
                failed.append(item)
            else:
                kept.append(item)
        answer.ReferencedSOPSequence = kept
        if failed:
            answer.FailedSOPSequence = failed
        with self._to(association) as open_association:
            status, _ = open_association.send_n_event_report(
                answer, 2 if failed else 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
            self.answers.append(int(status.get("Status", -1)))

    @contextlib.contextmanager
    def _to(self, association: Any) -> Iterator[Any]:
        if association is not None:
            threading.Event().wait(0.1)  # the answer to the request goes first
            yield association
            return
        assert self.elsewhere is not None
        entity = AE(ae_title="RECEIVER")
        contexts = [build_context(StorageCommitmentPushModel)]
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        opened = entity.associate(*self.elsewhere, contexts=contexts, ext_neg=[role])
        assert opened.is_established
        yield opened
        opened.release()


@contextlib.contextmanager
def scp(**settings: Any) -> Iterator[Scp]:
    """Run a storage SCP."""
    one = Scp(**settings)
    one.start()
    try:
        yield one
    finally:
        one.stop()


@contextlib.contextmanager
def storescp(folder: Path, *options: str) -> Iterator[int]:
    """Run DCMTK's storescp; by its option `+xi` it takes implicit little endian only. Yields its port."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    argv = [
        "/usr/bin/setpriv",
        "--pdeathsig",
        "KILL",
        "storescp",
        *options,
        "-od",
        str(folder),
        "-aet",
        "DCMTK",
        str(port),
    ]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until(lambda: listens(port), 20, "storescp")
            yield port
        finally:
            process.terminate()


def listens(port: int) -> bool:
    """Whether anybody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def dataset_of(data: bytes) -> Dataset:
    """Read a file's bytes."""
    return dcmread(io.BytesIO(data))
