"""The part of orthanc-deid that runs inside Orthanc: it starts and watches the service, and hands requests on to it.

It needs nothing but the standard library, so any interpreter that Orthanc embeds will do; it touches neither pixels nor
keys nor the database. Nothing here may wait while Orthanc holds one of its locks, and nothing may store: the work is
done by the service, a process of its own that speaks HTTP. When that is down, Orthanc goes on storing; when the
configuration is wrong, Orthanc does not start.

Orthanc tells of new instances through OnChange, which runs on a thread of its own. OnStoredInstance would tell the same
inside the ingest, under a lock of the whole process that each sender then waits for.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import orthanc

HERE = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "orthanc_deid" / "__init__.py").read_text())[1]  # type: ignore[index]

# What the service needs of Orthanc's own configuration, as it stands there; the passwords of its users stay here.
SETTINGS = (
    *("Name", "DicomAet", "HttpPort", "HttpServerEnabled", "SslEnabled", "SslCertificate", "SslVerifyPeers"),
    *("StorageDirectory", "StoreDicom", "StoreMD5ForAttachments", "OverwriteInstances", "IngestTranscoding"),
    *("MaximumStorageSize", "MaximumPatientCount", "MaximumStorageMode"),
    *("OrthancPeersInDatabase", "DicomModalitiesInDatabase"),
    *("HttpTimeout", "HttpProxy", "HttpsVerifyPeers", "HttpsCACertificates"),
    *("DicomServerEnabled", "DicomPort", "DicomScuTimeout", "MaximumPduLength", "DicomScuPreferredTransferSyntax"),
    *("DicomTlsEnabled", "DicomTlsCertificate", "DicomTlsPrivateKey", "DicomTlsTrustedCertificates"),
    *("DicomTlsRemoteCertificateRequired", "DicomTlsMinimumProtocolVersion", "DicomTlsCiphersAccepted"),
)
PASSED_ON = (
    *("content-type", "accept", "host", "origin", "referer"),
    *("sec-fetch-site", "sec-fetch-mode", "x-forwarded-host", "x-forwarded-proto"),
)
ANSWERED = ("Cache-Control", "Content-Disposition", "Content-Security-Policy", "Location", "Referrer-Policy")
EX_CONFIG = 78  # of sysexits.h: what `check` and `serve` answer when the configuration is wrong
CHECK_SECONDS = 120
FORWARD_SECONDS = 300
TOKEN_LENGTH = 32  # characters of the token of a service elsewhere, at least
STOP_SECONDS = 6.0  # of the ten that an administrator grants Orthanc
SHORTEST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # between two starts of a service that dies
YOUNG_SECONDS = 60  # a folder younger than this may be about to be held
STEADY_SECONDS = 60  # after which a service counts as one that runs, and its next death as the first
FOLDERS = "orthanc-deid-"  # how the folders of sockets begin, in /tmp
NUDGE_SECONDS = 0.3  # between two nudges; in a stream of arrivals the service looks by itself


@contextlib.contextmanager
def socket_folder() -> Iterator[Path]:
    """Make the folder of a service's socket, hold it as ours while the service runs, and remove it.

    Short, since the path of a socket may have 107 bytes, and private (0700), since the socket itself is not.
    """
    folder = Path(tempfile.mkdtemp(prefix=FOLDERS, dir="/tmp"))
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def remove_dead_folders() -> None:
    """Remove what is left of those whose Orthanc was killed together with its service: our own, and held by nobody."""
    for folder in Path("/tmp").glob(FOLDERS + "*"):
        with contextlib.suppress(OSError):  # another's, in use, or with something in it that is no socket of ours
            held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                status = os.fstat(held)
                if status.st_uid != os.getuid() or time.time() - status.st_mtime < YOUNG_SECONDS:
                    continue
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (folder / "s").is_socket():
                    (folder / "s").unlink()
                (folder / "why").unlink(missing_ok=True)
                folder.rmdir()
            finally:
                os.close(held)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the service's Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Service:
    """The service's process: started when Orthanc has started, started again whenever it ends, stopped with Orthanc."""

    def __init__(self, configuration: dict[str, Any]) -> None:
        section = configuration.get("Deid")
        python = section.get("Python") if isinstance(section, dict) else None
        beside = [HERE / "venv/bin/python", HERE.parent / ".venv/bin/python"]
        self._python = str(python or next((path for path in beside if path.exists()), "python3"))
        self._secret = secrets.token_hex(32)
        dicomweb = configuration.get("DicomWeb")
        # Goes through a pipe, never through arguments or the environment: it holds the passwords of the destinations.
        self._setup = {
            "Deid": section,
            "Orthanc": {key: configuration[key] for key in SETTINGS if key in configuration},
            "Peers": configuration.get("OrthancPeers"),
            "Modalities": configuration.get("DicomModalities"),
            "DicomWeb": dicomweb.get("Servers") if isinstance(dicomweb, dict) else None,
            "Authorization": orthanc.GenerateRestApiAuthorizationToken(),
            "Secret": self._secret,
        }
        self._environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONSTARTUP")}
        # The package beside this script is the one that runs; nothing is ever imported from the working directory.
        self._environment |= {"PYTHONPATH": str(HERE), "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
        self.gateway: dict[str, Any] | None = None
        """Settings of gateway mode, as `check` told them; None: it is off."""
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._threads: list[threading.Thread] = []
        self.restarts = 0
        self._why = ""
        self.detail = "Orthanc is starting"

    def _command(self, command: str) -> list[str]:
        return [self._python, "-m", "orthanc_deid", command, "--config", "-"]

    def check(self) -> None:
        """Let the service's own code judge the configuration; each fault goes to the log. Raises RuntimeError."""
        errors = self._faults()
        for line in errors:
            orthanc.LogError(f"orthanc-deid: {line}")
        if errors:
            raise RuntimeError("orthanc-deid: the configuration is wrong; each error is on the log")

    def _faults(self) -> list[str]:
        if not isinstance(self._setup["Deid"], dict):
            return ["Deid: the section is missing in Orthanc's configuration, or not an object"]
        try:
            done = subprocess.run(
                self._command("check"),
                input=json.dumps(self._setup).encode(),
                capture_output=True,
                timeout=CHECK_SECONDS,
                env=self._environment,
                check=False,
            )
        except OSError as error:
            return [f"Deid.Python: {self._python} cannot be run ({error.strerror})"]
        except subprocess.TimeoutExpired:
            return [f"Deid.Python: the check of the configuration did not end within {CHECK_SECONDS} s"]
        if done.returncode == 0:
            return self._read_gateway(done.stdout.decode(errors="replace"))
        told = done.stderr.decode(errors="replace").splitlines()
        if done.returncode != EX_CONFIG:
            # A traceback: mostly an interpreter that is too old, or has none of the packages.
            return [f"Deid.Python: {self._python} cannot run the service ({told[-1] if told else done.returncode})"]
        return told

    def _read_gateway(self, told: str) -> list[str]:
        """Take the settings of gateway mode from what `check` has printed."""
        lines = [line.removeprefix("gateway: ") for line in told.splitlines() if line.startswith("gateway: ")]
        self.gateway = json.loads(lines[0]) if lines else None
        if (self.gateway is None) != (self._setup["Deid"].get("Gateway") is None):
            return ["Deid.Gateway: plugin and service do not agree on it; install both in the same version"]
        return []

    # Life

    def start(self) -> None:
        """Begin to run the service; returns at once."""
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._supervise, self._pass_news)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the service and the threads: asked first, then made to."""
        self._stopping.set()
        self._news.set()
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        if process is not None:
            self._sweep(process)

    def _supervise(self) -> None:
        remove_dead_folders()
        pause = SHORTEST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                code = self._run()
                how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                self.detail = f"the service ended ({how}){self._why and ': '}{self._why}"
            except OSError as error:
                self.detail = f"the service cannot be started ({error.strerror})"
            if self._stopping.is_set():
                return
            pause = SHORTEST_PAUSE if time.monotonic() - began > STEADY_SECONDS else min(pause * 2, LONGEST_PAUSE)
            self.restarts += 1
            orthanc.LogError(f"orthanc-deid: {self.detail}; started again in {pause:g} s, Orthanc goes on storing")
            self._stopping.wait(pause)

    def _run(self) -> int:
        """Run the service once, until it ends; return its exit code."""
        with socket_folder() as folder:
            self._folder = folder
            return self._run_in(folder)

    def _run_in(self, folder: Path) -> int:
        setup = {**self._setup, "Socket": str(folder / "s")}
        # A session of its own: what it leaves behind when it dies can be ended as a group.
        process = subprocess.Popen(
            self._command("serve"), stdin=subprocess.PIPE, env=self._environment, start_new_session=True
        )
        self._process = process
        self._why = ""
        self.detail = "the service does not answer yet"
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                # Stays open: its end tells the service that Orthanc is gone, whatever ended it.
                process.stdin.write(json.dumps(setup).encode() + b"\n")
                process.stdin.flush()
            if self._stopping.is_set():
                process.terminate()
            code = process.wait()
            with contextlib.suppress(OSError):
                self._why = (folder / "why").read_text(encoding="utf-8", errors="replace")[:1000]
            return code
        finally:
            self._process = None
            self._sweep(process)
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]

    @staticmethod
    def _sweep(process: subprocess.Popen[bytes]) -> None:
        """End whatever is left of a service and its workers."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    # Speaking with it

    def ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send one request to the service. Raises OSError or HTTPException when nobody answers."""
        folder = self._folder
        if self._process is None or folder is None:
            raise ConnectionRefusedError(self.detail)
        connection = UnixConnection(folder / "s", timeout)
        try:
            connection.request(method, path, body, {**headers, "X-Deid-Secret": self._secret})
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def nudge(self) -> None:
        """Something was stored: let the service look. Never waits."""
        self._news.set()

    def _pass_news(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            if self._stopping.is_set():
                return
            # A service that is not there needs no nudge: it looks at everything when it starts.
            with contextlib.suppress(OSError, http.client.HTTPException):
                self.ask("POST", "/deid/internal/nudge", None, {}, 10)
            self._stopping.wait(NUDGE_SECONDS)

    def health(self) -> dict[str, Any]:
        """How plugin and service are; answered whether or not the service is there."""
        health: dict[str, Any] = {"Status": "down", "Service": None, "Pid": None, "Restarts": self.restarts}
        health["Version"] = VERSION
        if GATEWAY is not None:
            health["Gateway"] = GATEWAY.health()
        process = self._process
        if process is not None:
            health |= {"Status": "starting", "Pid": process.pid}
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                response, body = self.ask("GET", "/deid/health", None, {}, 5)
                if response.status == 200:
                    health |= {"Status": "ok", "Service": json.loads(body)}
        if health["Status"] == "down":
            health["Detail"] = self.detail
        return health


class RemoteService(Service):
    """A service that runs elsewhere, and that others start and stop: requests are handed on over TLS or the loopback.

    What is wrong with its configuration is its own affair; here only the way to it is judged.
    """

    def __init__(self, configuration: dict[str, Any]) -> None:
        super().__init__(configuration)
        self._section: dict[str, Any] = configuration["Deid"]
        self._url = urlsplit(str(self._section.get("Service")))
        self._tls: ssl.SSLContext | None = None
        self.detail = "the service does not answer"

    def _faults(self) -> list[str]:
        faults = []
        try:
            if self._url.scheme not in ("http", "https") or not self._url.hostname or self._url.port is None:
                faults.append("Deid.Service: has to be 'spawn', or a URL of a service: https://host:port")
            elif self._url.scheme == "http" and self._url.hostname not in ("127.0.0.1", "::1", "localhost"):
                faults.append("Deid.Service: http:// is for the loopback; give https://")
        except ValueError:
            faults.append("Deid.Service: the port is not a number")
        try:
            self._secret = Path(str(self._section.get("ServiceTokenFile"))).read_text(encoding="utf-8").strip()
            if len(self._secret) < TOKEN_LENGTH:
                faults.append(f"Deid.ServiceTokenFile: the token has to have at least {TOKEN_LENGTH} characters")
        except OSError as error:
            faults.append(f"Deid.ServiceTokenFile: it cannot be read ({error.strerror})")
        try:
            self._tls = ssl.create_default_context(cafile=self._section.get("ServiceCa"))
        except (OSError, ssl.SSLError):
            faults.append("Deid.ServiceCa: it cannot be read as certificates")
        return faults

    def start(self) -> None:
        """Begin to pass news on."""
        self._threads = [threading.Thread(target=self._pass_news, daemon=True)]
        self._threads[0].start()

    def ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send one request to the service. Raises OSError or HTTPException when nobody answers."""
        host, port = str(self._url.hostname), self._url.port
        connection: http.client.HTTPConnection
        if self._url.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=self._tls)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        # The host that was asked for is Orthanc's: the service compares it with the page that a request came from.
        given = {name: value for name, value in headers.items() if name.lower() != "host"}
        try:
            connection.putrequest(method, path, skip_host="host" in headers, skip_accept_encoding=True)
            if "host" in headers:
                connection.putheader("Host", headers["host"])
            for name, value in {**given, "X-Deid-Secret": self._secret}.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def health(self) -> dict[str, Any]:
        """How the service is; answered whether or not it is there."""
        health: dict[str, Any] = {"Status": "down", "Service": None, "Pid": None, "Restarts": 0, "Version": VERSION}
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            response, body = self.ask("GET", "/deid/health", None, {}, 5)
            if response.status == 200:
                return health | {"Status": "ok", "Service": json.loads(body)}
            health["Detail"] = f"the service answered with status {response.status}"
        return {"Detail": self.detail, **health}


def answer(output: Any, status: int, body: bytes, content_type: str | None = "application/json") -> None:
    """Answer a request of Orthanc's. Other statuses than 200 take another call, which differs between its versions."""
    if status == 200:
        output.AnswerBuffer(body, content_type)
        return
    try:
        # Orthanc calls this text/plain, and would send a Content-Type of ours as a second one.
        output.SendHttpStatus(status, body)
    except TypeError:  # plugin 4.0, which sends no Content-Type of its own
        if body and content_type:
            output.SetHttpHeader("Content-Type", content_type)
        output.SendHttpStatus(status, body.decode("utf-8", errors="replace"), len(body))


def on_health(output: Any, uri: str, **request: Any) -> None:
    """GET /deid/health, which works while the service is down."""
    if request["method"] != "GET":
        output.SendMethodNotAllowed("GET")
        return
    answer(output, 200, json.dumps(SERVICE.health()).encode())


def on_request(output: Any, uri: str, **request: Any) -> None:
    """Hand a request on to the service and its answer back."""
    if uri == "/deid/internal" or uri.startswith("/deid/internal/"):
        answer(output, 404, b'{"error": "not found", "detail": "there is no such route"}')
        return
    # Before 1.13 Orthanc hands the values of a query over as they came, since then decoded: what is encoded stays so.
    given = request.get("get") or {}
    query = "&".join(f"{quote(name, safe='%')}={quote(text, safe='%,:')}" for name, text in given.items())
    path = quote(uri, safe="/:@!$&'()*+,;=~-._") + ("?" + query if query else "")
    lower = {name.lower(): value for name, value in request["headers"].items()}
    headers = {name: lower[name] for name in PASSED_ON if name in lower}
    body = request.get("body") if request["method"] in ("POST", "PUT") else None
    if isinstance(body, str):
        body = body.encode()
    try:
        response, content = SERVICE.ask(request["method"], path, body, headers, FORWARD_SECONDS)
    except (OSError, http.client.HTTPException):
        detail = {
            "error": "service unavailable",
            "detail": SERVICE.health().get("Detail", "the service does not answer"),
        }
        answer(output, 503, json.dumps(detail).encode())
        return
    for name in ANSWERED:
        if value := response.headers.get(name):
            output.SetHttpHeader(name, value)
    output.SetHttpHeader("X-Content-Type-Options", "nosniff")
    answer(output, response.status, content, response.headers.get("Content-Type"))


def on_change(change: int, level: int, resource: str) -> None:
    """Orthanc's own events; nothing here waits, but for the end of the service when Orthanc ends."""
    if change == orthanc.ChangeType.NEW_INSTANCE:
        SERVICE.nudge()
    elif change == orthanc.ChangeType.ORTHANC_STARTED:
        SERVICE.start()
        if GATEWAY is not None:
            GATEWAY.start()
    elif change == orthanc.ChangeType.ORTHANC_STOPPED:
        SERVICE.stop()
        if GATEWAY is not None:
            GATEWAY.stop()


def begin_gateway() -> Any:
    """Put gateway mode between the senders and Orthanc's storage. Raises RuntimeError where that is not possible.

    Without the callbacks Orthanc would store originals and say nothing: so then it must not start.
    """
    needed = ("RegisterReceivedInstanceCallback", "RegisterIncomingCStoreInstanceFilter", "ReceivedInstanceAction")
    if missing := [name for name in needed if not hasattr(orthanc, name)]:
        raise RuntimeError(
            f"orthanc-deid: Deid.Gateway: this version of Orthanc or its Python plugin has no {missing[0]}"
        )
    spec = importlib.util.spec_from_file_location("orthanc_deid_gateway", HERE / "orthanc_deid" / "gateway.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    try:
        begun = module.Gateway(
            SERVICE.gateway,
            orthanc.ReceivedInstanceAction,
            orthanc.InstanceOrigin,
            SERVICE.nudge,
            lambda text: orthanc.LogError(f"orthanc-deid: {text}"),
        )
    except OSError as error:
        raise RuntimeError(f"orthanc-deid: Deid.Gateway.Spool: cannot be used ({error.strerror})") from None
    orthanc.RegisterReceivedInstanceCallback(begun.received)
    orthanc.RegisterIncomingCStoreInstanceFilter(begun.by_dicom)
    return begun


def service(configuration: dict[str, Any]) -> Service:
    """Return the service of a configuration: one of our own, unless the section names where another one is."""
    section = configuration.get("Deid")
    elsewhere = isinstance(section, dict) and section.get("Service", "spawn") != "spawn"
    return RemoteService(configuration) if elsewhere else Service(configuration)


SERVICE = service(json.loads(orthanc.GetConfiguration()))
SERVICE.check()
GATEWAY = None if SERVICE.gateway is None else begin_gateway()
orthanc.RegisterOnChangeCallback(on_change)
orthanc.RegisterRestCallback("/deid/health", on_health)
orthanc.RegisterRestCallback("/deid/(?!health$).*", on_request)
orthanc.RegisterRestCallback("/(patients|studies|series|instances)/[^/]+/deidentify", on_request)
orthanc.ExtendOrthancExplorer((HERE / "explorer.js").read_text(encoding="utf-8"))
orthanc.LogWarning(f"orthanc-deid {VERSION}: the configuration is valid")
