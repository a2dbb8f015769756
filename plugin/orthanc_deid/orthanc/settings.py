"""Whom Orthanc's own configuration knows: its peers, its modalities and the servers of its DICOMweb plugin.

Each may be written as a list or as an object; what Orthanc would refuse is a fault here too. The settings hold
passwords: nothing of them is ever shown but the names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

_WEB_KEYS = (
    *("Url", "URL", "Username", "Password", "HttpHeaders", "Pkcs11", "Timeout"),
    *("CertificateFile", "CertificateKeyFile", "CertificateKeyPassword"),
)
_One = TypeVar("_One")


@dataclass(frozen=True)
class WebService:
    """A server that Orthanc reaches by HTTP, an entry of OrthancPeers or DicomWeb.Servers; only its name is shown."""

    name: str
    url: str = field(repr=False)
    """Ends with a slash."""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    certificate: Path | None = field(default=None, repr=False)
    """The client's own certificate (PEM), which also holds the key unless `key` is given."""
    key: Path | None = field(default=None, repr=False)
    key_password: str = field(default="", repr=False)
    pkcs11: bool = field(default=False, repr=False)
    timeout: int | None = field(default=None, repr=False)
    """Seconds; None: Orthanc's HttpTimeout."""
    properties: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Whatever else stands there, such as HasDelete and ChunkedTransfers of the DICOMweb plugin."""


@dataclass(frozen=True)
class Modality:
    """An entry of DicomModalities."""

    name: str
    aet: str = field(repr=False)
    host: str = field(repr=False)
    port: int = field(repr=False)
    manufacturer: str = field(default="Generic", repr=False)
    local_aet: str | None = field(default=None, repr=False)
    """What this Orthanc calls itself there; None: its DicomAet."""
    timeout: int | None = field(default=None, repr=False)
    """Seconds; None: Orthanc's DicomScuTimeout."""
    use_dicom_tls: bool = field(default=False, repr=False)
    allow_echo: bool = field(default=True, repr=False)
    allow_find: bool = field(default=True, repr=False)
    allow_get: bool = field(default=True, repr=False)
    allow_move: bool = field(default=True, repr=False)
    allow_store: bool = field(default=True, repr=False)
    allow_storage_commitment: bool = field(default=True, repr=False)
    asks_commitment: bool = field(default=False, repr=False)
    """It is allowed in so many words, and not only by Orthanc's default."""
    allow_transcoding: bool = field(default=True, repr=False)
    properties: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Whatever else stands there, such as RetrieveMethod."""


@dataclass(frozen=True)
class Receivers:
    """Whom outputs can be sent to without Orthanc's help, and what of Orthanc's own settings holds for all of them."""

    modalities: Mapping[str, Modality] = field(default_factory=dict)
    dicomweb: Mapping[str, WebService] = field(default_factory=dict)
    orthanc: Mapping[str, Any] = field(default_factory=dict, repr=False)


class _FaultError(ValueError):
    """One entry is not what Orthanc takes; the text names a key, never a value."""


def web_services(section: Any, path: str, faults: list[str]) -> dict[str, WebService]:
    """Read OrthancPeers or DicomWeb.Servers; what is wrong goes to `faults`."""
    return _each(section, path, faults, _web_service)


def modalities(section: Any, path: str, faults: list[str]) -> dict[str, Modality]:
    """Read DicomModalities; what is wrong goes to `faults`."""
    return _each(section, path, faults, _modality)


def _each(section: Any, path: str, faults: list[str], read: Callable[[str, Any], _One]) -> dict[str, _One]:
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        faults.append(f"{path}: has to be an object")
        return {}
    found = {}
    for name, entry in section.items():
        try:
            found[str(name)] = read(str(name), entry)
        except _FaultError as fault:
            faults.append(f"{path}.{name}{fault}")
    return found


def _web_service(name: str, entry: Any) -> WebService:
    if isinstance(entry, list):
        if len(entry) not in (1, 3) or not all(isinstance(part, str) for part in entry):
            raise _FaultError(": has to be [URL] or [URL, user, password]")
        return WebService(name, _url(entry[0]), *entry[1:])
    if not isinstance(entry, Mapping):
        raise _FaultError(": has to be a list or an object")
    headers = entry.get("HttpHeaders", {})
    if not isinstance(headers, Mapping) or not all(isinstance(value, str) for value in headers.values()):
        raise _FaultError(".HttpHeaders: has to be an object of texts")
    certificate, key = _text(entry, "CertificateFile"), _text(entry, "CertificateKeyFile")
    return WebService(
        name,
        _url(_text(entry, "Url") or _text(entry, "URL")),
        _text(entry, "Username"),
        _text(entry, "Password"),
        dict(headers),
        Path(certificate) if certificate else None,
        Path(key) if key else None,
        _text(entry, "CertificateKeyPassword"),
        _flag(entry, "Pkcs11", False),
        _seconds(entry),
        {key: value for key, value in entry.items() if key not in _WEB_KEYS},
    )


def _url(text: str) -> str:
    scheme, separator, _ = text.partition("://")
    if not text or (separator and scheme not in ("http", "https")):
        raise _FaultError(": has no address that begins with http:// or https://")
    return (text if separator else f"http://{text}").rstrip("/") + "/"


_MODALITY_KEYS = (
    *("AET", "Host", "Port", "Manufacturer", "LocalAet", "Timeout", "UseDicomTls"),
    *("AllowEcho", "AllowFind", "AllowGet", "AllowMove", "AllowStore"),
    *("AllowStorageCommitment", "AllowNAction", "AllowEventReport", "AllowTranscoding"),
)


def _modality(name: str, entry: Any) -> Modality:
    if isinstance(entry, list):
        if len(entry) not in (3, 4):
            raise _FaultError(": has to be [AE title, host, port] or [AE title, host, port, manufacturer]")
        entry = dict(zip(("AET", "Host", "Port", "Manufacturer"), entry, strict=False))
    if not isinstance(entry, Mapping):
        raise _FaultError(": has to be a list or an object")
    aet, host = _text(entry, "AET"), _text(entry, "Host")
    if not aet or not host:
        raise _FaultError(": has no AET, or no Host")
    commitment = all(_flag(entry, key, True) for key in ("AllowNAction", "AllowEventReport"))
    return Modality(
        name=name,
        aet=aet,
        host=host,
        port=_port(entry.get("Port")),
        manufacturer=_text(entry, "Manufacturer") or "Generic",
        local_aet=_text(entry, "LocalAet") or None,
        timeout=_seconds(entry),
        use_dicom_tls=_flag(entry, "UseDicomTls", False),
        allow_echo=_flag(entry, "AllowEcho", True),
        allow_find=_flag(entry, "AllowFind", True),
        allow_get=_flag(entry, "AllowGet", True),
        allow_move=_flag(entry, "AllowMove", True),
        allow_store=_flag(entry, "AllowStore", True),
        allow_storage_commitment=_flag(entry, "AllowStorageCommitment", commitment),
        asks_commitment=entry.get("AllowStorageCommitment", entry.get("AllowNAction")) is True,
        allow_transcoding=_flag(entry, "AllowTranscoding", True),
        properties={key: value for key, value in entry.items() if key not in _MODALITY_KEYS},
    )


def _port(value: Any) -> int:
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    if not text.isdecimal() or not 0 < int(text) < 65535:
        raise _FaultError(".Port: has to be a number from 1 to 65534")
    return int(text)


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key, "")
    if not isinstance(value, str):
        raise _FaultError(f".{key}: has to be a text")
    return value


def _flag(entry: Mapping[str, Any], key: str, default: bool) -> bool:
    value = entry.get(key, default)
    if not isinstance(value, bool):
        raise _FaultError(f".{key}: has to be true or false")
    return value


def _seconds(entry: Mapping[str, Any]) -> int | None:
    value = entry.get("Timeout", 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _FaultError(".Timeout: has to be a number of seconds")
    return value or None
