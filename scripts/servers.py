"""Starts the two Orthancs of ./run, sends the sample, and tells what became of it. Standard library only.

Whatever ends this program ends the servers: a signal, an error, or its own death (the kernel tells them).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
PLUGINS = Path("/usr/share/orthanc/plugins")
SAMPLES = CHECKOUT / "samples"
SETTLED = frozenset(
    [
        "confirmed",
        "quarantined",
        "rejected",
        "refused",
        "conflict",
        "source-lost",
        "excluded",
        "cancelled",
        "superseded",
    ]
)
START_SECONDS = 120
CONFIRM_SECONDS = 240

PORTS = {"DEID_HTTP_PORT": 8042, "DEID_DICOM_PORT": 4242, "PEER_HTTP_PORT": 8043, "PEER_DICOM_PORT": 4243}


class Failure(Exception):
    """The run ends with exit status 1, and this text."""


def say(text: str = "") -> None:
    """Tell the person at the terminal."""
    print(text, flush=True)


def ports() -> dict[str, int]:
    """Read the ports from the environment and make sure that each is free. Raises Failure."""
    chosen = {}
    for name, default in PORTS.items():
        text = os.environ.get(name) or str(default)
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise Failure(f"{name}: {text} is not a port")
        chosen[name] = int(text)
    for name, port in chosen.items():
        same = [other for other, number in chosen.items() if number == port and other != name]
        if same:
            raise Failure(f"{name} and {same[0]} are both {port}")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError as error:
                raise Failure(f"port {port} cannot be used ({error.strerror}): choose another with {name}=…") from None
    return chosen


class Orthanc:
    """One server and its folder."""

    def __init__(self, name: str, folder: Path, http_port: int, dicom_port: int, more: Mapping[str, Any]) -> None:
        self.name, self.folder, self.http_port, self.dicom_port = name, folder, http_port, dicom_port
        self.url = f"http://127.0.0.1:{http_port}"
        self.log = folder / "orthanc.log"
        self.process: subprocess.Popen[bytes] | None = None
        configuration = folder / "configuration"
        shutil.rmtree(configuration, ignore_errors=True)
        configuration.mkdir(parents=True)
        (folder / "storage").mkdir(exist_ok=True)
        for part in (name, "deid") if name == "clinical" else (name,):
            shutil.copy(CHECKOUT / "orthanc-config" / f"{part}.json", configuration)
        own = {
            "HttpPort": http_port,
            "DicomPort": dicom_port,
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            **more,
        }
        (configuration / "run.json").write_text(json.dumps(own, indent=2))

    def start(self) -> None:
        """Start the server and wait until it answers. Raises Failure with the end of its log."""
        say(f"starting the {self.name} Orthanc …")
        program = "/usr/sbin/Orthanc" if Path("/usr/sbin/Orthanc").exists() else "Orthanc"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                # A session of its own: Ctrl-C reaches this program only, which then stops the servers in order.
                ["setpriv", "--pdeathsig", "KILL", program, str(self.folder / "configuration")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait(lambda: self.get("/system", quiet=True) is not None, "answers")

    def wait(self, condition: Any, what: str) -> None:
        """Poll until something holds of this server. Raises Failure with the end of its log."""
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if not self.alive or time.monotonic() > deadline:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                ended = "has ended" if not self.alive else f"has not come to where it {what} in {START_SECONDS} s"
                raise Failure(f"the {self.name} Orthanc {ended}; the end of {self.log}:\n{tail}")
            time.sleep(0.1)

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Ask it to stop, then make it."""
        if self.process is None:
            return
        if self.alive:
            say(f"stopping the {self.name} Orthanc …")
            self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str, quiet: bool = False) -> Any:
        """Ask for JSON; with `quiet`, None when there is no answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return json.load(answer)
        except (OSError, http.client.HTTPException, ValueError):
            if quiet:
                return None
            raise


def service(clinical: Orthanc) -> dict[str, Any]:
    """The health of the service itself; {} while it is not there."""
    return (clinical.get("/deid/health", quiet=True) or {}).get("Service") or {}


def send(folder: Path, clinical: Orthanc) -> None:
    """Send a folder by C-STORE, as a modality would. Raises Failure."""
    say(f"sending {folder} by C-STORE to port {clinical.dicom_port} …")
    options = ["--quiet", "--scan-directories", "--recurse", "--no-halt", "--aetitle", "MODALITY", "--call", "CLINICAL"]
    done = subprocess.run(["dcmsend", *options, "127.0.0.1", str(clinical.dicom_port), str(folder)], check=False)
    if done.returncode:
        raise Failure(f"dcmsend ended with {done.returncode}")


def wait_until_settled(clinical: Orthanc) -> dict[str, int]:
    """Wait until the service has seen everything that is stored now, and nothing is under way; tell the progress."""
    stored = clinical.get("/changes?last")["Last"]
    deadline = time.monotonic() + CONFIRM_SECONDS
    said = ""
    while True:
        health = service(clinical)
        states: dict[str, int] = health.get("States", {})
        now = ", ".join(f"{number} {state}" for state, number in sorted(states.items())) or "nothing yet"
        if now != said:
            say(f"  {now}")
            said = now
        if health.get("LastChange", -1) >= stored and SETTLED.issuperset(states):
            return states
        if not clinical.alive:
            raise Failure(f"the clinical Orthanc has ended; see {clinical.log}")
        if time.monotonic() > deadline:
            raise Failure(f"after {CONFIRM_SECONDS} s the sample is not settled: {now}")
        time.sleep(0.25)


def held(clinical: Orthanc) -> dict[str, int]:
    """How many instances are held, by reason."""
    reasons: dict[str, int] = {}
    for row in clinical.get("/deid/quarantine?limit=1000"):
        reasons[row["Reason"]] = reasons.get(row["Reason"], 0) + 1
    return reasons


def summary(clinical: Orthanc, research: Orthanc, states: Mapping[str, int], bundled: bool) -> bool:
    """Print what became of the sample; whether all of it is as it has to be."""
    reasons = held(clinical)
    statistics = {server: server.get("/statistics") for server in (clinical, research)}
    at_peer = statistics[research]["CountInstances"]
    rows: list[tuple[str, object, object]] = [("confirmed by the peer", states.get("confirmed", 0), at_peer)]
    if bundled:
        wanted = json.loads((SAMPLES / "expected.json").read_text())
        reasons_wanted: dict[str, int] = {}
        for reason in wanted["held_files"].values():
            reasons_wanted[reason] = reasons_wanted.get(reason, 0) + 1
        rows += [
            ("confirmed, of the sample", states.get("confirmed", 0), wanted["confirmed"]),
            ("patients at the peer", statistics[research]["CountPatients"], wanted["patients"]),
            ("studies at the peer", statistics[research]["CountStudies"], wanted["studies"]),
            *((f"held: {reason}", reasons.get(reason, 0), number) for reason, number in reasons_wanted.items()),
            ("held for other reasons", sum(n for r, n in reasons.items() if r not in reasons_wanted), 0),
        ]
    else:
        rows += [(f"held: {reason}", number, number) for reason, number in sorted(reasons.items())]
    for state in sorted(SETTLED - {"confirmed", "quarantined", "superseded"}):
        if states.get(state):
            rows.append((state, states[state], 0))
    say()
    say(f"{'':32}{'is':>8}{'must be':>10}")
    for what, number, must in rows:
        say(f"{what:32}{number!s:>8}{must!s:>10}{'' if number == must else '   WRONG'}")
    say()
    return all(number == must for _, number, must in rows)


def addresses(clinical: Orthanc, research: Orthanc) -> None:
    """Tell where everything is."""
    say()
    say(f"clinical Orthanc   {clinical.url}/app/explorer.html   DICOM: CLINICAL at port {clinical.dicom_port}")
    say(f"research Orthanc   {research.url}/app/explorer.html   DICOM: RESEARCH at port {research.dicom_port}")
    say(
        f"orthanc-deid       {clinical.url}/deid/health   {clinical.url}/deid/projects   {clinical.url}/deid/quarantine"
    )
    say(f"logs and data      {clinical.folder.parent}")
    say()


def run(once: bool) -> bool:
    """Start, send, and wait: for the outcome with `once`, else for a signal."""
    chosen = ports()
    data = Path(os.environ.get("DEID_DATA") or CHECKOUT / ".data").absolute()
    sample = Path(os.environ.get("DEID_SAMPLE") or SAMPLES / "files").absolute()
    if not sample.is_dir():
        raise Failure(f"DEID_SAMPLE: {sample} is not a folder")
    if once and "DEID_DATA" not in os.environ:
        # What is counted at the end is this run's alone.
        data = data / "once"
        shutil.rmtree(data, ignore_errors=True)
    python = {"Python": sys.executable}
    research = Orthanc("research", data / "research", chosen["PEER_HTTP_PORT"], chosen["PEER_DICOM_PORT"], {})
    more = {
        "Plugins": [str(PLUGINS / "libOrthancPython.so"), str(PLUGINS / "libOrthancDicomWeb.so")],
        "PythonScript": str(CHECKOUT / "plugin" / "orthanc_deid_plugin.py"),
        "OrthancPeers": {"research": [research.url + "/"]},
    }
    clinical = Orthanc("clinical", data / "clinical", chosen["DEID_HTTP_PORT"], chosen["DEID_DICOM_PORT"], more)
    deid = json.loads("".join(_without_comments(CHECKOUT / "orthanc-config" / "deid.json")))
    (clinical.folder / "configuration" / "deid.json").write_text(json.dumps({"Deid": deid["Deid"] | python}, indent=2))
    try:
        research.start()
        clinical.start()
        clinical.wait(lambda: (clinical.get("/deid/health", quiet=True) or {}).get("Status") == "ok", "is ready")
        fresh = not service(clinical).get("States")
        send(sample, clinical)
        addresses(clinical, research)
        say("waiting until the peer has confirmed the sample …")
        states = wait_until_settled(clinical)
        good = summary(clinical, research, states, bundled=fresh and sample == SAMPLES / "files")
        if once:
            return good
        say("running; Ctrl-C stops both servers")
        while clinical.alive and research.alive:
            time.sleep(0.5)
        raise Failure(f"one of the servers has ended; see {data}/*/orthanc.log")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        clinical.stop()
        research.stop()


def _without_comments(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines(True) if not line.lstrip().startswith("//")]


def _stop(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main() -> int:
    """See ./run."""
    parser = argparse.ArgumentParser(prog="./run")
    parser.add_argument("--once", action="store_true", help="send the sample, wait for its outcome, print it and stop")
    once = parser.parse_args().once
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also when a script started it in the background
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    try:
        return 0 if run(once) else 1
    except KeyboardInterrupt:
        return 0 if not once else 130
    except Failure as failure:
        print(f"./run: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
