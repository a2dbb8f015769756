"""The command `doctor`: looks at an installation as a support call would, changes nothing, and says what to do.

It reads Orthanc's configuration as the plugin would, the files of the service, and asks the running Orthanc. Run it as
the user that Orthanc runs as. The exit status is that of the worst finding: 0 all is well, 2 warnings, 1 something that
keeps it from working.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from orthanc_deid import __version__, gateway, startup
from orthanc_deid.doctor import place, records
from orthanc_deid.doctor.found import ERROR, LEVELS, OK, WARNING, Finding, Patient
from orthanc_deid.errors import ConfigError, KeyFileError
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.orthanc.client import NotFound, OrthancClient, OrthancError, Unavailable
from orthanc_deid.orthanc.peers import Peers
from orthanc_deid.orthanc.push import Reply
from orthanc_deid.orthanc.settings import Receivers
from orthanc_deid.pipeline.senders import probe
from orthanc_deid.pipeline.spoolfolder import Spool
from orthanc_deid.startup import LOSSY

OLDEST_ORTHANC = (1, 10, 1)
LITTLE_BYTES, SCARCE_BYTES = 20 << 30, 2 << 30
HOSTID = Path("/etc/hostid")

STATUS = {OK: 0, WARNING: 2, ERROR: 1}
STYLE = {OK: "green", WARNING: "yellow", ERROR: "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--config",
        default="/etc/orthanc",
        metavar="FILE",
        help="Orthanc's configuration, a file or a folder (%(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="write the findings as JSON")
    parser.add_argument("--thorough", action="store_true", help="read the whole database, however large")


def run(args: argparse.Namespace) -> int:
    """Look at everything and print what was found."""
    found = list(findings(Path(args.config), thorough=args.thorough))
    worst = max((LEVELS.index(finding.level) for finding in found), default=0)
    if args.json:
        told = [{"Level": one.level, "What": one.what, "Detail": one.detail} for one in found]
        print(json.dumps({"Worst": LEVELS[worst], "Findings": told}, indent=2))
        return STATUS[LEVELS[worst]]
    table = Table(box=None, pad_edge=False)
    for title in ("", "what", "found"):
        table.add_column(title, overflow="fold")
    for finding in found:
        table.add_row(f"[{STYLE[finding.level]}]{finding.level}[/]", finding.what, finding.detail)
    Console(highlight=False).print(table)
    return STATUS[LEVELS[worst]]


def findings(path: Path, *, thorough: bool = False) -> Iterator[Finding]:
    """Look at the installation whose Orthanc is configured at `path`."""
    try:
        begun = startup.read(str(path))
        config = begun.configure()
    except ConfigError as error:
        for line in error.errors:
            yield Finding(ERROR, "configuration", line)
        return
    yield Finding(OK, "configuration", f"valid; projects: {', '.join(sorted(config.projects)) or 'none'}")
    patient = Patient(begun, config, OrthancClient(begun.url, begun.authorization, begun.ca, timeout=15), thorough)
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
    for name, folder in places.items():
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        level = ERROR if free < SCARCE_BYTES else WARNING if free < LITTLE_BYTES else OK
        yield Finding(level, f"disk of the {name}", f"{free / (1 << 30):.0f} GB free")


def _master_key(patient: Patient) -> Iterator[Finding]:
    path, database = patient.config.key_file, patient.config.database
    if not path.exists() and isinstance(database, Path) and not database.exists():
        yield Finding(WARNING, "master key", f"{path} is not there yet: the first start makes it, back it up then")
        return
    try:
        MasterKey.open(path, create=False)
    except KeyFileError as error:
        yield Finding(ERROR, "master key", str(error))
    else:
        yield Finding(OK, "master key", f"{path}, private; keep a backup of it apart from the database's")


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
    if orthanc.get("StoreMD5ForAttachments") is False:
        detail = "false: Orthanc 1.13.0 cannot read such files once they have left its cache, and none notices damage"
        yield Finding(WARNING, "StoreMD5ForAttachments", detail)
    if any(project.keep_research_copy for project in projects):
        detail = "research copies stand among clinical studies; keep them out of auto-routing (docs/operations.md)"
        yield Finding(WARNING, "research copies", detail)
    if orthanc.get("RemoteAccessAllowed") and orthanc.get("AuthenticationEnabled") is False:
        yield Finding(WARNING, "access", "whoever reaches the port may read originals: AuthenticationEnabled is false")


def _gateway(patient: Patient) -> Iterator[Finding]:
    mode = patient.config.gateway
    if mode is None:
        return
    allowed = sorted(
        modality.name
        for modality in patient.begun.modalities.values()
        if modality.allow_storage_commitment and modality.name not in patient.config.modalities
    )
    if patient.begun.orthanc.get("DicomModalitiesInDatabase"):
        detail = "set AllowStorageCommitment to false for each modality in Orthanc's database"
        yield Finding(WARNING, "commitment to senders", detail)
    elif allowed:
        detail = f"cannot succeed in gateway mode; set AllowStorageCommitment to false for {', '.join(allowed)}"
        yield Finding(WARNING, "commitment to senders", detail)
    if patient.config.by_titles:
        detail = "rules ask for AE titles: each C-STORE costs a placeholder in Orthanc, see docs/operations.md"
        yield Finding(OK, "AE titles", detail)
    if not mode.spool.is_dir():
        yield Finding(WARNING, "spool", f"{mode.spool} is not there yet: the first start makes it")
        return
    others = stat.S_IMODE(mode.spool.stat().st_mode) & 0o077
    if others:
        yield Finding(
            ERROR, "spool", f"{mode.spool}: others may enter it, and it holds identified originals; chmod 700"
        )
    numbers, size = Spool(mode.spool).count()
    free = shutil.disk_usage(mode.spool).free
    detail = f"{size >> 20} of {mode.maximum_size >> 20} MB used, {free >> 20} MB free on its disk"
    if size > 0.9 * mode.maximum_size or free < mode.minimum_free:
        yield Finding(ERROR, "spool", f"{detail}: it refuses, or will; is a peer down, or much held?")
    else:
        yield Finding(OK, "spool", detail)
    if unmatched := numbers[gateway.UNMATCHED]:
        yield Finding(WARNING, "unmatched", f"{unmatched} originals in the spool that no project takes: /deid/spool")


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
    yield from place.time_zone(patient)
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
    running = str((health["Service"] or {}).get("Version") or health["Version"])
    if {running, str(health["Version"])} != {__version__}:
        yield Finding(WARNING, "version", f"{__version__} is installed, {running} runs: restart Orthanc")
    if health["Restarts"]:
        detail += f", restarted {health['Restarts']} times: see Orthanc's log"
    level = ERROR if status == "down" else WARNING if health["Restarts"] or status != "ok" else OK
    yield Finding(level, "plugin", detail)
    service: dict[str, Any] = health["Service"] or {}
    for trouble in service.get("Troubles") or ():
        yield Finding(WARNING, f"service, {trouble['Part']}", str(trouble["Reason"]))


PEER_FAULTS = {
    Reply.DOWN: "does not answer: see its address in OrthancPeers",
    Reply.UNAUTHORIZED: "does not let us in: see its user and password in OrthancPeers",
    Reply.UNTRUSTED: "shows a certificate that nothing in HttpsCACertificates vouches for",
}


def _peers(patient: Patient) -> Iterator[Finding]:
    projects = patient.config.projects.values()
    names = {one.name for project in projects for one in project.destinations if one.kind == "peer"}
    peers = Peers(patient.begun.peers, patient.begun.orthanc, patient.orthanc)
    for name in sorted(names):
        fault = peers.probe(name)
        if fault is not None:
            yield Finding(ERROR, f"peer {name}", PEER_FAULTS[fault])
            continue
        way = "" if peers.indirect(name) is None else f", through Orthanc only ({peers.indirect(name)})"
        yield Finding(OK, f"peer {name}", f"Orthanc {peers.system(name).get('Version', '?')}{way}")
        if patient.begun.orthanc.get("HttpsVerifyPeers") is False:
            yield Finding(WARNING, f"peer {name}", "its certificate is not verified: HttpsVerifyPeers is false")
    peers.close()


_ADVICE = {
    "modality": "does not answer C-ECHO: see DicomModalities, and whether it knows our AE title",
    "dicomweb": "does not answer a search, or refuses its user: see DicomWeb.Servers",
    "folder": "is not there (a disk that is not mounted?), or cannot be written to by this user",
}


def _destinations(patient: Patient) -> Iterator[Finding]:
    """Ask every destination that is no peer."""
    receivers = Receivers(patient.begun.modalities, patient.begun.dicomweb, patient.begun.orthanc)
    all_of_them = {one.key: one for project in patient.config.projects.values() for one in project.destinations}
    for _, one in sorted(all_of_them.items()):
        if one.kind != "peer":
            well = probe(one, receivers)
            yield Finding(OK if well else ERROR, f"{one.kind} {one.name}", "answers" if well else _ADVICE[one.kind])
    if any(one.commitment for one in all_of_them.values()) and patient.config.commitment_listen is None:
        yield Finding(
            WARNING,
            "storage commitment",
            "without CommitmentListen receivers can answer only on the association on which they were asked",
        )


CHECKS: tuple[Callable[[Patient], Iterator[Finding]], ...] = (
    _interpreter,
    place.packages,
    _data_folder,
    place.owners,
    place.leftovers,
    _disk_space,
    _master_key,
    records.database,
    place.projects,
    place.routing,
    place.peers,
    _recycling,
    _settings,
    _gateway,
    _host_id,
    _orthanc,
    _destinations,
)
