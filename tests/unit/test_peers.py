"""What a peer says, and what that means: stored, refused, not let in, not trusted, or not there."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from orthanc_deid.orthanc import peers as module
from orthanc_deid.orthanc.client import OrthancClient
from orthanc_deid.orthanc.peers import Gone, Peers
from orthanc_deid.orthanc.push import Reply
from orthanc_deid.orthanc.settings import WebService

from tests.certificates import Authority

STORED = (200, b'{"Status": "Success"}')
LIVES = (200, b'{"Version": "1.12.7"}')
ID = "5e500ed0-561d240a-dd970234-9988cfef-eeb12b58"
CUT = (0, b"")
"""It reads a part of the body and hangs up."""


class Handler(BaseHTTPRequestHandler):
    """Answers as the test says."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def _do(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        status, body = server.system if self.path.endswith("/system") else server.answer
        server.requests.append((self.command, self.path, dict(self.headers)))
        length = int(self.headers.get("Content-Length", 0))
        if status == 0:
            self.rfile.read(length // 2)
            self.close_connection = True
            return
        server.bodies.append(self.rfile.read(length))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = _do


class Server(ThreadingHTTPServer):
    """A peer."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: tuple[int, bytes] = STORED
        self.system: tuple[int, bytes] = LIVES
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust us hangs up."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}/base/"


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
def file(tmp_path: Path) -> Path:
    path = tmp_path / "out.dcm"
    path.write_bytes(b"0123456789" * 100_000)
    return path


def peers(service: WebService, local: OrthancClient | None = None, **orthanc: Any) -> Peers:
    """Peers with one of them, `research`."""
    return Peers({"research": service}, orthanc, local or OrthancClient("http://127.0.0.1:1"))


def at(server: Server, **more: Any) -> WebService:
    """The settings of the server."""
    return WebService("research", server.url, **more)


@pytest.mark.parametrize(
    ("answer", "system", "reply", "left"),
    [
        (STORED, LIVES, Reply.STORED, True),
        ((200, b'[{"Status": "Success"}]'), LIVES, Reply.STORED, True),
        ((200, b'{"Status": "AlreadyStored"}'), LIVES, Reply.ALREADY, True),
        ((200, b'{"Status": "FilteredOut"}'), LIVES, Reply.REFUSED, False),
        ((200, b"<html>a portal</html>"), (200, b"<html>"), Reply.DOWN, True),
        ((200, b"nonsense"), LIVES, Reply.REFUSED, True),
        ((400, b"{}"), LIVES, Reply.REFUSED, True),
        ((500, b"{}"), LIVES, Reply.REFUSED, True),
        ((500, b"{}"), (500, b""), Reply.DOWN, True),
        ((401, b""), (401, b""), Reply.UNAUTHORIZED, True),
        ((403, b""), LIVES, Reply.UNAUTHORIZED, True),
        ((404, b""), (404, b""), Reply.DOWN, True),
        ((301, b""), (301, b""), Reply.DOWN, True),
        ((413, b""), LIVES, Reply.REFUSED, True),
        ((503, b""), LIVES, Reply.DOWN, True),
        ((507, b""), LIVES, Reply.NO_ROOM, True),
        ((500, b'{"OrthancStatus": 14}'), LIVES, Reply.NO_ROOM, True),
        ((500, b'{"OrthancStatus": 19}'), LIVES, Reply.NO_ROOM, True),
        ((500, b'{"OrthancStatus": 11}'), LIVES, Reply.DOWN, True),
        ((500, b'{"OrthancStatus": 1006}'), LIVES, Reply.DOWN, True),
        ((500, b'{"OrthancStatus": 15}'), LIVES, Reply.REFUSED, True),
        ((500, b'{"OrthancStatus": "14"}'), LIVES, Reply.REFUSED, True),
        ((500, b"[14]"), LIVES, Reply.REFUSED, True),
        ((400, b'{"OrthancStatus": 14}'), LIVES, Reply.REFUSED, True),
        (CUT, LIVES, Reply.REFUSED, True),
        (CUT, (401, b""), Reply.UNAUTHORIZED, True),
        (CUT, CUT, Reply.DOWN, True),
    ],
)
def test_answers(
    server: Server, file: Path, answer: tuple[int, bytes], system: tuple[int, bytes], reply: Reply, left: bool
) -> None:
    server.answer, server.system = answer, system
    ours = peers(at(server))
    assert ours.to_peer("research", file) == (reply, left)
    assert reply.waits is (reply in (Reply.DOWN, Reply.UNAUTHORIZED, Reply.NO_ROOM))
    ours.close()


def test_a_file_goes_whole_with_the_administrators_settings(server: Server, file: Path) -> None:
    headers = {"Token": "secret", "Expect": "", "content-type": "application/x"}
    ours = peers(at(server, username="gateway", password="wörd", headers=headers))
    assert ours.to_peer("research", file)[0] is Reply.STORED
    ours.close()
    method, path, sent = server.requests[0]
    assert (method, path) == ("POST", "/base/instances")
    assert server.bodies == [file.read_bytes()]
    assert sent["Authorization"] == "Basic " + base64.b64encode("gateway:wörd".encode()).decode()
    assert sent["Token"] == "secret" and "Expect" not in sent
    assert sent["content-type"] == "application/x" and sent["Content-Length"] == "1000000"


def test_credentials_in_the_address_are_used_and_not_sent_as_a_host(server: Server, file: Path) -> None:
    url = server.url.replace("http://", "http://gate%40way:word@")
    ours = peers(WebService("research", url))
    assert ours.to_peer("research", file)[0] is Reply.STORED
    ours.close()
    sent = server.requests[0][2]
    assert sent["Authorization"] == "Basic " + base64.b64encode(b"gate@way:word").decode()
    assert sent["Host"] == f"127.0.0.1:{server.server_port}"


def test_nobody_there_is_down_and_nothing_has_left(file: Path) -> None:
    assert peers(WebService("research", "http://127.0.0.1:1/")).to_peer("research", file) == (Reply.DOWN, False)


def test_a_peer_that_says_nothing_is_left_after_its_timeout(
    file: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(self: Handler) -> None:
        threading.Event().wait(5)

    monkeypatch.setattr(Handler, "do_POST", silent)
    ours = peers(at(server, timeout=1))
    assert ours.to_peer("research", file) == (Reply.REFUSED, True)
    ours.close()


@pytest.mark.parametrize(
    ("service", "orthanc", "why"),
    [
        ({"pkcs11": True}, {}, "pkcs11"),
        ({}, {"HttpProxy": "user:word@proxy:3128"}, "proxy"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, {}, "headers"),
        ({"headers": {"To ken": "x"}}, {}, "headers"),
        ({"headers": {"Token": "a\nb"}}, {}, "address"),
        ({"url": "https://127.0.0.1:1/", "certificate": Path("/nowhere.pem")}, {}, "certificates"),
        ({"url": "https://127.0.0.1:1/"}, {"HttpsCACertificates": "/nowhere.pem"}, "certificates"),
        ({"url": "https://127.0.0.1:1/"}, {"HttpsCACertificates": "README.md"}, "certificates"),
        ({"url": "http://127.0.0.1:port/"}, {}, "address"),
    ],
)
def test_what_only_orthanc_can_use_goes_through_orthanc(
    server: Server, file: Path, service: dict[str, Any], orthanc: dict[str, Any], why: str
) -> None:
    local = OrthancClient(server.url)
    ours = peers(WebService(**{"name": "research", "url": "http://127.0.0.1:1/", **service}), local, **orthanc)
    assert ours.indirect("research") == why
    assert ours.to_peer("research", file)[0] is Reply.STORED
    assert server.requests[0][:2] == ("POST", "/base/peers/research/store-straight")
    assert ours.delete("research", "instances", ID) is Gone.UNABLE
    server.answer = (500, b"{}")
    assert ours.to_peer("research", file) == (Reply.REFUSED, True)
    server.system = (500, b"{}")
    assert ours.to_peer("research", file) == (Reply.DOWN, True)
    assert server.requests[-1][:2] == ("GET", "/base/peers/research/system")
    ours.close()
    local.close()


def test_a_proxy_of_the_environment_counts_where_it_applies(
    server: Server, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    monkeypatch.delenv("no_proxy", raising=False)
    assert peers(at(server)).indirect("research") == "proxy"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert peers(at(server)).indirect("research") is None


def test_a_peer_of_orthancs_database_goes_through_orthanc(server: Server, file: Path) -> None:
    local = OrthancClient(server.url)
    ours = Peers({}, {}, local)
    assert ours.to_peer("other peer", file)[0] is Reply.STORED
    assert server.requests[0][1] == "/base/peers/other%20peer/store-straight"
    assert ours.indirect("other peer") == "not-configured"
    local.close()


def test_without_our_orthanc_nothing_goes_through_it(file: Path) -> None:
    assert Peers({}, {}, OrthancClient("http://127.0.0.1:1")).to_peer("one", file) == (Reply.LOCAL_DOWN, False)


@pytest.mark.parametrize(
    ("answer", "system", "gone"),
    [
        ((200, b"{}"), LIVES, Gone.DELETED),
        ((404, b"{}"), LIVES, Gone.ABSENT),
        ((404, b"{}"), (404, b"{}"), Gone.WAITS),
        ((401, b""), (401, b""), Gone.WAITS),
        ((403, b""), LIVES, Gone.REFUSED),
        ((405, b""), LIVES, Gone.REFUSED),
        ((500, b""), (500, b""), Gone.WAITS),
        ((503, b""), LIVES, Gone.WAITS),
        (CUT, LIVES, Gone.WAITS),
    ],
)
def test_deleting(server: Server, answer: tuple[int, bytes], system: tuple[int, bytes], gone: Gone) -> None:
    server.answer, server.system = answer, system
    ours = peers(at(server))
    assert ours.delete("research", "instances", ID) is gone
    assert server.requests[0][:2] == ("DELETE", f"/base/instances/{ID}")
    ours.close()


# TLS


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def secure(server: Server, certificate: Path, key: Path, clients: Path | None = None) -> str:
    """Let the server speak TLS; returns its address at `localhost`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if clients:
        context.load_verify_locations(clients)
        context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return f"https://localhost:{server.server_port}/"


def test_a_peer_with_a_certificate_of_the_own_authority(server: Server, file: Path, authority: Authority) -> None:
    url = secure(server, *authority.issue("localhost"))
    ours = peers(WebService("research", url), HttpsCACertificates=str(authority.file))
    assert ours.to_peer("research", file) == (Reply.STORED, True)
    assert server.bodies == [file.read_bytes()]
    ours.close()


@pytest.mark.parametrize("what", ["another authority", "the system's authorities", "another name"])
def test_a_certificate_that_is_not_trusted_gets_nothing(
    server: Server, file: Path, authority: Authority, tmp_path: Path, what: str
) -> None:
    url = secure(server, *authority.issue("elsewhere" if what == "another name" else "localhost"))
    trusted = Authority(tmp_path / "other").file if what == "another authority" else authority.file
    settings = {} if what == "the system's authorities" else {"HttpsCACertificates": str(trusted)}
    ours = peers(WebService("research", url, "gateway", "word"), **settings)
    assert ours.to_peer("research", file) == (Reply.UNTRUSTED, False)
    assert Reply.UNTRUSTED.waits
    assert ours.probe("research") is Reply.UNTRUSTED
    assert ours.delete("research", "instances", ID) is Gone.WAITS
    assert server.requests == []


def test_verification_is_off_only_where_the_administrator_has_switched_it_off(
    server: Server, file: Path, authority: Authority
) -> None:
    url = secure(server, *authority.issue("elsewhere"))
    ours = peers(WebService("research", url), HttpsVerifyPeers=False)
    assert ours.to_peer("research", file) == (Reply.STORED, True)
    ours.close()


def test_a_client_certificate_is_shown_its_key_opened_with_the_password(
    server: Server, file: Path, authority: Authority
) -> None:
    url = secure(server, *authority.issue("localhost"), clients=authority.file)
    certificate, key = authority.issue("client", "word")
    settings = {"HttpsCACertificates": str(authority.file)}
    with_it = peers(WebService("research", url, certificate=certificate, key=key, key_password="word"), **settings)
    assert with_it.to_peer("research", file) == (Reply.STORED, True)
    with_it.close()
    assert peers(WebService("research", url), **settings).to_peer("research", file)[0] is Reply.DOWN
    wrong = peers(WebService("research", url, certificate=certificate, key=key, key_password="other"), **settings)
    assert wrong.indirect("research") == "certificates"


def test_a_python_without_authorities_uses_the_systems(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    class Nowhere:
        cafile = capath = None

    monkeypatch.setattr(module.ssl, "get_default_verify_paths", lambda: Nowhere)
    monkeypatch.setattr(module, "BUNDLE", authority.file)
    context = module.tls(WebService("research", "https://peer/"), {})
    subjects = [json.dumps(one["subject"]) for one in context.get_ca_certs()]
    assert any("authority of a test" in subject for subject in subjects)
    assert context.verify_mode is ssl.CERT_REQUIRED and context.check_hostname
