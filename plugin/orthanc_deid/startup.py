"""What a command is told at its start: the Deid section, where Orthanc is, and where our own files lie.

The plugin writes one line of JSON; by hand, a command reads Orthanc's own configuration, a file or a folder of files as
Orthanc itself would. What depends on both the section and Orthanc's own settings is judged here.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orthanc_deid.config import Config
from orthanc_deid.errors import ConfigError
from orthanc_deid.orthanc import settings
from orthanc_deid.orthanc.settings import Modality, WebService

LOSSY = {
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.51": "JPEG extended",
    "1.2.840.10008.1.2.4.81": "JPEG-LS near-lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
}
# Comments go, texts stay; variables of the environment are put in as Orthanc puts them in.
_SECRET = ("Deid", "RegisteredUsers", "OrthancPeers", "DicomModalities", "DicomWeb")
_VARIABLE = re.compile(r"\$\{([^}:]+)(?::-([^}]*))?\}")
_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/', re.DOTALL)


@dataclass(frozen=True)
class Startup:
    """One start: `section` is Deid, `orthanc` Orthanc's own settings, the others whom Orthanc's configuration knows.

    Peers and modalities that stand in Orthanc's database (OrthancPeersInDatabase, DicomModalitiesInDatabase) are known
    to Orthanc alone.
    """

    section: Mapping[str, Any] = field(repr=False)
    orthanc: Mapping[str, Any] = field(repr=False)
    peers: Mapping[str, WebService]
    secret: str = field(repr=False)
    modalities: Mapping[str, Modality] = field(default_factory=dict)
    dicomweb: Mapping[str, WebService] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    """What is wrong in the settings of those."""
    authorization: str | None = field(default=None, repr=False)
    socket: Path | None = None
    from_plugin: bool = False

    @property
    def url(self) -> str:
        """Where Orthanc answers: as the section says, or on this machine."""
        if isinstance(elsewhere := self.section.get("Orthanc"), dict) and not self.from_plugin:
            return str(elsewhere.get("Url", "")).rstrip("/")
        scheme = "https" if self.orthanc.get("SslEnabled") else "http"
        return f"{scheme}://127.0.0.1:{self.orthanc.get('HttpPort', 8042)}"

    @property
    def ca(self) -> Path | None:
        """The certificate that Orthanc shows, if it speaks TLS, or its authority's."""
        if isinstance(elsewhere := self.section.get("Orthanc"), dict) and not self.from_plugin:
            return Path(str(elsewhere["Ca"])) if elsewhere.get("Ca") else None
        return Path(str(self.orthanc.get("SslCertificate", ""))) if self.orthanc.get("SslEnabled") else None

    @property
    def data_directory(self) -> Path | None:
        """The folder of the service's files: that of the database, or `orthanc-deid` beside Orthanc's storage."""
        own = self.section.get("DataDirectory")
        if isinstance(own, str) and own:
            return Path(own).absolute()
        database = self.section.get("Database")
        if isinstance(database, str) and Path(database).is_absolute():
            return Path(database).parent
        storage = Path(str(self.orthanc.get("StorageDirectory", "OrthancStorage")))
        return storage.parent / "orthanc-deid" if storage.is_absolute() else None

    def configure(self) -> Config:
        """Judge the whole configuration. Raises ConfigError with every fault."""
        errors = self._own_errors()
        config = None
        try:
            config = Config.parse(dict(self.section), data_directory=self.data_directory)
        except ConfigError as error:
            errors = [*error.errors, *errors]
        if config is not None:
            errors += self._errors_between(config)
        if errors or config is None:
            raise ConfigError(errors)
        return config

    def _own_errors(self) -> list[str]:
        errors = list(self.faults)
        if self.data_directory is None:
            errors.append("Deid.Database: give an absolute path, since Orthanc's StorageDirectory is a relative one")
        if self.orthanc.get("HttpServerEnabled", True) is not True:
            errors.append("HttpServerEnabled: must be true, the service reads instances by HTTP")
        if self.orthanc.get("SslEnabled") and self.orthanc.get("SslVerifyPeers"):
            errors.append("SslVerifyPeers: not supported yet, the service has no client certificate")
        return errors

    def _errors_between(self, config: Config) -> list[str]:
        """What is right in itself and wrong beside Orthanc's own settings."""
        errors = self._errors_of_gateway(config)
        lossy = LOSSY.get(str(self.orthanc.get("IngestTranscoding", "")))
        for name, project in config.projects.items():
            where = f"Deid.Projects.{name}"
            if project.keep_research_copy and lossy:
                # Each store would give the copy another SOP Instance UID.
                errors.append(f"{where}.KeepResearchCopy: cannot be with IngestTranscoding to {lossy}, which is lossy")
            for number, destination in enumerate(project.destinations):
                place = f"{where}.Destinations[{number}]"
                if destination.kind == "peer" and not self.orthanc.get("OrthancPeersInDatabase"):
                    if destination.name not in self.peers:
                        errors.append(f"{place}.Peer: OrthancPeers has no {destination.name!r}")
                elif destination.kind == "modality":
                    errors += self._modality_errors(place, destination.name, destination.commitment)
                elif destination.kind == "dicomweb" and destination.name not in self.dicomweb:
                    errors.append(f"{place}.DicomWeb: DicomWeb.Servers has no {destination.name!r}")
        return errors

    def _modality_errors(self, place: str, name: str, commitment: bool) -> list[str]:
        modality = self.modalities.get(name)
        if modality is None:
            what = " of the file (those in Orthanc's database cannot be read)" if self._modalities_hidden else ""
            return [f"{place}.Modality: DicomModalities{what} has no {name!r}"]
        errors = []
        if not modality.allow_store:
            errors.append(f"{place}.Modality: AllowStore of {name!r} is false")
        if commitment and not modality.allow_storage_commitment:
            errors.append(f"{place}.StorageCommitment: AllowStorageCommitment of {name!r} is false")
        return errors

    @property
    def _modalities_hidden(self) -> bool:
        return bool(self.orthanc.get("DicomModalitiesInDatabase"))

    def _errors_of_gateway(self, config: Config) -> list[str]:
        """What gateway mode cannot keep, or would leave lying in Orthanc's own folder."""
        if config.gateway is None:
            return []
        errors = [
            f"DicomModalities.{modality.name}.AllowStorageCommitment: cannot be in gateway mode, where Orthanc keeps "
            "no original and would answer that it has none"
            for modality in self.modalities.values()
            if modality.asks_commitment and modality.name not in config.modalities
        ]
        storage = Path(str(self.orthanc.get("StorageDirectory", "OrthancStorage")))
        if storage.is_absolute() and config.gateway.spool.is_relative_to(storage):
            errors.append("Deid.Gateway.Spool: cannot be within Orthanc's StorageDirectory")
        return errors


def read(where: str) -> Startup:
    """Read `-` (the plugin's line of JSON on stdin) or the path of Orthanc's configuration. Raises ConfigError."""
    if where == "-":
        return _from_plugin(sys.stdin.buffer.readline())
    return from_configuration(load(Path(where)))


def _from_plugin(line: bytes) -> Startup:
    try:
        setup = json.loads(line)
        socket = setup.get("Socket")
        return Startup(
            section=_section(setup),
            orthanc=setup["Orthanc"],
            secret=setup["Secret"],
            **_known(setup["Orthanc"], setup["Peers"], setup["Modalities"], setup["DicomWeb"]),
            authorization=setup["Authorization"],
            socket=Path(socket) if socket else None,
            from_plugin=True,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(["standard input: not the line of JSON that the plugin writes"]) from None


def _section(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    section = configuration.get("Deid")
    if not isinstance(section, dict):
        raise ConfigError(["Deid: the section is missing in Orthanc's configuration, or not an object"])
    return section


def from_configuration(configuration: Mapping[str, Any]) -> Startup:
    """Make the start-up of a command that is called by hand from Orthanc's whole configuration. Raises ConfigError."""
    dicomweb = configuration.get("DicomWeb")
    servers = dicomweb.get("Servers") if isinstance(dicomweb, dict) else None
    users = configuration.get("RegisteredUsers")
    authorization = None
    if isinstance(users, dict) and users:
        name, password = next(iter(users.items()))
        authorization = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
    elsewhere = _section(configuration).get("Orthanc")
    if isinstance(elsewhere, dict):
        authorization = _user_of(elsewhere)
    return Startup(
        section=_section(configuration),
        orthanc={key: value for key, value in configuration.items() if key not in _SECRET},
        secret=secrets.token_hex(32),
        **_known(configuration, configuration.get("OrthancPeers"), configuration.get("DicomModalities"), servers),
        authorization=authorization,
    )


def _user_of(orthanc: Mapping[str, Any]) -> str | None:
    """Return the credentials of the section's own Orthanc; what is wrong with them is told by the section's check."""
    name, file = orthanc.get("Username"), orthanc.get("PasswordFile")
    try:
        password = Path(str(file)).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _known(orthanc: Mapping[str, Any], peers: Any, modalities: Any, servers: Any) -> dict[str, Any]:
    """Read whom Orthanc knows; as Orthanc does, without those of the file where they stand in its database."""
    faults: list[str] = []
    in_database = [bool(orthanc.get(f"{key}InDatabase")) for key in ("OrthancPeers", "DicomModalities")]
    return {
        "peers": settings.web_services(None if in_database[0] else peers, "OrthancPeers", faults),
        "modalities": settings.modalities(None if in_database[1] else modalities, "DicomModalities", faults),
        "dicomweb": settings.web_services(servers, "DicomWeb.Servers", faults),
        "faults": tuple(faults),
    }


def load(path: Path) -> dict[str, Any]:
    """Read Orthanc's configuration: JSON with comments, or a folder whose files are put together by their names.

    A relative StorageDirectory is made absolute as Orthanc does, against the folder of the configuration. Raises
    ConfigError.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise ConfigError([f"{path}: no *.json in this folder"])
    configuration: dict[str, Any] = {}
    for file in files:
        try:
            text = _TOKEN.sub(lambda found: found[1] or " ", file.read_text(encoding="utf-8"))
            part = json.loads(_VARIABLE.sub(lambda found: os.environ.get(found[1], found[2] or ""), text))
        except OSError as error:
            raise ConfigError([f"{file}: {error.strerror}"]) from None
        except ValueError as error:
            raise ConfigError([f"{file}: not JSON ({error})"]) from None
        if not isinstance(part, dict):
            raise ConfigError([f"{file}: not a JSON object"])
        configuration |= part
    for key in ("StorageDirectory", "SslCertificate", "HttpsCACertificates"):
        if isinstance(configuration.get(key), str) and configuration[key]:
            configuration[key] = str(files[0].absolute().parent / configuration[key])
    return configuration
