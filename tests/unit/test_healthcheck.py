"""The image's health check: only a loaded plugin with a service that is well counts as healthy."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import healthcheck
import pytest


class Orthanc(ThreadingHTTPServer):
    """Answers like an Orthanc whose plugin is in the state that the test asks for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status_code = 200
        self.body: Any = {"Status": "ok"}
        self.user: str | None = None


class Handler(BaseHTTPRequestHandler):
    server: Orthanc

    def do_GET(self) -> None:
        wanted = self.server.user and "Basic " + base64.b64encode(self.server.user.encode()).decode()
        refused = wanted is not None and self.headers.get("Authorization") != wanted
        code = 401 if refused else self.server.status_code if self.path == "/deid/health" else 404
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(self.server.body).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Keeps the tests' output clean."""


@pytest.fixture
def orthanc() -> Iterator[Orthanc]:
    server = Orthanc()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def check(tmp_path: Path, server: Orthanc, capsys: pytest.CaptureFixture[str], **settings: Any) -> tuple[int, str]:
    path = tmp_path / "orthanc.json"
    path.write_text(json.dumps({"HttpPort": server.server_port, **settings}))
    return healthcheck.main([str(path)]), capsys.readouterr().out.strip()


def test_healthy_when_the_service_is_well(tmp_path: Path, orthanc: Orthanc, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tmp_path, orthanc, capsys) == (0, "healthy")


def test_signs_in_as_the_first_registered_user(
    tmp_path: Path, orthanc: Orthanc, capsys: pytest.CaptureFixture[str]
) -> None:
    orthanc.user = "admin:secret"
    assert check(tmp_path, orthanc, capsys, RegisteredUsers={"admin": "secret", "other": "x"}) == (0, "healthy")
    status, said = check(tmp_path, orthanc, capsys, RegisteredUsers={"admin": "wrong"})
    assert status == 1
    assert "refused" in said
    assert "wrong" not in said


def test_an_orthanc_without_the_plugin_is_not_healthy(
    tmp_path: Path, orthanc: Orthanc, capsys: pytest.CaptureFixture[str]
) -> None:
    orthanc.status_code = 404
    status, said = check(tmp_path, orthanc, capsys)
    assert status == 1
    assert "the plugin is not loaded" in said


@pytest.mark.parametrize("state", ["starting", "down"])
def test_a_service_that_does_not_work_is_not_healthy(
    tmp_path: Path, orthanc: Orthanc, capsys: pytest.CaptureFixture[str], state: str
) -> None:
    orthanc.body = {"Status": state}
    assert check(tmp_path, orthanc, capsys) == (1, f"unhealthy: the service is {state}")


def test_nobody_listening_or_no_configuration_is_not_healthy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = Orthanc()
    gone.server_close()
    assert check(tmp_path, gone, capsys)[0] == 1
    assert healthcheck.main([str(tmp_path / "missing.json")]) == 1
