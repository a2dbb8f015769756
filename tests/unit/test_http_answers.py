"""The client reads every form that an answer may have, and takes nothing for one that is none or not whole."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest
from orthanc_deid.orthanc.client import Answer, NotFound, OrthancClient, Unavailable

from tests.orthancs import until


class Server:
    """Answers each connection with ready bytes, and says how many there were, and how many it has closed."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.answer = b""
        self.connections = 0
        self.closed = 0
        self.client = OrthancClient(f"http://127.0.0.1:{self.socket.getsockname()[1]}", timeout=10.0)
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                received = b""
                # The whole request: what is not read when the connection is closed resets it, and the answer is lost.
                while not received.endswith(b"\r\n\r\nx"):
                    more = connection.recv(1 << 16)
                    if not more:
                        break
                    received += more
                if received:
                    connection.sendall(self.answer)
            self.closed += 1

    def close(self) -> None:
        """End it."""
        self.client.close()
        self.socket.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        ("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", 200, b"hello"),
        ("HTTP/1.1 200\ncontent-length:5\nConnection: close\n\nhello", 200, b"hello"),
        ("HTTP/1.0 200 OK\nContent-Length: 5\n\nhello", 200, b"hello"),
        ("HTTP/1.1 200 OK\n\nall there is", 200, b"all there is"),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n3\nhel\n2;x=y\nlo\n0\nTrailer: 1\n\n", 200, b"hello"),
        ("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n0\n\n", 200, b""),
        ("HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, b"ok"),
        ("HTTP/1.1 204 No Content\n\n", 204, b""),
    ],
)
def test_bodies(server: Server, answer: str, status: int, body: bytes) -> None:
    server.answer = answer.replace("\n", "\r\n").encode()
    found = server.client.send("POST", "/", b"x")
    assert (found.status, found.body) == (status, body)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nhel\r\n0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nY: " + b"y" * (1 << 17) + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(200)) + b"\r\n",
        b"\x00\xff" * 500,
    ],
)
def test_what_is_no_answer_or_not_a_whole_one_is_none(server: Server, answer: bytes) -> None:
    server.answer = answer
    with pytest.raises(Unavailable) as caught:
        server.client.send("POST", "/", b"x")
    assert caught.value.left


def test_a_connection_that_the_server_has_closed_is_not_used_again(server: Server) -> None:
    server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    for number in range(1, 4):
        assert server.client.send("POST", "/", b"x").status == 200
        until(lambda number=number: server.closed == number, what="the server's end of the connection")  # type: ignore[misc]
    assert server.connections == 3


@pytest.mark.parametrize("header", [{"Token": "a\r\nHost: b"}, {"To\nken": "a"}])
def test_what_would_make_another_request_of_it_is_refused(header: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="line break"):
        OrthancClient("http://127.0.0.1:1", headers=header)


@pytest.mark.parametrize(
    ("said", "name"),
    [
        (b"0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef"),
        (b"", "7670 bytes in 30b2d5a6"),
        (b"d41d8cd98f00b204e9800998ecf8427e", "7670 bytes in 30b2d5a6"),
        (None, "7670 bytes in 30b2d5a6"),
    ],
)
def test_content_without_an_md5_of_its_own_is_named_otherwise(
    monkeypatch: pytest.MonkeyPatch, said: bytes | None, name: str
) -> None:
    client = OrthancClient("http://127.0.0.1:1")

    def ask(method: str, path: str) -> Answer:
        if path.endswith("/md5") and said is None:
            raise NotFound("no such attachment, or no MD5 of it", 404)
        return Answer(
            200, {}, said or b"" if path.endswith("/md5") else b'{"UncompressedSize": 7670, "Uuid": "30b2d5a6"}'
        )

    monkeypatch.setattr(client, "ask", ask)
    assert client.content_name("a-b") == name
