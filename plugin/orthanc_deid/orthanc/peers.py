"""Orthanc's peers: sent to, asked and cleared by this service itself, with the administrator's own settings.

Through our Orthanc (`/peers/{name}/store-straight`) each byte would be received and sent on once more, a refused body,
a wrong password and a dead peer would look the same, and nothing could be deleted. That way stays for what only
Orthanc can use: peers in its database, PKCS#11, a proxy.
"""

from __future__ import annotations

import base64
import re
import ssl
import threading
import urllib.request
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from orthanc_deid import logs
from orthanc_deid.orthanc.client import (
    Answer,
    Failed,
    NotFound,
    OrthancClient,
    OrthancError,
    Unavailable,
    _segment,
)
from orthanc_deid.orthanc.push import TRANSFER_SECONDS, Reply, status_of, trouble_of
from orthanc_deid.orthanc.settings import WebService

log = logs.get(__name__)

DEFAULT_TIMEOUT = 60
"""Seconds that Orthanc gives a transfer where neither the peer's Timeout nor HttpTimeout say otherwise."""
STORE_RATE = 10 << 20
"""Bytes per second that a peer stores at least while it says nothing: a large instance is answered late."""
PROBE_SECONDS = 15.0
"""How long a peer may take to say that it is there."""
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
"""The authorities of the system, for a Python that was built without knowing where they are."""
LATER = frozenset([408, 425, 429, 502, 503, 504, 507])
"""Statuses that are about the server and pass: busy, starting, its disk full."""
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Gone(Enum):
    """What became of something that was to be deleted at a peer."""

    DELETED = "deleted"
    ABSENT = "absent"
    """It was not there any more."""
    REFUSED = "refused"
    """The peer lives, and does not delete it."""
    WAITS = "waits"
    """The peer does not answer, or not to us."""
    UNABLE = "unable"
    """Its settings are known to Orthanc alone, which deletes nothing at a peer."""


def tls(service: WebService, orthanc: Mapping[str, Any]) -> ssl.SSLContext:
    """Return how to judge a server's certificate, and which one to show: as Orthanc would, never less strictly.

    `orthanc` holds HttpsVerifyPeers and HttpsCACertificates. Raises OSError (ssl.SSLError) for certificates that cannot
    be read.
    """
    authorities = str(orthanc.get("HttpsCACertificates") or "")
    if authorities and not Path(authorities).is_absolute():
        raise FileNotFoundError(authorities)  # relative to the folder of the configuration, which Orthanc alone knows
    context = ssl.create_default_context(cafile=authorities or None)
    paths = ssl.get_default_verify_paths()
    if not authorities and not paths.cafile and not paths.capath and BUNDLE.is_file():
        context.load_verify_locations(BUNDLE)
    # As libcurl: a certificate among the authorities is trusted itself, and no later rule about their form applies.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if orthanc.get("HttpsVerifyPeers") is False:  # what the administrator has switched off for Orthanc
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if service.certificate is not None:
        # With a function, OpenSSL does not ask the terminal for a password that is missing.
        context.load_cert_chain(service.certificate, service.key, lambda: service.key_password)
    return context


def connect(service: WebService, orthanc: Mapping[str, Any]) -> OrthancClient | str:
    """Return a client for a server of Orthanc's configuration, or, as a code, why only Orthanc can speak to it."""
    if service.pkcs11:
        return "pkcs11"
    parts = urlsplit(service.url)
    host = parts.hostname or ""
    if orthanc.get("HttpProxy"):
        return "proxy"
    if urllib.request.getproxies().get(parts.scheme) and not urllib.request.proxy_bypass(host):
        return "proxy"
    # An empty value is how Orthanc's configuration takes a header of libcurl's away.
    headers = {name: value for name, value in service.headers.items() if value.strip()}
    if any(not _HEADER.fullmatch(name) for name in headers) or {"content-length", "transfer-encoding"} & {
        name.lower() for name in headers
    }:
        return "headers"
    user, password = service.username, service.password
    if not (user and password):
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
    authorization = None
    if user:
        authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    seconds = service.timeout or orthanc.get("HttpTimeout") or DEFAULT_TIMEOUT
    try:
        context = tls(service, orthanc) if parts.scheme == "https" else None
        return OrthancClient(url, authorization, timeout=float(seconds), tls=context, headers=headers)
    except OSError:
        return "certificates"
    except ValueError:
        return "address"


class Peers:
    """The peers of one Orthanc. Threads may share it."""

    def __init__(self, services: Mapping[str, WebService], orthanc: Mapping[str, Any], client: OrthancClient) -> None:
        """`orthanc` holds Orthanc's own settings, `client` speaks to it."""
        self._services = services
        self._settings = orthanc
        self._client = client
        self._lock = threading.Lock()
        self._known: dict[str, OrthancClient | str] = {}

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            for one in self._known.values():
                if isinstance(one, OrthancClient):
                    one.close()

    def _direct(self, name: str) -> OrthancClient | None:
        """Return the client of a peer, None where only Orthanc reaches it."""
        with self._lock:
            found = self._known.get(name)
            if found is None:
                service = self._services.get(name)
                found = connect(service, self._settings) if service else "not-configured"
                self._known[name] = found
                if isinstance(found, str):
                    log.info("a peer is reached through Orthanc", destination=f"peer:{name}", reason=found)
        return found if isinstance(found, OrthancClient) else None

    def indirect(self, name: str) -> str | None:
        """Return, as a code, why a peer is reached through Orthanc only; None where it is reached directly."""
        self._direct(name)
        found = self._known[name]
        return found if isinstance(found, str) else None

    # What it is asked

    def system(self, name: str) -> dict[str, Any]:
        """Return a peer's /system. Raises OrthancError: NotFound, Unavailable or Failed with the peer's status."""
        direct = self._direct(name)
        path = "/system" if direct else f"/peers/{_segment(name)}/system"
        found = (direct or self._client).ask("GET", path, timeout=PROBE_SECONDS).json()
        if not isinstance(found, dict):
            raise Failed("the peer's answer is none of an Orthanc", 200)
        return found

    def probe(self, name: str) -> Reply | None:
        """Ask a peer whether it is there and lets us in: None where it does, else the reply that stands for why not."""
        try:
            self.system(name)
        except Unavailable as problem:
            return Reply.UNTRUSTED if problem.untrusted else Reply.DOWN
        except OrthancError as problem:
            return Reply.UNAUTHORIZED if problem.status in (401, 403) else Reply.DOWN
        return None

    # What it is sent

    def to_peer(self, name: str, path: Path) -> tuple[Reply, bool]:
        """Send one file; return what the peer said, and whether any byte may have reached it.

        Only Success and AlreadyStored count: a peer that answers FilteredOut has kept nothing.
        """
        direct = self._direct(name)
        try:
            with path.open("rb") as file:
                if direct:
                    size = path.stat().st_size
                    answer = direct.send(
                        "POST",
                        "/instances",
                        file=file,
                        content_type="application/dicom",
                        timeout=direct.timeout + size / STORE_RATE,
                    )
                else:
                    answer = self._client.send(
                        "POST",
                        f"/peers/{_segment(name)}/store-straight",
                        file=file,
                        content_type="application/dicom",
                        timeout=TRANSFER_SECONDS,
                    )
        except Unavailable as problem:
            if direct is None:
                return Reply.LOCAL_DOWN, problem.left
            return self._broken(name, problem), problem.left
        return self._judged(name, answer, direct is not None)

    def _judged(self, name: str, answer: Answer, direct: bool) -> tuple[Reply, bool]:
        status = status_of(answer) if answer.status == 200 else None
        if status == "Success":
            return Reply.STORED, True
        if status == "AlreadyStored":
            return Reply.ALREADY, True
        if status is not None:  # FilteredOut, Failure: it has judged the instance and kept nothing
            return Reply.REFUSED, False
        if direct and answer.status in (401, 403):
            return Reply.UNAUTHORIZED, True
        if direct and (trouble := trouble_of(answer)):
            return trouble, True
        if direct and answer.status in LATER:
            return Reply.DOWN, True
        # A living Orthanc has judged the instance; whatever else answers there is none, or Orthanc says the same 500
        # for a refusal, a wrong password and a dead peer.
        return self.probe(name) or Reply.REFUSED, True

    def _broken(self, name: str, problem: Unavailable) -> Reply:
        """Return what it means that no whole answer came."""
        if problem.untrusted:
            return Reply.UNTRUSTED
        if not problem.left:
            return Reply.DOWN
        # Servers that want no body of ours may hang up in the middle of it, and an instance may be what kills one.
        return self.probe(name) or Reply.REFUSED

    def delete(self, name: str, level: str, orthanc_id: str) -> Gone:
        """Delete a resource at a peer; `level` is instances, series or studies."""
        direct = self._direct(name)
        if direct is None:
            return Gone.UNABLE
        try:
            direct.change("DELETE", f"/{level}/{_segment(orthanc_id)}")
        except NotFound:
            # Also what stands in front of an Orthanc answers 404: only an Orthanc knows that it has no such thing.
            return Gone.ABSENT if self.probe(name) is None else Gone.WAITS
        except Unavailable:
            return Gone.WAITS
        except OrthancError as problem:
            if problem.status in LATER or self.probe(name) is not None:
                return Gone.WAITS
            return Gone.REFUSED
        return Gone.DELETED
