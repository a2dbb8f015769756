"""The command `doctor`: looks at an installation as a support call would, changes nothing, and says what to do.

It reads Orthanc's configuration as the plugin would, the files of the service, and asks the running Orthanc. Run it as
the user that Orthanc runs as. Exit status 0: nothing found that keeps it from working (warnings may remain); else 1.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sqlite3
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from rich.console import Console
from rich.table import Table

from orthanc_deid import startup
from orthanc_deid.config import Config
from orthanc_deid.errors import ConfigError, KeyFileError
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.orthanc.client import NotFound, OrthancClient, OrthancError, Unavailable
from orthanc_deid.startup import LOSSY, Startup
from orthanc_deid.store.database import alembic_config

OLDEST_ORTHANC = (1, 10, 1)
LITTLE_BYTES, SCARCE_BYTES = 20 << 30, 2 << 30
HOSTID = Path("/etc/hostid")

OK, WARNING, ERROR = "ok", "warning", "error"
STYLE = {OK: "green", WARNING: "yellow", ERROR: "bold red"}


@dataclass(frozen=True)
class Finding:
    """One line: how it is, of what, and what to do about it."""

    level: str
    what: str
    detail: str


@dataclass(frozen=True)
class Patient:
    """What is looked at."""

    begun: Startup
    config: Config
    orthanc: OrthancClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--config",
        default="/etc/orthanc",
        metavar="FILE",
        help="Orthanc's configuration, a file or a folder (%(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Look at everything and print what was found."""
    found = list(findings(Path(args.config)))
    table = Table(box=None, pad_edge=False)
    for title in ("", "what", "found"):
        table.add_column(title, overflow="fold")
    for finding in found:
        table.add_row(f"[{STYLE[finding.level]}]{finding.level}[/]", finding.what, finding.detail)
    Console(highlight=False).print(table)
    return 1 if any(finding.level == ERROR for finding in found) else 0


def findings(path: Path) -> Iterator[Finding]:
    """Look at the installation whose Orthanc is configured at `path`."""
    try:
        begun = startup.read(str(path))
        config = begun.configure()
    except ConfigError as error:
        for line in error.errors:
            yield Finding(ERROR, "configuration", line)
        return
    yield Finding(OK, "configuration", f"valid; projects: {', '.join(sorted(config.projects)) or 'none'}")
    patient = Patient(begun, config, OrthancClient(begun.url, begun.authorization, begun.ca, timeout=15))
    try:
        for check in CHECKS:
            yield from _guarded(check, patient)
    finally:
        patient.orthanc.close()


def _guarded(check: Callable[[Patient], Iterator[Finding]], patient: Patient) -> Iterator[Finding]:
    """Run one check; what it may not see is a finding, and the others go on."""
    try:
        yield from check(patient)
    except OrthancError as error:
        yield Finding(ERROR, check.__name__.strip("_").replace("_", " "), str(error))
    except OSError as error:
        yield Finding(ERROR, check.__name__.strip("_").replace("_", " "), f"{error.filename}: {error.strerror}")


def _interpreter(patient: Patient) -> Iterator[Finding]:
    python = patient.config.python
    if python is None:
        return
    code = "import sys; print('%d.%d' % sys.version_info[:2]); import dbos, fastapi, pydicom, sqlalchemy"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    version = done.stdout.strip()
    if done.returncode:
        yield Finding(ERROR, "interpreter", f"{python} lacks the packages of requirements.txt")
    elif tuple(map(int, version.split("."))) < (3, 11):
        yield Finding(ERROR, "interpreter", f"{python} is Python {version}; 3.11 or later is needed")
    else:
        yield Finding(OK, "interpreter", f"{python}, Python {version}")


def _data_folder(patient: Patient) -> Iterator[Finding]:
    folder = patient.config.data_directory
    if not folder.exists():
        yield Finding(WARNING, "data folder", f"{folder} is not there yet: the first start makes it")
        return
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        yield Finding(ERROR, "data folder", f"others may enter {folder} (mode {mode:04o}): chmod 700 {folder}")
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield Finding(ERROR, "data folder", f"this user may not write in {folder}; run doctor as Orthanc's user")
    else:
        yield Finding(OK, "data folder", str(folder))


def _disk_space(patient: Patient) -> Iterator[Finding]:
    places = {
        "data folder": patient.config.data_directory,
        "storage": Path(str(patient.begun.orthanc["StorageDirectory"])),
    }
    for name, place in places.items():
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free
        level = ERROR if free < SCARCE_BYTES else WARNING if free < LITTLE_BYTES else OK
        yield Finding(level, f"disk of the {name}", f"{free / (1 << 30):.0f} GB free")


def _master_key(patient: Patient) -> Iterator[Finding]:
    path, database = patient.config.key_file, patient.config.database
    if not path.exists() and not database.exists():
        yield Finding(WARNING, "master key", f"{path} is not there yet: the first start makes it, back it up then")
        return
    try:
        MasterKey.open(path, create=False)
    except KeyFileError as error:
        yield Finding(ERROR, "master key", str(error))
    else:
        yield Finding(OK, "master key", f"{path}, private; keep a backup of it apart from the database's")


def _database(patient: Patient) -> Iterator[Finding]:
    path = patient.config.database
    if not path.exists():
        yield Finding(WARNING, "database", f"{path} is not there yet: the first start makes it")
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=15)) as connection:
            sound = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
            revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
            newest = connection.execute("SELECT max(updated) FROM ledger").fetchone()[0]
    except sqlite3.Error as error:
        yield Finding(ERROR, "database", f"{path} cannot be read ({type(error).__name__})")
        return
    scripts = ScriptDirectory.from_config(alembic_config())
    if not sound:
        yield Finding(ERROR, "database", f"{path} is damaged; restore it from the backup")
    elif revision == scripts.get_current_head():
        yield Finding(OK, "database", f"{path}, sound, tables up to date")
    elif revision in {script.revision for script in scripts.walk_revisions()}:
        yield Finding(
            WARNING, "database", "the tables are those of an older version; the next start brings them up to date"
        )
    else:
        yield Finding(ERROR, "database", "a newer version of orthanc-deid made the tables; install that one")
    if newest is not None and newest > time.time() + 60:
        yield Finding(ERROR, "clock", "the last entry of the ledger lies in the future: the machine's clock went back")


def _recycling(patient: Patient) -> Iterator[Finding]:
    orthanc = patient.begun.orthanc
    limits = [key for key in ("MaximumStorageSize", "MaximumPatientCount") if orthanc.get(key)]
    if limits and str(orthanc.get("MaximumStorageMode", "Recycle")).lower() != "reject":
        detail = (
            f"with {' and '.join(limits)} Orthanc deletes old patients by itself, perhaps before they were processed"
        )
        yield Finding(WARNING, "recycling", detail)
    else:
        yield Finding(OK, "recycling", "Orthanc deletes nothing by itself")


def _settings(patient: Patient) -> Iterator[Finding]:
    orthanc, projects = patient.begun.orthanc, patient.config.projects.values()
    lossy = LOSSY.get(str(orthanc.get("IngestTranscoding", "")))
    if lossy:
        detail = f"to {lossy}: each store of one instance gives it another UID, so it is processed again"
        yield Finding(WARNING, "IngestTranscoding", detail)
    if orthanc.get("OverwriteInstances"):
        yield Finding(
            OK, "OverwriteInstances", "true: corrected instances take the place of the old ones, and are processed"
        )
    else:
        yield Finding(OK, "OverwriteInstances", "false: Orthanc ignores corrected instances under known UIDs")
    if any(project.keep_research_copy for project in projects):
        detail = "research copies stand among clinical studies; keep them out of auto-routing (docs/operations.md)"
        yield Finding(WARNING, "research copies", detail)
    if orthanc.get("RemoteAccessAllowed") and orthanc.get("AuthenticationEnabled") is False:
        yield Finding(WARNING, "access", "whoever reaches the port may read originals: AuthenticationEnabled is false")


def _host_id(patient: Patient) -> Iterator[Finding]:
    if HOSTID.exists():
        yield Finding(OK, "host id", str(HOSTID))
    else:
        yield Finding(
            WARNING, "host id", f"{HOSTID} is missing, Orthanc may be slow: head -c 4 /dev/urandom > {HOSTID}"
        )


def _orthanc(patient: Patient) -> Iterator[Finding]:
    try:
        system = patient.orthanc.system()
    except Unavailable:
        yield Finding(ERROR, "Orthanc", f"does not answer at {patient.begun.url}; is it running?")
        return
    except OrthancError as error:
        detail = "refuses the first of RegisteredUsers" if error.status in (401, 403) else str(error)
        yield Finding(ERROR, "Orthanc", detail)
        return
    version = str(system.get("Version", ""))
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    old = bool(numbers) and numbers < OLDEST_ORTHANC
    yield Finding(ERROR if old else OK, "Orthanc", f"{version} at {patient.begun.url}" + (": too old" if old else ""))
    yield from _clock(patient)
    yield from _plugin(patient)
    yield from _peers(patient)


def _clock(patient: Patient) -> Iterator[Finding]:
    now = patient.orthanc.ask("GET", "/tools/now").body.decode("ascii", errors="replace")
    try:
        away = abs(time.mktime(time.strptime(now, "%Y%m%dT%H%M%S")) - time.mktime(time.gmtime()))
    except ValueError:
        return
    if away > 60:
        yield Finding(ERROR, "clock", f"Orthanc's clock and this machine's are {away:.0f} s apart")
    else:
        yield Finding(OK, "clock", "Orthanc's and this machine's agree")


def _plugin(patient: Patient) -> Iterator[Finding]:
    try:
        health = patient.orthanc.get_json("/deid/health")
    except NotFound:
        yield Finding(ERROR, "plugin", "not loaded: Orthanc stores, and nothing is de-identified; is PythonScript set?")
        return
    status = str(health["Status"])
    detail = f"{health['Version']}, service {status}"
    if health["Restarts"]:
        detail += f", restarted {health['Restarts']} times: see Orthanc's log"
    level = ERROR if status == "down" else WARNING if health["Restarts"] or status != "ok" else OK
    yield Finding(level, "plugin", detail)
    service: dict[str, Any] = health["Service"] or {}
    for trouble in service.get("Troubles") or ():
        yield Finding(WARNING, f"service, {trouble['Part']}", str(trouble["Reason"]))
    states = service.get("States") or {}
    held = sum(states.get(state, 0) for state in ("quarantined", "refused", "conflict", "source-lost"))
    if held:
        yield Finding(WARNING, "held", f"{held} instances wait for a person: /deid/quarantine")


def _peers(patient: Patient) -> Iterator[Finding]:
    names = {destination.name for project in patient.config.projects.values() for destination in project.destinations}
    for name in sorted(names):
        try:
            system = patient.orthanc.get_json(f"/peers/{name}/system")
        except NotFound:
            yield Finding(ERROR, f"peer {name}", "not known to the running Orthanc; restart it after changes")
        except OrthancError:
            yield Finding(ERROR, f"peer {name}", "does not answer, or refuses its user: see OrthancPeers")
        else:
            yield Finding(OK, f"peer {name}", f"Orthanc {system.get('Version', '?')}")


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    _interpreter,
    _data_folder,
    _disk_space,
    _master_key,
    _database,
    _recycling,
    _settings,
    _host_id,
    _orthanc,
)
