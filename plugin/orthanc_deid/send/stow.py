"""A DICOMweb server as receiver: STOW-RS (PS3.18 10.5), an instance a request, from the disk, never whole in memory.

An instance counts as stored only where the answer names it as stored: a 200 that does not is none. The server is one of
the DICOMweb plugin's own configuration, with its user, headers and certificates.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import requests

from orthanc_deid.orthanc.settings import WebService
from orthanc_deid.send.base import Reply, ToSend
from orthanc_deid.send.modality import judge

ANSWER_SECONDS = 300.0
"""How long a server may be silent, unless its Timeout or Orthanc's HttpTimeout says otherwise."""
CONNECT_SECONDS = 15.0
LONGEST_ANSWER = 1 << 20
REFERENCED, FAILED = "00081199", "00081198"
INSTANCE, FAILURE, WARNING = "00081155", "00081197", "00081196"
NOT_TO_US = frozenset({401, 403, 404, 407, 408, 429, 502, 503, 504})
"""Statuses that say nothing of the instance: it waits."""


class Body:
    """A multipart/related body of one part, read from a file as it is sent."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.boundary = secrets.token_hex(16)
        self._head = f"--{self.boundary}\r\nContent-Type: application/dicom\r\nContent-Length: {size}\r\n\r\n".encode()
        self._tail = f"\r\n--{self.boundary}--\r\n".encode()
        self._file = file
        self._length = len(self._head) + size + len(self._tail)
        self._left = size
        self.begun = False

    def __len__(self) -> int:
        return self._length

    def read(self, most: int = -1) -> bytes:
        """Return the next bytes; what a file that shrinks meanwhile leaves short is an error, not an end."""
        self.begun = True
        if self._head:
            data, self._head = self._head, b""
        elif self._left:
            data = self._file.read(min(1 << 16, self._left))
            self._left -= len(data)
            if not data:
                raise OSError("the file is shorter than it was")
        else:
            data, self._tail = self._tail, b""
        return data

    @property
    def content_type(self) -> str:
        """The header that goes with it."""
        return f'multipart/related; type="application/dicom"; boundary={self.boundary}'


class StowSender:
    """Sends to one DICOMweb server."""

    def __init__(self, server: WebService, orthanc: Mapping[str, Any]) -> None:
        self._server = server
        self._timeout = float(server.timeout or orthanc.get("HttpTimeout") or ANSWER_SECONDS)
        self._orthanc = orthanc
        self._own = threading.local()
        self._lock = threading.Lock()
        self._sessions: list[requests.Session] = []

    def send(self, path: Path, one: ToSend) -> tuple[Reply, bool]:
        """Send one file."""
        with path.open("rb") as file:
            body = Body(file, path.stat().st_size)
            try:
                with self._session().post(
                    f"{self._server.url}studies",
                    data=body,
                    headers={"Content-Type": body.content_type, "Accept": "application/dicom+json"},
                    timeout=(CONNECT_SECONDS, self._timeout),
                    allow_redirects=False,
                    stream=True,
                ) as answer:
                    content = answer.raw.read(LONGEST_ANSWER, decode_content=True)
                    return self._judge(answer.status_code, content, one), True
            except (requests.RequestException, OSError, ValueError):
                return Reply.DOWN, body.begun

    def _judge(self, status: int, content: bytes, one: ToSend) -> Reply:
        if status in NOT_TO_US:
            return Reply.DOWN
        if status == 507:
            return Reply.NO_ROOM
        if status >= 500:
            return Reply.REFUSED if self.alive() else Reply.DOWN
        return read_answer(content, one.out_sop) or Reply.REFUSED

    def _session(self) -> requests.Session:
        """Return this thread's own connection."""
        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = _session(self._server, self._orthanc)
            with self._lock:
                self._sessions.append(session)
        return session

    def alive(self) -> bool:
        """Whether the server answers a search as a DICOMweb server does, with the credentials that are configured."""
        try:
            with _session(self._server, self._orthanc) as session:
                answer = session.get(
                    f"{self._server.url}studies",
                    params={"limit": "1"},
                    headers={"Accept": "application/dicom+json"},
                    timeout=(CONNECT_SECONDS, CONNECT_SECONDS),
                    allow_redirects=False,
                )
                return answer.status_code in (200, 204)
        except (requests.RequestException, OSError, ValueError):
            return False

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for session in sessions:
            session.close()


def _session(server: WebService, orthanc: Mapping[str, Any]) -> requests.Session:
    """Return a session with the server's credentials and with Orthanc's own idea of whom to trust."""
    session = requests.Session()
    session.trust_env = False
    if server.username:
        session.auth = (server.username, server.password)
    session.headers.update(server.headers)
    if server.certificate is not None:
        session.cert = (str(server.certificate), str(server.key)) if server.key else str(server.certificate)
    if orthanc.get("HttpsVerifyPeers", True) is False:
        session.verify = False
    elif orthanc.get("HttpsCACertificates"):
        session.verify = str(orthanc["HttpsCACertificates"])
    if orthanc.get("HttpProxy"):
        session.proxies = {"http": str(orthanc["HttpProxy"]), "https": str(orthanc["HttpProxy"])}
    return session


def read_answer(content: bytes, sop: str) -> Reply | None:
    """Return what the answer says of our instance; None where it does not name it."""
    try:
        answer = json.loads(content)
    except ValueError:
        return None
    answer = answer[0] if isinstance(answer, list) and len(answer) == 1 else answer
    for item in _items(answer, FAILED):
        if _value(item, INSTANCE) == sop:
            reason = _value(item, FAILURE)
            reply = judge(reason) if isinstance(reason, int) else Reply.REFUSED
            return reply if reply in (Reply.ALREADY, Reply.NO_ROOM) else Reply.REFUSED
    for item in _items(answer, REFERENCED):
        if _value(item, INSTANCE) == sop:
            return Reply.COERCED if _value(item, WARNING) not in (None, 0) else Reply.STORED
    return None


def _items(answer: Any, tag: str) -> list[Any]:
    element = answer.get(tag) if isinstance(answer, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _value(item: Any, tag: str) -> Any:
    element = item.get(tag) if isinstance(item, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values else None
