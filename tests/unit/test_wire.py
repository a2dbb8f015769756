"""The connection reads every form that an answer may have, and takes nothing for one that is none or not whole."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from orthanc_deid.orthanc.wire import MAX_HEADERS, Wire, WireError

from tests.orthancs import until


class Server:
    """Answers each connection with ready bytes, and keeps what was sent."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.got = b""
        self.answer = b""
        self.expect = 1
        self.go = threading.Event()
        self.go.set()
        self.wires: list[Wire] = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                self.got = b""
                while len(self.got) < self.expect:
                    self.got += connection.recv(1 << 20)
                connection.sendall(self.answer)
                self.go.wait(10)

    def wire(self) -> Wire:
        """A connection, not yet opened."""
        wire = Wire("127.0.0.1", self.socket.getsockname()[1], None, 10.0)
        self.wires.append(wire)
        return wire

    def ask(self, answer: str | bytes, method: str = "GET") -> Wire:
        """Send a request that will be answered so."""
        self.answer = answer if isinstance(answer, bytes) else answer.replace("\n", "\r\n").encode("latin-1")
        wire = self.wire()
        wire.connect()
        wire.send(f"{method} / HTTP/1.1\r\n\r\n".encode())
        return wire


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    for wire in server.wires:
        wire.close()
    server.socket.close()


@pytest.mark.parametrize(
    ("answer", "body", "keep"),
    [
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", b"hello", True),
        ("HTTP/1.1 200\ncontent-length:5\nConnection: close\n\nhello", b"hello", False),
        ("HTTP/1.0 200 OK\nContent-Length: 5\n\nhello", b"hello", False),
        ("HTTP/1.0 200 OK\nContent-Length: 5\nConnection: Keep-Alive\n\nhello", b"hello", True),
        ("HTTP/1.1 200 OK\n\nall there is", b"all there is", False),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nhel\n2;x=y\nlo\n0\nTrailer: 1\n\n", b"hello", True),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\n\n", b"", True),
        ("HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok", True),
        ("HTTP/1.1 204 No Content\n\n", b"", True),
        ("HTTP/1.1 200 OK\nContent-Length: 0\n\n", b"", True),
    ],
)
def test_bodies(server: Server, answer: str, body: bytes, keep: bool) -> None:
    wire = server.ask(answer)
    status, _ = wire.answer("GET")
    assert (status // 100, wire.read_all(), wire.keep) == (2, body, keep)
    assert wire.read(10) == b""


def test_an_answer_to_head_has_no_body(server: Server) -> None:
    wire = server.ask("HTTP/1.1 200 OK\nContent-Length: 500\n\n", "HEAD")
    wire.answer("HEAD")
    assert (wire.read_all(), wire.keep) == (b"", True)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nhel\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno header\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 3 + b"Y: " + b"y" * (1 << 17) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(MAX_HEADERS + 1)) + b"\r\n",
        b"\x00\xff" * 500,
    ],
)
def test_what_is_no_answer_or_not_a_whole_one(server: Server, answer: bytes) -> None:
    wire = server.ask(answer)
    with pytest.raises((WireError, ConnectionError)):
        wire.answer("GET")
        wire.read_all()


def test_a_file_goes_whole_and_an_idle_connection_is_seen_to_be_closed(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 100)
    server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\n"
    server.expect = len(head) + 1000
    server.go.clear()
    wire = server.wire()
    assert not wire.connected
    wire.connect()
    with path.open("rb") as file:
        file.read(7)
        wire.send(head, None, file, 1000)
    assert wire.answer("POST")[0] == 200 and wire.read_all() == b""
    assert server.got == head + path.read_bytes()
    assert wire.quiet()
    server.go.set()
    until(lambda: not wire.quiet(), 10, "the server to close the connection")
    wire.close()
    assert not wire.connected and not wire.quiet()
