"""What goes wrong around the service: instances that kill workers, peers that misbehave, a disk that is full.

Each time every source has one outcome, the peer holds exactly what it should, and the state tells what is wrong.
"""

from __future__ import annotations

import contextlib
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import builders, flow
from tests.builders import Origin, person
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, source, until

pytestmark = pytest.mark.integration

KILLS_WORKERS = """
from orthanc_deid.core.source import Source
whole = Source.from_bytes
def from_bytes(data):
    if b"POISON" in data:
        os.kill(os.getpid(), 9)
    return whole(data)
Source.from_bytes = from_bytes
"""
FULL_DISK = """
from orthanc_deid.core.sinks import FileSink
write = FileSink.write
def full(self, data):
    if os.path.exists({flag!r}):
        raise OSError(errno.ENOSPC, "No space left on device")
    write(self, data)
FileSink.write = full
"""


def faulty_python(folder: Path, fault: str) -> str:
    """An interpreter for the service in which something goes wrong: the real one, which is told so as it starts."""
    code = folder / "fault"
    code.mkdir(parents=True)
    (code / "sitecustomize.py").write_text("import errno, os\n" + fault)
    script = code / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{code}:$PYTHONPATH" exec {source().python} "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


@pytest.mark.one_orthanc
def test_an_instance_that_kills_its_worker_is_isolated_after_two_tries(tmp_path: Path, research: Orthanc) -> None:
    p = person(41)
    slices = [builders.ct(Origin(p, 1, 1, n), rows=32, columns=32) for n in range(1, 13)]
    slices[4].ImageComments = slices[9].ImageComments = "POISON"
    files = [builders.to_bytes(one) for one in slices]
    section = deid_section(Python=faulty_python(tmp_path / "clinical", KILLS_WORKERS))
    with clinical_orthanc(tmp_path / "clinical", {"research": research}, section) as clinical:
        outputs = flow.expected(clinical, [data for data in files if b"POISON" not in data])
        for data in files:
            clinical.store(data)
        rows = flow.settled(clinical, len(files), 180)
        crashed = [row for row in rows if row.state != "confirmed"]
        assert [(row.state, row.reason) for row in crashed] == [("quarantined", "crashed")] * 2
        flow.check_ledger([row for row in rows if row not in crashed], outputs)
        flow.check_peer(research, outputs)
        health = clinical.wait_ready()
        assert health["Restarts"] == 0, "the service itself lives on"
        assert health["Service"]["Workers"]["Restarts"] == 4, "two tries each"
        # Tried again by a person it does the same, and nothing else.
        entry = clinical.get("/deid/quarantine")[0]
        assert clinical.request("POST", f"/deid/quarantine/{entry['ID']}", json={"Action": "retry"}).ok
        until(lambda: clinical.wait_ready()["Service"]["Workers"]["Restarts"] == 6, 60, "two more tries")
        until(lambda: len(clinical.get("/deid/quarantine")) == 2, 60, "its place in quarantine")
        flow.check_peer(research, outputs)


def test_a_full_disk_makes_the_work_wait_and_nothing_is_lost(tmp_path: Path, research: Orthanc) -> None:
    flag = tmp_path / "clinical" / "full"
    section = deid_section(Python=faulty_python(tmp_path / "clinical", FULL_DISK.format(flag=str(flag))))
    files = flow.ct_series(42, slices=8)
    with clinical_orthanc(tmp_path / "clinical", {"research": research}, section) as clinical:
        flag.touch()
        outputs = flow.expected(clinical, files)
        for data in files:
            assert clinical.store(data)["Status"] == "Success"

        def troubles() -> list[dict[str, Any]]:
            return (clinical.health().get("Service") or {}).get("Troubles", [])

        until(lambda: {"worker-disk"} <= {trouble["Part"] for trouble in troubles()}, 60, "the trouble to be told")
        assert {row.state for row in flow.ledger(clinical)} <= {"queued", "working"}
        # One may be there while it is tried again; none stays.
        outbox = flow.data_folder(clinical) / "outbox"
        until(lambda: not list(outbox.rglob("*.part")), 60, "no rest to fill the disk for good", every=0.01)
        flag.unlink()
        flow.check_ledger(flow.settled(clinical, len(files), 120), outputs)
        flow.check_peer(research, outputs)
        assert troubles() == []


class Way:
    """What stands between the servers, and misbehaves: a proxy that does to requests what `mode` says."""

    def __init__(self, target: Orthanc) -> None:
        self.target = target
        self.mode = "straight"
        self.seen: list[str] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            client.settimeout(60)
            head = self._read_head(client)
            store = head.startswith(b"POST")
            mode = self.mode if store else "straight"
            self.seen.append(mode)
            if mode == "cut on the way":
                client.recv(1000)
                return
            body = self._read_body(client, head)
            if mode == "nonsense":
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html>no</htm")
            elif mode == "other json":
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
            elif mode == "bad gateway":
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            else:
                answer = self._forward(head, body)
                if mode != "cut after it has stored":
                    if mode == "slow":
                        threading.Event().wait(1.5)
                    client.sendall(answer)

    @staticmethod
    def _read_head(client: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(1)
            if not part:
                raise ValueError
            head += part
        return head

    @staticmethod
    def _read_body(client: socket.socket, head: bytes) -> bytes:
        lines = head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")), 0)
        if b"expect: 100-continue" in lines:
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        while len(body) < length:
            part = client.recv(length - len(body))
            if not part:
                raise ValueError
            body += part
        return body

    def _forward(self, head: bytes, body: bytes) -> bytes:
        kept = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection", b"expect"))]
        with socket.create_connection(("127.0.0.1", self.target.http_port), 30) as server:
            server.sendall(kept[0] + b"\r\nConnection: close\r\n" + b"\r\n".join(kept[1:]) + body)
            answer = b""
            while part := server.recv(1 << 16):
                answer += part
        return answer


@pytest.fixture
def way(research: Orthanc) -> Iterator[Way]:
    """The way to the research peer."""
    way = Way(research)
    yield way
    way.socket.close()


@pytest.mark.one_orthanc
@pytest.mark.parametrize(
    "mode", ["cut on the way", "cut after it has stored", "slow", "nonsense", "other json", "bad gateway"]
)
def test_a_peer_that_misbehaves(tmp_path: Path, research: Orthanc, way: Way, mode: str) -> None:
    files = flow.ct_series(43, slices=3, rows=128)
    with clinical_orthanc(tmp_path / "clinical", {"research": way.url}) as clinical:
        outputs = flow.expected(clinical, files)
        way.mode = mode
        for data in files:
            clinical.store(data)
        until(lambda: way.seen.count(mode) >= 2, 60, "two that went wrong")
        if mode != "slow":
            assert "confirmed" not in {row.state for row in flow.ledger(clinical)}, "believed without a word of it"
        way.mode = "straight"
        rows = flow.settled(clinical, len(files), 120)
        flow.check_ledger(rows, outputs)
        flow.check_peer(research, outputs)
        flow.sweep(flow.identifying((43,)), clinical, research)


def test_orthanc_comes_back_with_another_storage_and_then_with_its_own(tmp_path: Path, research: Orthanc) -> None:
    """Orthanc comes back with another storage: what was not done is lost in the open, what comes now is done."""
    first, second = flow.ct_series(44, 1, 1, 3), flow.ct_series(44, 2, 1, 2)
    section = deid_section()
    section["Projects"]["lung"]["Match"] = {"Modality": "CT"}
    with clinical_orthanc(tmp_path / "clinical", {"research": research}, section) as clinical:
        outputs = flow.expected(clinical, first + second)
        for data in first:
            clinical.store(data)
        flow.settled(clinical, 3)
        clinical.stop()
        (clinical.folder / "storage").rename(clinical.folder / "storage-before")
        clinical.start().wait_ready()
        for data in second:
            clinical.store(data)
        rows = flow.settled(clinical, 5)
        flow.check_ledger(rows, outputs)
        flow.check_peer(research, outputs)
        clinical.stop()
        (clinical.folder / "storage").rename(clinical.folder / "storage-between")
        (clinical.folder / "storage-before").rename(clinical.folder / "storage")
        clinical.start().wait_ready()
        until(lambda: (clinical.health().get("Service") or {}).get("LastReconciled"), 30, "the comparison")
        flow.check_ledger(flow.settled(clinical, 5), outputs)
