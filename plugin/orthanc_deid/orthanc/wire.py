"""One connection to an HTTP/1.1 server (RFC 9112), with nothing but what Orthanc's REST needs.

http.client parses headers as those of an e-mail and makes several objects for each request; for the short requests to a
server beside us that costs more than the request.
"""

from __future__ import annotations

import select
import socket
import ssl
from io import BufferedReader
from typing import BinaryIO, cast

MAX_LINE = 65536
MAX_HEADERS = 100
BUFFER = 1 << 15


class WireError(OSError):
    """The answer is no HTTP, or it broke off."""


class Wire:
    """Requests one after the other: `send`, then `answer`, then `read` until nothing is left."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, timeout: float) -> None:
        self._address = host, port
        self._tls = tls
        self._timeout = timeout
        self._sock: socket.socket | None = None
        self._reader: BufferedReader | None = None
        self._left: int | None = 0  # of the body, or of its chunk; None: up to the end of the connection
        self._chunked = False
        self.keep = False
        """Whether the connection may be used again once the body has been read."""
        self.taken = 0.0
        """When somebody took it for a request, by the steady clock."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._sock is not None

    def connect(self) -> None:
        """Open the connection. Raises OSError."""
        sock = socket.create_connection(self._address, self._timeout)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock = self._tls.wrap_socket(sock, server_hostname=self._address[0]) if self._tls else sock
            self._reader = cast(BufferedReader, self._sock.makefile("rb", BUFFER))
        except BaseException:
            sock.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        if self._reader is not None:
            self._reader.close()
        if self._sock is not None:
            self._sock.close()
        self._sock = self._reader = None

    def quiet(self) -> bool:
        """Whether the connection is open and silent: an idle one that can be read is one that the server has closed."""
        return self._sock is not None and not select.select([self._sock], [], [], 0)[0]

    def patience(self, seconds: float) -> None:
        """Set how long the server may be silent."""
        self._timeout = seconds
        if self._sock is not None:
            self._sock.settimeout(seconds)

    def send(self, head: bytes, body: bytes | None = None, file: BinaryIO | None = None, size: int = 0) -> None:
        """Send a request whose head is complete; `file` is a regular file, sent from its beginning. Raises OSError."""
        assert self._sock is not None
        self._sock.sendall(head + body if body else head)
        if file is not None and size:
            file.seek(0)
            self._sock.sendfile(file, 0, size)

    def answer(self, method: str) -> tuple[int, dict[str, str]]:
        """Read status and headers (names in lower case) of the answer. Raises OSError."""
        status = 100
        while 100 <= status < 200:
            version, status = self._status()
            fields = self._fields()
        coding = fields.get("transfer-encoding", "").lower()
        length = fields.get("content-length")
        if coding not in ("", "chunked") or not (length is None or length.isdigit()):
            raise WireError("a body that cannot be measured")
        self._chunked = coding == "chunked"
        if method == "HEAD" or status in (204, 304):
            self._left, self._chunked = 0, False
        elif self._chunked:
            self._left = 0
        else:
            self._left = None if length is None else int(length)
        connection = fields.get("connection", "").lower()
        self.keep = self._left is not None and (
            connection == "keep-alive" if version == b"HTTP/1.0" else connection != "close"
        )
        return status, fields

    def _status(self) -> tuple[bytes, int]:
        parts = self._line().split(None, 2)
        if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or len(parts[1]) != 3 or not parts[1].isdigit():
            raise WireError("not an answer")
        return parts[0], int(parts[1])

    def _fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        while line := self._line():
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or len(fields) >= MAX_HEADERS:
                raise WireError("not a header")
            fields[name.lower()] = value.strip()
        return fields

    def _line(self) -> bytes:
        assert self._reader is not None
        line = self._reader.readline(MAX_LINE)
        if not line.endswith(b"\n"):
            raise WireError("the answer broke off")
        return line.rstrip(b"\r\n")

    def read(self, most: int) -> bytes:
        """Read up to so many bytes of the body; b"" is its end. Raises OSError where it ends too early."""
        assert self._reader is not None
        if self._chunked and not self._left:
            self._next_chunk()
        if self._left == 0:
            return b""
        data = self._reader.read(most if self._left is None else min(most, self._left))
        if self._left is not None:
            self._left -= len(data)
            if not data:
                raise WireError("the body broke off")
            if self._chunked and not self._left and self._line():
                raise WireError("a chunk has no end")
        return data

    def _next_chunk(self) -> None:
        size = self._line().partition(b";")[0].strip()
        try:
            self._left = int(size, 16)
        except ValueError:
            raise WireError("a chunk without a size") from None
        if not self._left:
            self._chunked = False
            while self._line():  # trailing fields
                pass

    def read_all(self) -> bytes:
        """Read the rest of the body. Raises OSError where it ends too early."""
        parts = []
        while part := self.read(1 << 30):
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
