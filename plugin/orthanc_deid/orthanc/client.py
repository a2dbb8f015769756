"""A small REST client for Orthanc on http.client: keep-alive, never compressed, no value in any error.

Orthanc gzips what it sends to whoever accepts it, which costs more than storing the instance; so identity is asked for,
always. Its HTTP server closes a connection that was idle for a second, so an older one is not used again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import select
import socket
import ssl
import tempfile
import threading
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode, urlsplit

IDLE_SECONDS = 0.7
"""A connection that was idle for longer is not used again (Orthanc closes it after 1 s)."""
MAX_IDLE = 16
"""Connections kept open between requests."""
CHUNK = 1 << 20
"""Bytes of a large file that are read at a time."""
CONNECT_SECONDS = 20.0
"""A server to which no connection comes about within that time is down."""
_PLAIN = re.compile("[0-9A-Za-z-]*")
MOST_PLAIN = (1 << 31) - 1
"""Bytes that Orthanc 1.10 can send as they are."""
SLOWEST_PACKING = 2_000_000
"""Bytes a second that Orthanc compresses at least."""
OF_THE_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOENT, errno.ENOTDIR})
"""Errors that no connection has."""
PROBED = 4
"""Instances of which one has to be readable for the storage to count as there."""
READ_TRIES = 3
"""How often a read (GET, or a POST that only asks) is sent before the server counts as unavailable."""


class OrthancError(Exception):
    """A request that did not succeed; the text names method, kind of route and status, never an id or a value."""

    def __init__(self, what: str, status: int = 0) -> None:
        super().__init__(what)
        self.status = status


class NotFound(OrthancError):
    """Orthanc does not have it (404)."""


class Unavailable(OrthancError):
    """Nobody answers, the answer broke off, or the server says that it cannot now (502, 503, 504): worth another try.

    `left` says whether any byte of a request's body may have reached the server, `untrusted` that it could not show a
    certificate that is trusted here.
    """

    def __init__(self, what: str, status: int = 0, left: bool = True, untrusted: bool = False) -> None:
        super().__init__(what, status)
        self.left = left
        self.untrusted = untrusted


AILING = frozenset({4, 11, 36, 42, *range(1000, 1100)})
"""Orthanc's numbers of errors (OrthancPluginErrorCode) that say how it does, whatever was asked: NotEnoughMemory,
Database, DatabaseUnavailable, DatabaseCannotSerialize, and those of SQLite."""

DAMAGED = frozenset({3, 15, 20})
"""For a file that is not what Orthanc stored, which 1.13 looks at: one too short (ParameterOutOfRange), BadFileFormat,
CorruptedFile."""
UNREADABLE = DAMAGED | {13, 2009}
"""And for one that is not there: InexistentFile, RegularFileExpected."""


class Failed(OrthancError):
    """Orthanc answered with another error (4xx, 500); asking again in the same way gives the same.

    `number` is what the body calls the error by (OrthancPluginErrorCode), where it does.
    """

    def __init__(self, what: str, status: int = 0, number: int | None = None) -> None:
        super().__init__(what, status)
        self.number = number


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers (names in lower case) and the whole body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the body. Raises Failed when it is no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise Failed("the answer is no JSON", self.status) from None

    @property
    def number(self) -> int | None:
        """The number of Orthanc's error (OrthancPluginErrorCode), which a status leaves open; None where none is
        told."""
        try:
            body: Any = self.json()
        except Failed:
            return None
        number = body.get("OrthancStatus") if isinstance(body, dict) else None
        return number if isinstance(number, int) else None


@dataclass(frozen=True, slots=True)
class Fetched:
    """The file of one instance: in memory (`data`) or in an open file without a name (`file`); with its MD5."""

    data: bytes | None
    file: BinaryIO | None
    md5: str


def _receive(response: HTTPResponse, spool: Path, memory: int) -> Fetched | None:
    """Read a body; None when it is not what was announced. Raises OSError or HTTPException where it breaks off."""
    announced = -1 if response.length is None else response.length
    packed = response.getheader("Content-Encoding") == "gzip"
    if 0 <= announced <= memory and not packed:
        data = response.read()
        return Fetched(data, None, md5_hex(data)) if len(data) == announced else None
    inflater = zlib.decompressobj(31) if packed else None
    hasher = hashlib.md5(usedforsecurity=False)
    size = 0
    file: BinaryIO = tempfile.TemporaryFile(dir=spool)  # noqa: SIM115 - the caller closes it
    try:
        while part := response.read(CHUNK):
            size += len(part)
            part = inflater.decompress(part) if inflater else part
            hasher.update(part)
            file.write(part)
        file.flush()
        if announced not in (-1, size) or (inflater and not inflater.eof):
            file.close()
            return None
    except BaseException:
        file.close()
        raise
    return Fetched(None, file, hasher.hexdigest())


def md5_hex(data: bytes) -> str:
    """Return the MD5 by which Orthanc names the content of a file; it protects nothing."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


_MD5_OF_NOTHING = md5_hex(b"")


def route(path: str) -> str:
    """Return a path without ids, for messages: '/instances/…/file'."""
    parts = path.split("?")[0].split("/")
    return "/".join("…" if any(c.isdigit() for c in part) or part.count("-") == 4 else part for part in parts)


def _segment(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote(text, safe="")


def _tls(ca: str | Path | None) -> ssl.SSLContext:
    """Return how to judge the server's certificate: by the system's authorities, or, with `ca`, by being that very one.

    Orthanc's own certificate is made out to its public name, which is not the one it has on the loopback; and whoever
    issued it may be missing here.
    """
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    if ca:
        context.check_hostname = False
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _over(ours: Mapping[str, str], theirs: Mapping[str, str]) -> dict[str, str]:
    """Return both, theirs in the place of ours of the same name."""
    names = {name.lower() for name in theirs}
    return {**{name: value for name, value in ours.items() if name.lower() not in names}, **theirs}


class OrthancClient:
    """Speaks to one Orthanc. Threads may share it: each request takes a connection of its own."""

    def __init__(
        self,
        url: str,
        authorization: str | None = None,
        ca: str | Path | None = None,
        timeout: float = 60.0,
        *,
        tls: ssl.SSLContext | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """`timeout` is how long the server may be silent; `tls` judges its certificate instead of `ca`, and `headers`
        go with each request. Raises ValueError for what no request can hold."""
        self.address = (url, authorization, str(ca) if ca else None)
        """How to reach the same server from another process; holds a secret."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("the address of Orthanc must begin with http:// or https://")
        self._tls = (tls or _tls(ca)) if parts.scheme == "https" else None
        self._host, self._port = parts.hostname, parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Host": parts.netloc.rpartition("@")[2]}
        if authorization:
            self._headers["Authorization"] = authorization
        self._headers = _over(self._headers, headers or {})
        if any("\r" in text or "\n" in text for pair in self._headers.items() for text in pair):
            raise ValueError("the address, the credentials or a header hold a line break")
        self.timeout = timeout
        self._lock = threading.Lock()
        self._idle: list[tuple[HTTPConnection, float]] = []
        self.answers = 0
        """Requests that were answered."""
        self.seconds = 0.0
        """What they took, transfer included."""

    def close(self) -> None:
        """Close the idle connections; the client may be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    # Connections

    def _take(self, timeout: float) -> HTTPConnection:
        """Return an open connection that is younger than the server's patience, or a new one, not yet connected."""
        while True:
            with self._lock:
                connection, since = self._idle.pop() if self._idle else (None, 0.0)
            if connection is None:
                break
            sock = connection.sock
            # An idle connection that can be read is one that the server has closed.
            if sock is not None and time.monotonic() - since < IDLE_SECONDS and not select.select([sock], [], [], 0)[0]:
                sock.settimeout(timeout)
                return connection
            connection.close()
        patience = min(timeout, CONNECT_SECONDS)
        if self._tls is None:
            return HTTPConnection(self._host, self._port, timeout=patience)
        return HTTPSConnection(self._host, self._port, timeout=patience, context=self._tls)

    def _done(self, connection: HTTPConnection, response: HTTPResponse, began: float) -> None:
        """Keep a connection whose answer has been read, if it can be used again."""
        now = time.monotonic()
        with self._lock:
            self.answers += 1
            self.seconds += now - began
            if not response.will_close and len(self._idle) < MAX_IDLE:
                self._idle.append((connection, now))
                return
        connection.close()

    def _open(self, connection: HTTPConnection, patience: float) -> None:
        """Connect, where that is not done yet."""
        before: socket.socket | None = connection.sock
        if before is None:
            connection.connect()
            connection.sock.settimeout(patience)

    def _head(
        self, connection: HTTPConnection, method: str, path: str, more: Mapping[str, str], encoding: str = "identity"
    ) -> None:
        """Begin a request: its line and its headers; those that the server's settings name stand before our own."""
        connection.putrequest(method, self._prefix + path, skip_host=True, skip_accept_encoding=True)
        for name, value in _over(more, self._headers).items():
            connection.putheader(name, value)
        connection.putheader("Accept-Encoding", encoding)

    # Requests

    def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        file: BinaryIO | None = None,
        content_type: str = "application/json",
        timeout: float | None = None,
    ) -> Answer:
        """Send one request once and return whatever Orthanc answers.

        `file` is an open regular file sent as the body from its beginning (with sendfile where the connection is
        plain). Raises Unavailable when there is no whole answer; its `left` is False when not even a connection came
        about.
        """
        size = os.fstat(file.fileno()).st_size if file else len(body or b"")
        more = {"Content-Type": content_type} if file or body is not None else {}
        if file or body is not None or method in ("POST", "PUT"):
            more["Content-Length"] = str(size)
        patience = timeout or self.timeout
        connection, began = self._take(patience), time.monotonic()
        connected = connection.sock is not None
        try:
            self._open(connection, patience)
            connected = True
            self._head(connection, method, path, more)
            response = self._sent(connection, body, file, size)
            answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        except (OSError, HTTPException) as error:
            connection.close()
            untrusted = not connected and isinstance(error, ssl.SSLCertVerificationError)
            raise Unavailable(f"{method} {route(path)}: no answer", left=connected, untrusted=untrusted) from None
        except BaseException:
            connection.close()
            raise
        self._done(connection, response, began)
        return answer

    @staticmethod
    def _sent(connection: HTTPConnection, body: bytes | None, file: BinaryIO | None, size: int) -> HTTPResponse:
        """Send head and body and return the answer, its body not yet read."""
        try:
            connection.endheaders(body)
            if file is not None and size:
                file.seek(0)
                connection.sock.sendfile(file, 0, size)
        except (BrokenPipeError, ConnectionResetError):
            # A server that does not want the body may have said why before it hung up.
            response = connection.getresponse()
            response.will_close = True
            return response
        return connection.getresponse()

    def ask(self, method: str, path: str, body: bytes | None = None, *, timeout: float | None = None) -> Answer:
        """Send a request that changes nothing, again where no answer comes, and return its successful answer.

        Raises NotFound, Unavailable, Failed.
        """
        for attempt in range(1, READ_TRIES + 1):
            try:
                return self._checked(method, path, self.send(method, path, body, timeout=timeout))
            except Unavailable:
                if attempt == READ_TRIES:
                    raise
        raise AssertionError("unreachable")

    def change(self, method: str, path: str, body: bytes | None = None, *, content_type: str = "text/plain") -> Answer:
        """Send a request that changes something, once. Raises NotFound, Unavailable, Failed."""
        return self._checked(method, path, self.send(method, path, body, content_type=content_type))

    @staticmethod
    def _checked(method: str, path: str, answer: Answer) -> Answer:
        if answer.status < 300:
            return answer
        what = f"{method} {route(path)}: status {answer.status}"
        if answer.status == 404:
            raise NotFound(what, 404)
        if answer.status in (502, 503, 504):
            raise Unavailable(what, answer.status)
        raise Failed(what, answer.status, answer.number)

    def get_json(self, path: str, params: dict[str, Any] | None = None) -> Any:
        """GET a path and parse its JSON; a parameter with the value True stands alone (`?expand`)."""
        if params:
            alone = [name for name, value in params.items() if value is True]
            pairs = urlencode({name: value for name, value in params.items() if value is not True})
            path += "?" + "&".join([*alone, *([pairs] if pairs else [])])
        return self.ask("GET", path).json()

    def post_json(self, path: str, body: Any) -> Any:
        """POST JSON to a route that only answers (tools/find, tools/bulk-content) and parse its JSON."""
        return self.ask("POST", path, json.dumps(body).encode()).json()

    # What the service needs

    def system(self) -> dict[str, Any]:
        """Return /system: the server's version and name."""
        answer: dict[str, Any] = self.get_json("/system")
        return answer

    def content_name(self, instance: str) -> str:
        """Return what names the content of this instance's file: its MD5 as Orthanc noted it, or, where it has none,
        its size and the UUID of the attachment, which is another one whenever something is stored in its place.

        It has none with `StoreMD5ForAttachments` off, and, in 1.10, of more than 2 GB: there it notes that of nothing.
        Raises NotFound.
        """
        path = f"/instances/{_segment(instance)}/attachments/dicom/"
        try:
            said = self.ask("GET", path + "md5").body.decode("ascii").strip()
        except NotFound:  # the instance, or only its MD5
            said = ""
        if said and said != _MD5_OF_NOTHING:
            return said
        info = self.ask("GET", path + "info").json()
        return f"{info['UncompressedSize']} bytes in {info['Uuid']}"

    def fetch(self, instance: str, spool: Path, memory: int) -> Fetched:
        """Fetch the file of an instance: into memory, or, where it is longer than `memory`, into an unlinked file in
        `spool`.

        A short answer is asked for again, at last compressed: above 2 GB Orthanc 1.10 announces the right length and
        sends no body otherwise. Raises NotFound, Failed, Unavailable; OSError where `spool` cannot be written.
        """
        path = f"/instances/{_segment(instance)}/file"
        announced = 0
        for encoding in ("identity", "identity", "gzip"):
            if encoding == "identity" and announced > MOST_PLAIN:
                continue  # the same again, for which Orthanc reads gigabytes
            # Orthanc compresses the whole before it sends the first byte.
            patience = max(self.timeout, 300.0, announced / SLOWEST_PACKING)
            connection, began = self._take(patience), time.monotonic()
            try:
                self._open(connection, patience)
                self._head(connection, "GET", path, {}, encoding)
                response = self._sent(connection, None, None, 0)
                if response.status >= 300:
                    self._checked("GET", path, Answer(response.status, {}, response.read()))
                announced = int(response.headers.get("Content-Length", 0))
                fetched = _receive(response, spool, memory)
            except (OSError, HTTPException, zlib.error) as error:
                connection.close()
                if isinstance(error, OSError) and error.errno in OF_THE_DISK:
                    raise
                continue
            except BaseException:
                connection.close()
                raise
            if fetched is None:
                connection.close()
            else:
                self._done(connection, response, began)
                return fetched
        raise Unavailable(f"GET {route(path)}: the bytes are not what the server announced")

    def reads_others(self, instance: str) -> bool:
        """Return whether Orthanc can read the file of any instance but this one: whether its storage is there.

        It has the MD5 of some files verified, which reads them: in 1.12 never out of Orthanc's cache, in others only
        where they were read lately; so those listed first are asked about, mostly old ones. False also where Orthanc
        has noted no MD5. Raises Unavailable, Failed.
        """
        for other in self.get_json("/instances", {"since": 0, "limit": PROBED}):
            path = f"/instances/{_segment(other)}/attachments/dicom/verify-md5"
            if other != instance and self.send("POST", path, b"").status == 200:
                return True
        return False

    def metadata(self, instance: str) -> dict[str, str]:
        """Return the metadata of an instance: RemoteAET, CalledAET, Origin, IndexInSeries, … Raises NotFound."""
        answer: dict[str, str] = self.get_json(f"/instances/{_segment(instance)}/metadata", {"expand": True})
        return answer
