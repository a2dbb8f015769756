"""Real Orthanc servers for the tests: a clinical one with the plugin, a research one as its peer.

Every server has free loopback ports and a folder of its own, and is stopped by its process id by whoever started it.
The environment says which Orthanc it is: `DEID_ORTHANC` is `machine` (default: that of the machine's packages) or the
Debian tree `trixie` or `sid` (tests/trees.py), whose own Python then runs the service.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pydicom
import pytest
import requests
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.presentation import build_context

CHECKOUT = Path(__file__).resolve().parent.parent
PLUGIN_SCRIPT = CHECKOUT / "plugin" / "orthanc_deid_plugin.py"

T = TypeVar("T")


def until(condition: Callable[[], T], seconds: float = 60, what: str = "the condition", every: float = 0.05) -> T:
    """Poll until `condition()` is true and return its value; a missed deadline fails and names what was awaited."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain for {what}; last seen: {value!r}")
        time.sleep(every)


_ports = itertools.count(random.SystemRandom().randrange(10_000))


def free_port() -> int:
    """Return a loopback port on which nobody listens, each time another.

    Below those that the kernel gives to outgoing connections (from 32768), so that none of these takes it meanwhile.
    """
    while True:
        port = 12_000 + next(_ports) % 20_000
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port


@dataclass(frozen=True)
class Source:
    """Where an Orthanc comes from: paths as the server sees them, and how a command is started there."""

    name: str
    orthanc: str
    plugins: Path
    python: str
    command: Callable[[list[str], list[Path]], list[str]]


@functools.cache
def source() -> Source:
    """Return the Orthanc that this run is for; a sid that Debian cannot install today skips the test, saying so."""
    name = os.environ.get("DEID_ORTHANC", "machine")
    if name == "machine":
        plugins = Path("/usr/share/orthanc/plugins")
        orthanc = next((p for p in ("/usr/sbin/Orthanc", "/usr/bin/Orthanc") if Path(p).exists()), "")
        if not orthanc or not (plugins / "libOrthancPython.so").exists():
            raise AssertionError("no Orthanc with its Python plugin on this machine; ./test, run as root, installs it")
        return Source(name, orthanc, plugins, sys.executable, lambda argv, binds: argv)
    from tests import trees

    try:
        tree = trees.prepare(name)
    except trees.TreeUnavailable as error:
        pytest.skip(str(error))
    return Source(
        name, tree.orthanc, Path(tree.plugins), tree.python, lambda argv, binds: tree.command(argv, binds=binds)
    )


class Orthanc:
    """One server: started, stopped, killed and restarted by the test; a small client for what tests ask of it."""

    def __init__(self, folder: Path, name: str, configuration: Mapping[str, Any], plugins: Sequence[str] = ()) -> None:
        self.folder = folder
        self.name = name
        self.http_port, self.dicom_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        self.log = folder / "orthanc.log"
        self.source = source()
        self.configuration: dict[str, Any] = {
            "Name": name,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "TemporaryDirectory": str(folder / "tmp"),
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": name.upper(),
            "DicomCheckCalledAet": False,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "StableAge": 2,
            "Plugins": [str(self.source.plugins / plugin) for plugin in plugins],
            "DicomWeb": {"Enable": True},
            **configuration,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of Orthanc itself, in a tree too."""
        assert self.process is not None, "not started"
        return self.process.pid

    def launch(self) -> None:
        """Start the process and return at once."""
        assert not self.running, f"{self.name} runs already"
        for part in ("storage", "tmp"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(self.configuration, indent=1))
        # If this process dies without any clean-up, the kernel ends the server too.
        argv = ["/usr/bin/setpriv", "--pdeathsig", "KILL", self.source.orthanc, str(path)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.source.command(argv, [self.folder]), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def start(self, seconds: float = 60) -> Orthanc:
        """Start and wait until the server answers."""
        self.launch()
        until(lambda: self.answers() or not self.running, seconds, f"{self.name} to answer")
        if not self.running:
            raise AssertionError(f"{self.name} ended with {self.pid and self.process.returncode}:\n{self.tail()}")  # type: ignore[union-attr]
        return self

    def stop(self, seconds: float = 10) -> float:
        """Stop as an administrator would (SIGTERM) and return how long it took; longer than `seconds` fails."""
        assert self.process is not None, "not started"
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not stop within {seconds:g} s of SIGTERM:\n{self.tail()}") from None
        return time.monotonic() - began

    def kill(self) -> None:
        """End the process with SIGKILL, as a power failure would."""
        assert self.process is not None, "not started"
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Make sure that nothing of it runs any more, whatever the test did.

        With the plugin it stops in order, which may never hang; a plain one, of which nothing is wanted any more, is
        killed, which takes two seconds less.
        """
        if self.running:
            try:
                if "PythonScript" in self.configuration:
                    self.stop(20)
            finally:
                if self.running:
                    self.kill()

    def tail(self, lines: int = 30) -> str:
        """The end of the server's log."""
        return (
            "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else "(no log)"
        )

    # REST

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """One request on a connection of its own; never raises for a status."""
        options.setdefault("timeout", 60)
        options.setdefault("auth", next(iter(self.configuration.get("RegisteredUsers", {}).items()), None))
        headers = {"Accept-Encoding": "identity", "Connection": "close", **options.pop("headers", {})}
        return requests.request(method, self.url + path, headers=headers, **options)

    def _ok(self, method: str, path: str, **options: Any) -> requests.Response:
        response = self.request(method, path, **options)
        assert response.ok, f"{method} {path}: {response.status_code} {response.text[:500]}"
        return response

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        return self._ok("GET", path).json()

    def get_bytes(self, path: str) -> bytes:
        """The bytes at a path."""
        return self._ok("GET", path).content

    def post(self, path: str, body: Any = None) -> Any:
        """Post JSON, or bytes as they are; return the JSON of the answer."""
        options = {"data": body} if isinstance(body, bytes) else {"json": {} if body is None else body}
        response = self._ok("POST", path, **options)
        return response.json() if response.content else None

    def delete(self, path: str) -> None:
        """Delete what stands at a path."""
        self._ok("DELETE", path)

    def answers(self) -> bool:
        """Whether the server answers REST."""
        try:
            return self.request("GET", "/system", timeout=5).ok
        except requests.RequestException:
            return False

    def instances(self) -> set[str]:
        """Orthanc's ids of all instances it holds."""
        return set(self.get("/instances"))

    def file(self, instance: str) -> bytes:
        """The stored DICOM file of one instance."""
        return self.get_bytes(f"/instances/{instance}/file")

    def datasets(self) -> list[Dataset]:
        """Every instance it holds, parsed."""
        return [pydicom.dcmread(io.BytesIO(self.file(instance))) for instance in sorted(self.instances())]

    # The plugin

    def health(self) -> dict[str, Any]:
        """What the plugin says of the service; {} while Orthanc does not answer."""
        try:
            response = self.request("GET", "/deid/health", timeout=10)
        except requests.RequestException:
            return {}
        return dict(response.json()) if response.ok else {}

    def wait_ready(self, seconds: float = 60) -> dict[str, Any]:
        """Wait until the service behind the plugin is ready; return its health."""
        return until(
            lambda: (health := self.health()).get("Status") == "ok" and health, seconds, f"the service ({self.tail(5)})"
        )  # type: ignore[return-value]

    @property
    def service_pid(self) -> int:
        """The process id of the service that the plugin runs now."""
        return int(self.wait_ready()["Pid"])

    # Ways in

    def store(self, data: bytes) -> dict[str, Any]:
        """Send one instance by REST; Orthanc's answer (ID, Status, …)."""
        return dict(self.post("/instances", data))

    def stow(self, files: Iterable[bytes]) -> None:
        """Send instances by DICOMweb (STOW-RS)."""
        boundary = uuid.uuid4().hex
        parts = [f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + data + b"\r\n" for data in files]
        self._ok(
            "POST",
            "/dicom-web/studies",
            data=b"".join(parts) + f"--{boundary}--\r\n".encode(),
            headers={
                "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                "Accept": "application/dicom+json",
            },
        )

    def c_store(
        self, files: Iterable[bytes | Path | Dataset], calling: str = "MODALITY", called: str | None = None
    ) -> list[int]:
        """Send instances by C-STORE over one association; the status of each (0 is success)."""
        datasets = [
            f if isinstance(f, Dataset) else pydicom.dcmread(io.BytesIO(f) if isinstance(f, bytes) else f)
            for f in files
        ]
        pairs = sorted({(d.file_meta.MediaStorageSOPClassUID, d.file_meta.TransferSyntaxUID) for d in datasets})
        entity = AE(ae_title=calling)
        association = entity.associate(
            "127.0.0.1",
            self.dicom_port,
            ae_title=called or self.configuration["DicomAet"],
            contexts=[build_context(*pair) for pair in pairs],
        )
        assert association.is_established, f"{self.name} refused the association"
        try:
            return [int(association.send_c_store(dataset).get("Status", -1)) for dataset in datasets]
        finally:
            association.release()


def deid_section(**changes: Any) -> dict[str, Any]:
    """The `Deid` section of most tests: project `lung` takes everything and sends each instance to `research`."""
    project = {
        "Profile": "basic",
        "Match": {"StudyInstanceUID": ".+"},
        "Destinations": [{"Peer": "research"}],
        "Release": "instance",
        "QuietSeconds": 1,
    }
    return {"Python": source().python, "Workers": 1, "Projects": {"lung": project}, **changes}


@contextlib.contextmanager
def research_orthanc(folder: Path, **configuration: Any) -> Iterator[Orthanc]:
    """A plain Orthanc that receives research studies; `configuration` goes over the defaults."""
    server = Orthanc(folder, "research", configuration, ["libOrthancDicomWeb.so"])
    try:
        yield server.start()
    finally:
        server.close()


@contextlib.contextmanager
def clinical_orthanc(
    folder: Path,
    peers: Mapping[str, Orthanc | str] | None = None,
    deid: Mapping[str, Any] | None = None,
    *,
    plugin: bool = True,
    ready: bool = True,
    start: bool = True,
    **configuration: Any,
) -> Iterator[Orthanc]:
    """The hospital's Orthanc, with the plugin unless `plugin` is False, and `peers` by name (servers, or addresses).

    `deid` is the whole Deid section (default `deid_section()`); the service's files are in `folder/orthanc-deid`. It is
    yielded when the service is ready, with `ready=False` as soon as Orthanc answers, with `start=False` not started.
    """
    addresses = {k: [v.url + "/" if isinstance(v, Orthanc) else v] for k, v in (peers or {}).items()}
    own: dict[str, Any] = {"OrthancPeers": addresses}
    libraries = ["libOrthancDicomWeb.so"]
    if plugin:
        libraries.append("libOrthancPython.so")
        own |= {"PythonScript": str(PLUGIN_SCRIPT), "Deid": dict(deid if deid is not None else deid_section())}
    server = Orthanc(folder, "clinical", own | configuration, libraries)
    try:
        if start:
            server.start()
            if plugin and ready:
                server.wait_ready()
        yield server
    finally:
        server.close()
