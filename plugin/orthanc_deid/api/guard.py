"""What every request passes before a route sees it: the secret, other sites kept out, JSON only, bounded bodies.

The service trusts nobody but the plugin (which Orthanc lets in only after its own authentication), so a request
without the secret of this start-up is refused whatever it asks. A person's browser sends Orthanc's credentials with any
request that any web page makes it send; so what changes something must come from Orthanc's own pages, or no browser.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orthanc_deid import logs

SECRET_HEADER = "X-Deid-Secret"
MAX_BODY = 4 * 1024 * 1024
"""Bytes: a job over 80,000 resources named one by one."""

JSON = ("application/json",)
TABLES = ("application/json", "text/csv")
_SAFE = ("GET", "HEAD", "OPTIONS")
_ANSWER_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)

log = logs.get(__name__)


class Refused(Exception):
    """A request that no route shall see, with its status and the two texts of the answer."""

    def __init__(self, status: int, error: str, detail: str) -> None:
        super().__init__(error)
        self.status, self.error, self.detail = status, error, detail


class Headers:
    """The headers of a request; a header that is given twice counts as neither."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())

    def get(self, name: str) -> str | None:
        """Return the one value of a header, or None."""
        values = self._values.get(name.lower(), [])
        return values[0] if len(values) == 1 else None

    def has(self, name: str) -> bool:
        """Tell whether the header is there at all."""
        return name.lower() in self._values


class Guard:
    """The outermost layer of the application; an error that gets this far is answered without its text."""

    def __init__(self, app: ASGIApp, secret: str) -> None:
        if not secret:
            raise ValueError("the service needs a secret")
        self._app = app
        self._secret = secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def hardened(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = [pair for pair in message.get("headers", []) if pair[0].lower() not in dict(_ANSWER_HEADERS)]
                message["headers"] = [*headers, *_ANSWER_HEADERS]
            await send(message)

        try:
            self._check(scope["method"], scope["path"], Headers(scope["headers"]))
            await self._app(scope, receive, hardened)
        except Refused as refused:
            await _answer(hardened, refused.status, refused.error, refused.detail)
        except Exception as error:
            # Neither the path (it names resources) nor the error's text (it may quote a value) reaches a log.
            log.error("a request failed", error=type(error).__name__)
            if started:
                raise RuntimeError("the answer broke off") from None
            await _answer(hardened, 500, "internal error", type(error).__name__)

    def _check(self, method: str, path: str, headers: Headers) -> None:
        given = headers.get(SECRET_HEADER) or ""
        if not hmac.compare_digest(given.encode(), self._secret):
            raise Refused(403, "forbidden", "requests come through Orthanc")
        if method in _SAFE:
            return
        if from_another_site(headers):
            raise Refused(403, "forbidden", "this request was sent by a page of another site")
        _check_body(headers, TABLES if path == "/deid/jobs" else JSON)


def from_another_site(headers: Headers) -> bool:
    """Tell whether a browser sent this request for a page that is not Orthanc's own.

    `Sec-Fetch-Site` says so where browsers send it (https and localhost); otherwise `Origin` must name the host that
    the request went to, as the browser or a proxy in between calls it. Programs send neither.
    """
    if headers.has("Sec-Fetch-Site"):
        return headers.get("Sec-Fetch-Site") not in ("same-origin", "none")
    if not headers.has("Origin"):
        return False
    origin = _host(headers.get("Origin") or "")
    ours = {_host("//" + (headers.get(name) or "").split(",")[0].strip()) for name in ("Host", "X-Forwarded-Host")}
    return not origin or origin not in ours


def _host(url: str) -> str:
    """Return host and port of an address in lower case, without the ports that every browser leaves out."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    host = (parts.hostname or "").lower()
    return host if port in (None, 80, 443) else f"{host}:{port}"


def _check_body(headers: Headers, kinds: tuple[str, ...]) -> None:
    if headers.has("Transfer-Encoding"):
        raise Refused(411, "length required", "send the body with a Content-Length")
    length = headers.get("Content-Length")
    if not headers.has("Content-Length") or length == "0":
        return
    if length is None or not length.isascii() or not length.isdigit():
        raise Refused(400, "bad request", "the Content-Length is not a number")
    if int(length) > MAX_BODY:
        raise Refused(413, "body too large", f"at most {MAX_BODY} bytes")
    kind, _, rest = (headers.get("Content-Type") or "").partition(";")
    kind = kind.strip().lower()
    plain = rest.strip().lower() in ("", "charset=utf-8") or kind == "text/csv"  # whose parameters say what it is for
    if kind not in kinds or not plain:
        raise Refused(415, "unsupported media type", f"send the body as Content-Type: {kinds[0]}")


async def _answer(send: Send, status: int, error: str, detail: str) -> None:
    body = json.dumps({"error": error, "detail": detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
