"""STOW-RS: what is sent, whose answer is believed, and with which credentials."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from orthanc_deid.orthanc.settings import WebService
from orthanc_deid.send.base import Reply
from orthanc_deid.send.stow import Body, StowSender, read_answer
from orthanc_deid.store.rows import ToSend

from tests.orthancs import free_port

SOP = "2.25.1"
CONTENT = bytes(range(256)) * 1000


def answer(tag: str, extra: dict[str, Any] | None = None, sop: str = SOP) -> bytes:
    item = {"00081155": {"vr": "UI", "Value": [sop]}, **(extra or {})}
    return json.dumps({tag: {"vr": "SQ", "Value": [item]}}).encode()


STORED = answer("00081199")


class Server:
    """Answers as it is told, and remembers what came."""

    def __init__(self) -> None:
        self.status, self.body = 200, STORED
        self.search = 200
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                data = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((self.path, dict(self.headers), data))
                self._say(outer.status, outer.body)

            def do_GET(self) -> None:
                self._say(outer.search, b"[]")

            def _say(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.port = free_port()
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.stop()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "one.dcm"
    file.write_bytes(CONTENT)
    return file


def delivery() -> ToSend:
    return ToSend(
        id=1, ledger_id=7, project="p", destination="dicomweb:w", out_study="1", out_series="2", out_sop=SOP,
        out_orthanc_id="x", out_digest=hashlib.sha256(CONTENT).hexdigest(), out_size=len(CONTENT), attempts=1,
        history="never",
    )  # fmt: skip


def sender(port: int) -> StowSender:
    service = WebService("w", f"http://127.0.0.1:{port}/dicom-web/", "ada", "secret", {"X-Key": "k1"}, timeout=5)
    return StowSender(service, {})


def test_the_file_goes_as_it_is_with_the_configured_credentials(server: Server, path: Path) -> None:
    one = sender(server.port)
    assert one.alive()
    assert one.send(path, delivery()) == (Reply.STORED, True)
    one.close()
    ((where, headers, body),) = server.got
    assert where == "/dicom-web/studies"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"ada:secret").decode()
    assert headers["X-Key"] == "k1" and headers["Accept"] == "application/dicom+json"
    boundary = headers["Content-Type"].rpartition("boundary=")[2].encode()
    head, _, rest = body.partition(b"\r\n\r\n")
    assert head.startswith(b"--" + boundary) and b"Content-Type: application/dicom" in head
    assert rest == CONTENT + b"\r\n--" + boundary + b"--\r\n"


@pytest.mark.parametrize(
    ("status", "body", "search", "reply"),
    [
        (200, STORED, 200, Reply.STORED),
        (200, b"[" + STORED + b"]", 200, Reply.STORED),
        (200, b"", 200, Reply.REFUSED),
        (200, b"<html>welcome</html>", 200, Reply.REFUSED),
        (200, answer("00081199", sop="2.25.2"), 200, Reply.REFUSED),
        (202, answer("00081199", {"00081196": {"vr": "US", "Value": [0xB000]}}), 200, Reply.COERCED),
        (202, answer("00081198", {"00081197": {"vr": "US", "Value": [0xA900]}}), 200, Reply.REFUSED),
        (409, answer("00081198", {"00081197": {"vr": "US", "Value": [0xA700]}}), 200, Reply.NO_ROOM),
        (409, answer("00081198", {"00081197": {"vr": "US", "Value": [0x0111]}}), 200, Reply.ALREADY),
        (409, answer("00081198"), 200, Reply.REFUSED),
        (400, b"", 200, Reply.REFUSED),
        (401, b"", 200, Reply.DOWN),
        (403, b"", 200, Reply.DOWN),
        (404, b"", 200, Reply.DOWN),
        (503, b"", 200, Reply.DOWN),
        (507, b"", 200, Reply.NO_ROOM),
        (500, b"", 200, Reply.REFUSED),
        (500, b"", 500, Reply.DOWN),
        (302, b"", 200, Reply.REFUSED),
    ],
)
def test_answers(server: Server, path: Path, status: int, body: bytes, search: int, reply: Reply) -> None:
    server.status, server.body, server.search = status, body, search
    one = sender(server.port)
    assert one.send(path, delivery()) == (reply, True)
    one.close()


def test_a_server_that_is_not_there_has_got_nothing(path: Path) -> None:
    one = sender(free_port())
    assert one.send(path, delivery()) == (Reply.DOWN, False)
    assert not one.alive()
    one.close()


def test_a_body_is_read_in_pieces_and_knows_its_length(path: Path) -> None:
    with path.open("rb") as file:
        body = Body(file, len(CONTENT))
        parts = []
        while part := body.read(8192):
            parts.append(part)
        assert max(map(len, parts)) <= 1 << 16
        assert len(b"".join(parts)) == len(body)


@pytest.mark.parametrize(
    "content", [b"null", b"[]", b"[1]", b'{"00081199": 1}', b'{"00081199": {"Value": [3]}}', b"\xff"]
)
def test_nonsense_is_no_answer(content: bytes) -> None:
    assert read_answer(content, SOP) is None
