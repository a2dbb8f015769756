"""The section `Deid` of Orthanc's configuration: read whole, every fault at once with its path, nothing guessed.

A project that is wrong never runs, and never as something else; what this release cannot do yet is refused by name.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.tag import Tag

import orthanc_deid
from orthanc_deid import config_schema
from orthanc_deid.config_schema import (
    DeidSection,
    DestinationSection,
    LimitsSection,
    ListenSection,
    OrthancSection,
    ProjectSection,
    Row,
)
from orthanc_deid.core.profile import Profile, ProfileError
from orthanc_deid.errors import ConfigError
from orthanc_deid.identity.pseudonyms import DEFAULT_DOMAIN
from orthanc_deid.limits import ALWAYS, NO_LIMITS, Limits, Windows

PROJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_AET = re.compile(r"[ -\[\]-~]{1,16}")
_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?([0-9A-Fa-f]{4})\)?")
_TEXT_VRS = frozenset(
    ["AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"]
)


@dataclass(frozen=True)
class Destination:
    """Where outputs go: a peer, a modality or a DICOMweb server by its name in Orthanc's configuration, or a folder."""

    kind: Literal["peer", "modality", "dicomweb", "folder"]
    name: str
    path: Path | None = None
    layout: Literal["dicom", "bids"] = "dicom"
    commitment: bool = False
    commitment_seconds: float = 3600.0
    xnat_project: str | None = None

    @classmethod
    def of(cls, section: DestinationSection) -> Destination:
        """Make it of its section."""
        if section.folder is not None:
            path = Path(section.folder)
            return cls("folder", section.name or path.name, path, layout=section.layout or "dicom")
        if section.modality is not None:
            return cls(
                "modality",
                section.modality,
                commitment=bool(section.storage_commitment),
                commitment_seconds=section.commitment_seconds or cls.commitment_seconds,
                xnat_project=section.xnat.project if section.xnat else None,
            )
        if section.dicom_web is not None:
            return cls("dicomweb", section.dicom_web)
        return cls("peer", str(section.peer))

    @property
    def key(self) -> str:
        """The name that the ledger, the logs and the metrics give to it."""
        return f"{self.kind}:{self.name}"

    def public(self) -> dict[str, Any]:
        """Return the settings as they are shown."""
        if self.kind == "folder":
            return {"Folder": str(self.path), "Name": self.name, "Layout": self.layout}
        shown: dict[str, Any] = {_KEYS[self.kind]: self.name}
        if self.commitment:
            shown |= {"StorageCommitment": True, "CommitmentSeconds": self.commitment_seconds}
        if self.xnat_project is not None:
            shown["Xnat"] = {"Project": self.xnat_project}
        return shown


_KEYS = {"peer": "Peer", "modality": "Modality", "dicomweb": "DicomWeb"}


@dataclass(frozen=True)
class Condition:
    """One demand of a Match: where an instance came from, or what an attribute says."""

    name: str
    kind: Literal["remote_aet", "called_aet", "attribute"]
    tag: int | None
    patterns: tuple[re.Pattern[str], ...]

    def matches(self, values: Iterable[str]) -> bool:
        """Whether one of the values is matched, as a whole, by one of the patterns."""
        return any(pattern.fullmatch(value) for value in values for pattern in self.patterns)


@dataclass(frozen=True)
class Match:
    """Which instances a project takes as they arrive: those that meet every condition."""

    conditions: tuple[Condition, ...] = ()

    @property
    def empty(self) -> bool:
        """Nothing is taken by itself: the project runs by jobs only."""
        return not self.conditions


@dataclass(frozen=True)
class Project:
    """One project, checked."""

    name: str
    profile_path: Path
    profile: Profile | None
    match: Match
    destinations: tuple[Destination, ...]
    keep_research_copy: bool
    keep_original: bool
    release: Literal["instance", "study", "manual"]
    quiet_seconds: float
    incomplete: Literal["release-rest", "hold"]
    pseudonyms: Literal["keyed"]
    domains: Mapping[str, str]
    encrypt_to: tuple[Path, ...] = ()
    limits: Mapping[str, Limits] = field(default_factory=dict)
    """By the destinations' keys; none: no limits."""
    backfill_window: Windows = ALWAYS

    def domain(self, remote_aet: str | None) -> str:
        """Return the identity domain of what an AE title sent (None: it came by REST)."""
        default = self.domains.get("*", DEFAULT_DOMAIN)
        return self.domains.get((remote_aet or "").strip(), default)

    def public(self) -> dict[str, Any]:
        """Return the settings as they are shown; they hold no secret."""
        return {
            "Profile": self.profile_path.name,
            "Match": {condition.name: [p.pattern for p in condition.patterns] for condition in self.match.conditions},
            "Destinations": [
                destination.public() | self.limits.get(destination.key, NO_LIMITS).public()
                for destination in self.destinations
            ],
            "BackfillWindow": self.backfill_window.show(),
            "KeepResearchCopy": self.keep_research_copy,
            "KeepOriginal": self.keep_original,
            "Release": self.release,
            "QuietSeconds": self.quiet_seconds,
            "Incomplete": self.incomplete,
            "Pseudonyms": self.pseudonyms,
            "Domains": dict(self.domains),
            "EncryptTo": [path.name for path in self.encrypt_to],
        }


@dataclass(frozen=True)
class Gateway:
    """Gateway mode, checked; sizes in bytes."""

    spool: Path
    maximum_size: int
    minimum_free: int
    unmatched: Literal["quarantine", "discard"]


@dataclass(frozen=True)
class Config:
    """The whole section, checked."""

    python: str | None
    service: str
    data_directory: Path
    database: Path | str
    """A file, or the URL of a PostgreSQL that several services may share; it holds no password."""
    database_password_file: Path | None
    listen: Listen | None
    orthanc: OrthancSection | None
    service_token_file: Path | None
    service_ca: Path | None
    key_file: Path
    profiles: Path
    workers: int
    projects: Mapping[str, Project]
    commitment_listen: tuple[str, int] | None = None
    gateway: Gateway | None = None
    latency_budget: float = 3.0
    niceness: int = 10
    outbox_limit: int = 20_000_000_000
    """Bytes."""
    free_disk: int = 1_000_000_000

    @property
    def modalities(self) -> frozenset[str]:
        """The modalities that outputs go to, by their names in DicomModalities."""
        places = [place for project in self.projects.values() for place in project.destinations]
        return frozenset(place.name for place in places if place.kind == "modality")

    @property
    def by_titles(self) -> bool:
        """Whether anything that happens to an instance as it arrives depends on the AE titles that it came by."""
        if all(project.match.empty for project in self.projects.values()):
            return False
        rules = [rule.kind for project in self.projects.values() for rule in project.match.conditions]
        domains = any(set(project.domains) - {"*"} for project in self.projects.values())
        return domains or "remote_aet" in rules or "called_aet" in rules

    @classmethod
    def parse(cls, section: Any, *, data_directory: Path | str | None = None, load_profiles: bool = True) -> Config:
        """Check the section and resolve its paths. Raises ConfigError with every fault.

        `data_directory` is where database and key lie unless the section says otherwise. Without `load_profiles` the
        profiles are neither read nor checked (`Project.profile` is None).
        """
        if not isinstance(section, Mapping):
            raise ConfigError(["Deid: has to be an object"])
        errors: list[str] = []
        model = config_schema.read(section, errors)
        folder = Path(model.data_directory or data_directory or "orthanc-deid").absolute()
        if model.service != "spawn":
            _check_service(model, errors)
        profiles = Path(model.profiles) if model.profiles else Path(orthanc_deid.__file__).parent / "profiles"
        if not profiles.is_dir():
            errors.append(f"Deid.Profiles: no folder {profiles}")
        projects = {
            name: _project(name, project, profiles, load_profiles and profiles.is_dir(), errors)
            for name, project in model.projects.items()
        }
        config = cls(
            python=model.python,
            service=model.service,
            data_directory=folder,
            database=_database(model.database, folder, errors),
            database_password_file=_file("DatabasePasswordFile", model.database_password_file, errors),
            listen=_listen(model.listen, model.service_token_file, errors),
            orthanc=_orthanc(model.orthanc, errors),
            service_token_file=Path(model.service_token_file).absolute() if model.service_token_file else None,
            service_ca=_file("ServiceCa", model.service_ca, errors),
            key_file=Path(model.key_file).absolute() if model.key_file else folder / "master.key",
            profiles=profiles,
            workers=model.workers or len(os.sched_getaffinity(0)),
            projects=projects,
            commitment_listen=_address(model.commitment_listen, errors),
            gateway=_gateway(model, folder, errors),
            latency_budget=model.latency_budget,
            niceness=model.niceness,
            outbox_limit=model.outbox_limit * 1_000_000,
            free_disk=model.free_disk * 1_000_000,
        )
        errors += _one_folder_each(projects)
        if errors:
            raise ConfigError(dict.fromkeys(errors))
        return config

    def public(self) -> dict[str, Any]:
        """Return the settings as they are shown; paths and projects, no secret."""
        return {
            "Service": self.service,
            "Workers": self.workers,
            "Gateway": self.gateway is not None,
            "Projects": {name: project.public() for name, project in self.projects.items()},
        }

    @staticmethod
    def describe() -> list[Row]:
        """Return the keys with defaults and meanings, those of a project as `Projects.<name>.…`."""
        return config_schema.describe()


def _gateway(section: DeidSection, folder: Path, errors: list[str]) -> Gateway | None:
    model = section.gateway
    if model is None:
        return None
    spool = Path(model.spool) if model.spool else folder / "spool"
    if not spool.is_absolute():
        errors.append("Deid.Gateway.Spool: has to be an absolute path")
    if section.service != "spawn":
        errors.append("Deid.Gateway: not supported with a Service elsewhere, which does not see the spool")
    return Gateway(spool, model.maximum_size << 20, model.minimum_free << 20, model.unmatched)


@dataclass(frozen=True)
class Listen:
    """Where a service that no plugin has started is asked: an address, and what proves it to those who ask."""

    host: str
    port: int
    certificate: Path | None
    key: Path | None


def _file(key: str, value: str | None, errors: list[str]) -> Path | None:
    """Return the path of a file that has to be there."""
    if value is None:
        return None
    path = Path(value).absolute()
    if not path.is_file():
        errors.append(f"Deid.{key}: no file {path}")
    elif not os.access(path, os.R_OK):
        errors.append(f"Deid.{key}: {path} cannot be read")
    return path


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(model: ListenSection | None, token: str | None, errors: list[str]) -> Listen | None:
    if model is None:
        return None
    host, separator, port = model.address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not separator or not host or not port.isdigit() or not 0 < int(port) < 65536:
        errors.append("Deid.Listen.Address: has to be host:port")
        return None
    if token is None:
        errors.append("Deid.ServiceTokenFile: has to be given with Listen")
    certificate = _file("Listen.Certificate", model.certificate, errors)
    if certificate is None and not _loopback(host):
        errors.append("Deid.Listen.Certificate: has to be given where Address is not the loopback")
    return Listen(host, int(port), certificate, _file("Listen.CertificateKey", model.certificate_key, errors))


def _orthanc(model: OrthancSection | None, errors: list[str]) -> OrthancSection | None:
    if model is None:
        return None
    parts = urlsplit(model.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        errors.append("Deid.Orthanc.Url: has to be http://… or https://…")
    elif parts.username or parts.password:
        errors.append("Deid.Orthanc.Url: no password here: give Username and PasswordFile")
    elif parts.scheme == "http" and not _loopback(parts.hostname):
        errors.append("Deid.Orthanc.Url: http:// is for the loopback; instances go over https:// elsewhere")
    if (model.username is None) != (model.password_file is None):
        errors.append("Deid.Orthanc: Username and PasswordFile belong together")
    _file("Orthanc.PasswordFile", model.password_file, errors)
    _file("Orthanc.Ca", model.ca, errors)
    return model


def _check_service(model: DeidSection, errors: list[str]) -> None:
    """A service elsewhere: over TLS, or on the loopback, and with a token."""
    parts = urlsplit(model.service)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.path.strip("/"):
        errors.append("Deid.Service: has to be 'spawn', or a URL of a service: https://host:port")
    elif parts.scheme == "http" and not _loopback(parts.hostname):
        errors.append("Deid.Service: http:// is for the loopback; give https://")
    if model.service_token_file is None:
        errors.append("Deid.ServiceTokenFile: has to be given where Service is a URL")


def _database(value: str | None, folder: Path, errors: list[str]) -> Path | str:
    if value is None:
        return folder / "deid.sqlite3"
    scheme, separator, rest = value.partition("://")
    if not separator:
        return Path(value).absolute()
    if scheme in ("postgresql", "postgres"):
        try:
            parts = urlsplit(f"postgresql://{rest}")
            secret = parts.password is not None or "password" in parse_qs(parts.query)
        except ValueError:
            secret, parts = False, urlsplit("")
        if secret:
            errors.append("Deid.Database: no password here: give DatabasePasswordFile, PGPASSWORD or a .pgpass")
        elif not parts.path.strip("/"):
            errors.append("Deid.Database: has to be postgresql://user@host:port/database")
        else:
            return f"postgresql://{rest}"
        return folder / "deid.sqlite3"
    if scheme != "sqlite":
        errors.append(
            f"Deid.Database: not supported: {scheme.split('+')[0]}; it is a file, sqlite:///… or postgresql://…"
        )
        return folder / "deid.sqlite3"
    return Path(rest.removeprefix("/")).absolute()


def _address(text: str | None, errors: list[str]) -> tuple[str, int] | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not 0 < int(port) < 65536:
        errors.append("Deid.CommitmentListen: not a port")
    return host, int(port)


def _one_folder_each(projects: Mapping[str, Project]) -> list[str]:
    """A name stands for one folder in one layout, in whatever projects; and a folder has one name."""
    errors = []
    seen: dict[str, tuple[Path | None, str]] = {}
    names: dict[Path, str] = {}
    for name, project in projects.items():
        for place, one in enumerate(project.destinations):
            if one.path is None:
                continue
            where = f"Deid.Projects.{name}.Destinations[{place}]"
            if seen.setdefault(one.key, (one.path, one.layout)) != (one.path, one.layout):
                errors.append(f"{where}: another folder, or another layout, has this name; give a Name")
            if names.setdefault(one.path, one.name) != one.name:
                errors.append(f"{where}: the same folder has another name elsewhere")
    return errors


def _project(name: str, model: ProjectSection, profiles: Path, load: bool, errors: list[str]) -> Project:
    path = f"Deid.Projects.{name}"
    if not PROJECT_NAME.fullmatch(name):
        errors.append(f"{path}: a project's name has letters, digits, dot, hyphen and underscore, at most 64")
    file, profile = _profile(f"{path}.Profile", model.profile, profiles, load, errors)
    destinations = [Destination.of(section) for section in model.destinations]
    for place, destination in enumerate(destinations):
        if destination.key in [other.key for other in destinations[:place]]:
            errors.append(f"{path}.Destinations[{place}]: named twice")
        if destination.path is not None and not PROJECT_NAME.fullmatch(destination.name):
            errors.append(f"{path}.Destinations[{place}].Name: give one, of letters, digits, dot, hyphen, underscore")
    faulty = any(error.startswith(f"{path}.{key}") for error in errors for key in ("Destinations", "KeepResearchCopy"))
    if not destinations and not model.keep_research_copy and not faulty:
        errors.append(f"{path}.Destinations: give one, or set KeepResearchCopy: the outputs would go nowhere")
    for title, domain in model.domains.items():
        if title != "*" and not (_AET.fullmatch(title) and title.strip() == title):
            errors.append(f"{path}.Domains.{title}: not an AE title")
        if not domain.strip():
            errors.append(f"{path}.Domains.{title}: must not be empty")
    certificates = tuple(Path(text).absolute() for text in model.encrypt_to)
    for place, certificate in enumerate(certificates):
        errors += [f"{path}.EncryptTo[{place}]: {fault}" for fault in _unusable(certificate)]
    return Project(
        name=name,
        profile_path=file,
        profile=profile,
        match=Match(tuple(_conditions(f"{path}.Match", model.match, errors))),
        destinations=tuple(destinations),
        keep_research_copy=model.keep_research_copy,
        keep_original=model.keep_original,
        release=model.release,
        quiet_seconds=float(model.quiet_seconds),
        incomplete=model.incomplete,
        pseudonyms=model.pseudonyms,
        domains={"*": DEFAULT_DOMAIN, **model.domains},
        encrypt_to=certificates,
        limits={
            destination.key: _limits(f"{path}.Destinations[{place}]", section, errors)
            for place, (destination, section) in enumerate(zip(destinations, model.destinations, strict=True))
        },
        backfill_window=_windows(f"{path}.BackfillWindow", model.backfill_window, errors),
    )


def _limits(path: str, model: LimitsSection, errors: list[str]) -> Limits:
    if model.backfill_only and not model.window:
        errors.append(f"{path}.BackfillOnly: give a Window")
    rate = model.rate
    if rate is not None and not rate.instances_per_second and not rate.megabytes_per_second:
        errors.append(f"{path}.Rate: give InstancesPerSecond, MegabytesPerSecond or both")
    return Limits(
        _windows(f"{path}.Window", model.window, errors),
        model.backfill_only,
        rate.instances_per_second if rate else None,
        rate.megabytes_per_second * 1e6 if rate and rate.megabytes_per_second else None,
    )


def _windows(path: str, texts: Iterable[str], errors: list[str]) -> Windows:
    try:
        return Windows.parse(texts)
    except ValueError as error:
        errors.append(f"{path}: {error}")
        return Windows()


def _unusable(certificate: Path) -> list[str]:
    """Return what keeps a recipient's certificate from being used."""
    from orthanc_deid.identity import envelope  # here: most configurations have no recipients, and it takes time

    try:
        envelope.recipients([certificate])
    except envelope.EnvelopeError as error:
        return [str(error)]
    return []


def _profile(path: str, name: str, profiles: Path, load: bool, errors: list[str]) -> tuple[Path, Profile | None]:
    file = profiles / (name if name.endswith((".yaml", ".yml")) else f"{name}.yaml")
    if Path(name).name != name:
        errors.append(f"{path}: has to be the name of a file in the folder of the profiles")
    elif load and not file.is_file():
        errors.append(f"{path}: no file {file}")
    elif load:
        try:
            return file, Profile.load(file)
        except ProfileError as error:
            errors += [f"{path}: {file.name}: {fault}" for fault in error.errors]
    return file, None


def _conditions(path: str, match: Mapping[str, list[str]], errors: list[str]) -> Iterable[Condition]:
    for name, texts in match.items():
        kind: Literal["remote_aet", "called_aet", "attribute"] = "attribute"
        tag = None
        if name == "RemoteAET":
            kind = "remote_aet"
        elif name == "CalledAET":
            kind = "called_aet"
        elif (tag := _tag(name)) is None:
            errors.append(f"{path}.{name}: neither RemoteAET, CalledAET, nor an attribute of DICOM that holds text")
        patterns = []
        for place, text in enumerate(texts):
            try:
                patterns.append(re.compile(text))
            except re.error as error:
                where = f"[{place}]" if len(texts) > 1 else ""
                errors.append(f"{path}.{name}{where}: not a regular expression: {error.msg} at {error.pos}")
        yield Condition(name, kind, tag, tuple(patterns))


def _tag(name: str) -> int | None:
    """Return the tag of a keyword or of gggg,eeee; None for what is unknown or has no text to match."""
    written = _TAG.fullmatch(name)
    tag = int(written[1] + written[2], 16) if written else tag_for_keyword(name)
    if tag is None:
        return None
    try:
        return tag if set(dictionary_VR(Tag(tag)).split(" or ")) & _TEXT_VRS else None
    except KeyError:
        return None
