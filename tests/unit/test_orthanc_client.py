"""The REST client against a server on loopback that misbehaves on request; real Orthancs are in the integration
tests."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from orthanc_deid.orthanc import client as module
from orthanc_deid.orthanc.client import Failed, NotFound, OrthancClient, Unavailable, route

BODY = bytes(range(256)) * 40
INSTANCE = "5e500ed0-561d240a-dd970234-9988cfef-eeb12b58"


class Handler(BaseHTTPRequestHandler):
    """Counts requests and connections, and does what the path says."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def answer(self, status: int, body: bytes, announced: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)
        if announced is not None and announced != len(body):
            self.close_connection = True

    def do_GET(self) -> None:
        self.server.requests.append((self.command, self.path, dict(self.headers), b""))
        count = len(self.server.requests)
        if self.path.endswith("/missing"):
            self.answer(404, b"{}")
        elif self.path.endswith("/broken"):
            self.answer(500, b"{}")
        elif self.path.endswith("/busy"):
            self.answer(503, b"{}")
        elif self.path.endswith("/second") and count == 1:
            self.close_connection = True
        elif self.path.startswith("/instances/short") and count < 3:
            self.answer(200, BODY[:100], len(BODY))
        elif self.path.startswith("/instances/huge"):
            if self.headers["Accept-Encoding"] == "gzip":
                self.answer(200, gzip.compress(BODY), Content_Encoding="gzip")
            else:
                self.answer(200, b"", len(BODY))
        elif self.path.endswith("/file"):
            self.answer(200, BODY)
        else:
            self.answer(200, b'{"ok": true}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        self.answer(200, b'{"Status": "Success"}')


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections = 0


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(server: Server) -> Iterator[OrthancClient]:
    client = OrthancClient(f"http://127.0.0.1:{server.server_port}", "Bearer secret-token")
    yield client
    client.close()


def test_asks_for_identity_and_shows_its_token(server: Server, client: OrthancClient) -> None:
    assert client.get_json("/system") == {"ok": True}
    headers = server.requests[0][2]
    assert headers["Accept-Encoding"] == "identity"
    assert headers["Authorization"] == "Bearer secret-token"


def test_keeps_its_connection(server: Server, client: OrthancClient) -> None:
    for _ in range(5):
        client.get_json("/system")
    assert server.connections == 1


def test_does_not_use_a_connection_that_the_server_may_close(
    server: Server, client: OrthancClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get_json("/system")
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.0)
    client.get_json("/system")
    assert server.connections == 2


def test_a_read_is_tried_again_when_the_answer_breaks_off(server: Server, client: OrthancClient) -> None:
    assert client.get_json("/second") == {"ok": True}
    assert len(server.requests) == 2


@pytest.mark.parametrize(("path", "error"), [("missing", NotFound), ("broken", Failed), ("busy", Unavailable)])
def test_errors_tell_what_to_do_and_no_id(client: OrthancClient, path: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        client.get_json(f"/instances/{INSTANCE}/{path}")
    assert INSTANCE not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_nobody_there_is_unavailable_and_nothing_has_left(server: Server, tmp_path: Path) -> None:
    client = OrthancClient("http://127.0.0.1:1")
    with pytest.raises(Unavailable) as caught:
        client.send("POST", "/instances", b"abc")
    assert caught.value.left is False


def test_sends_a_file_whole_as_body(server: Server, client: OrthancClient, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(BODY * 50)
    for _ in range(2):
        with (tmp_path / "f").open("rb") as file:
            assert client.send("POST", "/x", file=file, content_type="application/dicom").status == 200
    assert [request[3] == BODY * 50 for request in server.requests] == [True, True]
    assert server.requests[0][2]["Content-Type"] == "application/dicom"
    assert server.connections == 1


@pytest.mark.parametrize("memory", [1 << 20, 100])
def test_fetches_into_memory_or_into_a_file_without_a_name(client: OrthancClient, tmp_path: Path, memory: int) -> None:
    fetched = client.fetch(INSTANCE, tmp_path, memory)
    assert fetched.md5 == hashlib.md5(BODY).hexdigest()
    if memory > len(BODY):
        assert fetched.data == BODY
    else:
        assert fetched.file is not None
        with fetched.file as file:
            file.seek(0)
            assert file.read() == BODY
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("memory", [1 << 20, 100])
def test_a_short_read_is_asked_for_again(server: Server, client: OrthancClient, tmp_path: Path, memory: int) -> None:
    fetched = client.fetch("short", tmp_path, memory)
    assert fetched.md5 == hashlib.md5(BODY).hexdigest()
    assert len(server.requests) == 3
    if fetched.file:
        fetched.file.close()


def test_what_comes_empty_above_2_gb_is_fetched_compressed(client: OrthancClient, tmp_path: Path) -> None:
    fetched = client.fetch("huge", tmp_path, 1 << 20)
    assert fetched.file is not None
    with fetched.file as file:
        file.seek(0)
        assert file.read() == BODY


def test_a_missing_instance_is_said_to_be_missing(client: OrthancClient, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        client.ask("GET", "/instances/x/missing")


def test_routes_in_messages_have_no_ids() -> None:
    assert route(f"/instances/{INSTANCE}/file?x=1") == "/instances/…/file"


def test_only_http_addresses() -> None:
    with pytest.raises(ValueError, match="http"):
        OrthancClient("ftp://x")


def test_what_cannot_be_sent_plain_is_asked_for_once_and_given_time_to_be_packed(
    server: Server, client: OrthancClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_PLAIN", len(BODY) - 1)
    monkeypatch.setattr(module, "SLOWEST_PACKING", len(BODY) / 1000)
    waits: list[float] = []
    take = client._take
    monkeypatch.setattr(client, "_take", lambda timeout: waits.append(timeout) or take(timeout))
    fetched = client.fetch("huge", tmp_path, 10)
    assert fetched.file is not None
    fetched.file.close()
    assert fetched.md5 == hashlib.md5(BODY).hexdigest()
    assert [request[2]["Accept-Encoding"] for request in server.requests] == ["identity", "gzip"]
    assert waits == [300.0, 1000.0]


def test_a_spool_that_cannot_be_written_is_not_blamed_on_the_server(
    server: Server, client: OrthancClient, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        client.fetch("huge", tmp_path / "missing", 10)
    assert len(server.requests) == 1
