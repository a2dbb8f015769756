"""The doctor's look at what is installed, and at the machine around it."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests

from orthanc_deid import __version__
from orthanc_deid.doctor.found import ERROR, OK, WARNING, Finding, Patient
from orthanc_deid.orthanc.peers import Peers
from orthanc_deid.orthanc.settings import WebService

PACKAGES = (
    *("pydicom", "numpy", "cryptography", "dbos", "SQLAlchemy", "alembic", "fastapi", "pydantic", "uvicorn"),
    *("requests", "structlog", "prometheus-client", "ruamel.yaml", "jsonschema"),
)
"""What the service cannot do without."""
SKEW_SECONDS = 60.0
SLOW_LINE = 10e6 / 8
"""Bytes a second of a line of 10 Mbit/s."""
DEFAULT_TIMEOUT = 60
KNOWN_FILES = ("deid.sqlite3", "dbos.sqlite3", "master.key", "service.lock", "outbox", "spool")

_ASK = """
import importlib.metadata as m, json, sys
found = {}
for name in json.loads(sys.argv[1]):
    try:
        found[name] = m.version(name)
    except m.PackageNotFoundError:
        found[name] = None
print(json.dumps(found))
"""


def packages(patient: Patient) -> Iterator[Finding]:
    """Ask the service's interpreter for the versions of its packages."""
    python = patient.config.python or sys.executable
    argv = [python, "-c", _ASK, json.dumps(PACKAGES)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        return  # told by the check of the interpreter
    found: dict[str, str | None] = json.loads(done.stdout)
    missing = sorted(name for name, version in found.items() if version is None)
    if missing:
        yield Finding(ERROR, "packages", f"missing: {', '.join(missing)}; run plugin/install.sh again")
    else:
        listed = ", ".join(f"{name} {version}" for name, version in found.items())
        yield Finding(OK, "packages", f"orthanc-deid {__version__}; {listed}")


def owners(patient: Patient) -> Iterator[Finding]:
    """Look whether everything belongs to one user, and whether it is the one who looks."""
    folder = patient.config.data_directory
    if not folder.exists():
        return
    database = patient.config.database
    files = [folder, folder / "outbox", patient.config.key_file, folder / "dbos.sqlite3"]
    files += [database] if isinstance(database, Path) else []
    there = {path: path.stat().st_uid for path in files if path.exists()}
    owner = there[folder]
    others = sorted(str(path) for path, uid in there.items() if uid != owner)
    if others:
        detail = f"{', '.join(others)} do not belong to {_user(owner)}, who owns {folder}: chown them"
        yield Finding(ERROR, "owner", detail)
        return
    storage = Path(str(patient.begun.orthanc["StorageDirectory"]))
    if storage.exists() and storage.stat().st_uid != owner:
        detail = f"{folder} belongs to {_user(owner)}, Orthanc's storage to {_user(storage.stat().st_uid)}"
        yield Finding(WARNING, "owner", f"{detail}: the service runs as Orthanc does")
    elif os.geteuid() != owner:
        yield Finding(OK, "owner", f"{_user(owner)}; this is {_user(os.geteuid())}, who may see more or less than that")
    else:
        yield Finding(OK, "owner", _user(owner))


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def leftovers(patient: Patient) -> Iterator[Finding]:
    """Look for what lies in the service's folder and is nobody's: it may hold originals or outputs."""
    folder = patient.config.data_directory
    if not folder.is_dir():
        return
    own = {path.name for path in (patient.config.key_file,)}
    database = patient.config.database
    own |= {database.name} if isinstance(database, Path) else set()
    known = (*KNOWN_FILES, *own)
    foreign = [entry for entry in folder.iterdir() if not entry.name.startswith(known)]
    if foreign:
        detail = f"{len(foreign)} entries of {folder} are not the service's: if they are copies, keep them elsewhere"
        yield Finding(WARNING, "leftovers", detail)
    outbox = folder / "outbox"
    if outbox.is_dir():
        files = sum(1 for path in outbox.rglob("*") if path.is_file())
        yield Finding(OK, "outbox", f"{files} files")


def time_zone(patient: Patient) -> Iterator[Finding]:
    """Compare Orthanc's local time with this machine's: windows and quiet hours are in local time."""
    asked = patient.orthanc.ask("GET", "/tools/now-local").body.decode("ascii", errors="replace")
    try:
        theirs = time.mktime(time.strptime(asked, "%Y%m%dT%H%M%S"))
    except (ValueError, OverflowError):
        return
    away = abs(theirs - time.time())
    name = time.strftime("%Z, UTC%z")
    if away > SKEW_SECONDS:
        yield Finding(
            WARNING, "time zone", f"{name} here, but Orthanc's local time is {away / 3600:.1f} h away from it"
        )
    else:
        yield Finding(OK, "time zone", name)


def peers(patient: Patient) -> Iterator[Finding]:
    """Look at the peers' clocks, where they tell, at how long they may be silent, and at how large a thing that lets
    pass where a peer is reached through Orthanc only."""
    reached = Peers(patient.begun.peers, patient.begun.orthanc, patient.orthanc)
    projects = patient.config.projects.values()
    names = {one.name for project in projects for one in project.destinations if one.kind == "peer"}
    for name in sorted(names & patient.begun.peers.keys()):
        peer = patient.begun.peers[name]
        seconds = peer.timeout or int(str(patient.begun.orthanc.get("HttpTimeout") or DEFAULT_TIMEOUT))
        if reached.indirect(name) is None:
            title, detail = f"patience with {name}", f"it may be silent for {seconds} s, whatever the size"
        else:
            size = seconds * SLOW_LINE / 1e6
            title = f"size limit of {name}"
            detail = f"{seconds} s for a whole transfer: over 10 Mbit/s nothing above {size:.0f} MB passes"
        yield Finding(WARNING if seconds < DEFAULT_TIMEOUT else OK, title, detail)
        skew = _skew(peer)
        if skew is not None and abs(skew) > SKEW_SECONDS:
            yield Finding(WARNING, f"clock of {name}", f"{abs(skew):.0f} s apart from this machine's")
    reached.close()


def _skew(peer: WebService) -> float | None:
    """Return how far the clock of a web server is ahead; None where it does not tell. No credentials are sent."""
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.head(peer.url, timeout=5, allow_redirects=False)
        told = parsedate_to_datetime(answer.headers["Date"])
    except (requests.RequestException, KeyError, ValueError, TypeError):
        return None
    return (told - datetime.now(UTC)).total_seconds()


def routing(patient: Patient) -> Iterator[Finding]:
    """Look for what may send research copies, or originals, on by itself."""
    scripts = patient.begun.orthanc.get("LuaScripts") or []
    copies = [name for name, project in patient.config.projects.items() if project.keep_research_copy]
    if scripts and copies:
        detail = (
            f"{len(scripts)} LuaScripts run beside the research copies of {', '.join(sorted(copies))}: they have to"
        )
        yield Finding(WARNING, "auto-routing", f"{detail} pass over studies and series with metadata 4301")
    elif scripts:
        yield Finding(OK, "auto-routing", f"{len(scripts)} LuaScripts; no project keeps research copies here")


def projects(patient: Patient) -> Iterator[Finding]:
    """Say what each project does, as an administrator would read it out on the telephone."""
    for name, project in sorted(patient.config.projects.items()):
        targets = ", ".join(one.key for one in project.destinations) or "nowhere"
        kept = ", keeps research copies" if project.keep_research_copy else ""
        rule = "by jobs only" if project.match.empty else f"{len(project.match.conditions)} conditions"
        detail = f"profile {project.profile_path.stem}, {rule}, released by {project.release}, to {targets}{kept}"
        level = WARNING if not project.destinations and not project.keep_research_copy else OK
        yield Finding(level, f"project {name}", detail)
