"""The section `Deid` as JSON: its keys with their forms, defaults and meanings, and its faults in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_pascal

from orthanc_deid.identity.pseudonyms import DEFAULT_DOMAIN


class Row(NamedTuple):
    """One key for the README's table: name, default as it would be written, meaning."""

    key: str
    default: str
    meaning: str


def _not_yet(*allowed: Any) -> BeforeValidator:
    """Refuse, by name, what the contract has and this release has not."""

    def check(value: Any) -> Any:
        if value in allowed and type(value) in {type(item) for item in allowed}:
            return value
        shown = " or ".join(repr(item) if isinstance(item, str) else str(item).lower() for item in allowed)
        raise ValueError(f"not supported yet: this release knows {shown} only")

    return BeforeValidator(check)


def _patterns(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Section(BaseModel):
    """One object of the JSON: unknown keys and wrong types are faults."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_pascal, strict=True, hide_input_in_errors=True)


class RateSection(Section):
    """How fast a destination may be sent to."""

    instances_per_second: float | None = Field(default=None, gt=0, strict=False)
    megabytes_per_second: float | None = Field(default=None, gt=0, strict=False)


class LimitsSection(Section):
    """When and how fast something may be sent: part of an entry of Destinations."""

    rate: RateSection | None = Field(
        default=None,
        description='How fast at most: `{"InstancesPerSecond": n}`, `{"MegabytesPerSecond": n}` or both.',
    )
    window: Annotated[list[str], BeforeValidator(_patterns)] = Field(
        default_factory=list,
        description='When: `"22:00-06:00"` in the server\'s local time, or a list of such. Outside of them nothing is '
        "sent. Empty: always.",
    )
    backfill_only: bool = Field(
        default=False, description="`Window` binds the back-fill only: what has just arrived is sent at any time."
    )


class XnatSection(Section):
    """Where in an XNAT an output belongs."""

    project: str = Field(pattern="^[A-Za-z0-9_-]{1,64}$", description="The project's id at XNAT.")


class DestinationSection(LimitsSection):
    """An entry of Destinations: one receiver, and what it is told or asked for."""

    peer: str | None = Field(
        default=None, min_length=1, max_length=90, description="A server of Orthanc's `OrthancPeers`."
    )
    modality: str | None = Field(
        default=None, min_length=1, max_length=80, description="A modality of Orthanc's `DicomModalities`, by C-STORE."
    )
    dicom_web: str | None = Field(
        default=None,
        min_length=1,
        max_length=80,
        description="A server of the DICOMweb plugin's `DicomWeb.Servers`, by STOW-RS.",
    )
    folder: str | None = Field(
        default=None, pattern="^/", description="A folder that is there, by its absolute path: a file for each output."
    )
    name: str | None = Field(
        default=None,
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="With `Folder`: what reports call it. By default the last part of its path.",
    )
    layout: Literal["dicom", "bids"] | None = Field(
        default=None,
        description="With `Folder`: `dicom`, by pseudonym, study and series, or `bids`, as source data of a BIDS data "
        "set. By default `dicom`.",
    )
    storage_commitment: bool | None = Field(
        default=None,
        description="With `Modality`: confirmed only when it has committed to keeping an output. By default `false`.",
    )
    commitment_seconds: float | None = Field(
        default=None,
        ge=10,
        le=86400 * 7,
        strict=False,
        description="With `StorageCommitment`: how long its answer may take before it is asked again. By default 3600.",
    )
    xnat: XnatSection | None = Field(
        default=None,
        description='With `Modality`: it is an XNAT, and outputs belong to `{"Project": id}` there.',
    )

    @model_validator(mode="after")
    def _one_kind(self) -> DestinationSection:
        kinds = [name for name in DESTINATIONS if getattr(self, name) is not None]
        if len(kinds) != 1:
            names = [to_pascal(name) for name in DESTINATIONS]
            raise ValueError(f"has to have one of {', '.join(names[:-1])} or {names[-1]}")
        for name, kind in _OPTIONS.items():
            if getattr(self, name) is not None and kind not in kinds:
                raise ValueError(f"{to_pascal(name)} is for a {to_pascal(kind)} only")
        if self.commitment_seconds is not None and not self.storage_commitment:
            raise ValueError("CommitmentSeconds is for StorageCommitment only")
        return self


DESTINATIONS = ("peer", "modality", "dicom_web", "folder")
"""The kinds of destinations, as the keys of their sections."""
_OPTIONS = {
    "name": "folder",
    "layout": "folder",
    "storage_commitment": "modality",
    "commitment_seconds": "modality",
    "xnat": "modality",
}


class ProjectSection(Section):
    """An entry of Projects."""

    profile: str = Field(
        min_length=1,
        description="The profile: the name of a file in `Profiles`, with or without `.yaml`. Has to be given.",
    )
    match: dict[str, Annotated[list[str], BeforeValidator(_patterns), Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Which instances are taken as they arrive: `RemoteAET`, `CalledAET`, or any attribute of text by "
        "its keyword or `gggg,eeee`, each with a regular expression, or a list of them, that the whole value has to "
        "match. "
        "All conditions have to hold. Empty: the project runs by jobs only.",
    )
    destinations: list[DestinationSection] = Field(
        default_factory=list,
        description='Where outputs go: a list of `{"Peer": name}`, `{"Modality": name}`, `{"DicomWeb": name}` and '
        '`{"Folder": path}`, with what else stands below.',
    )
    backfill_window: Annotated[list[str], BeforeValidator(_patterns)] = Field(
        default_factory=list,
        description='When the back-fill (what jobs bring in) is worked on: `"20:00-07:00"` in the server\'s local '
        "time, or a list of such. Empty: always.",
    )
    keep_research_copy: bool = Field(
        default=False, description="Keep the outputs in this Orthanc too, as studies of their own."
    )
    keep_original: Annotated[bool, _not_yet(True)] = Field(
        default=True, description="Keep the originals. `false` is not supported yet."
    )
    release: Literal["instance", "study", "manual"] = Field(
        default="study",
        description="When outputs go: an `instance` at once, a `study` when it is quiet, or `manual`: by a person.",
    )
    quiet_seconds: float = Field(
        default=60,
        ge=0,
        le=86400 * 7,
        strict=False,
        description="How long nothing may have arrived for a study to be quiet.",
    )
    incomplete: Literal["release-rest", "hold"] = Field(
        default="release-rest",
        description="A study with an instance in quarantine: `release-rest`, or `hold` it until that is settled.",
    )
    pseudonyms: Annotated[Literal["keyed"], _not_yet("keyed")] = Field(
        default="keyed", description="How pseudonyms are made. `keyed`: derived from the master key and the patient id."
    )
    domains: dict[str, Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default_factory=lambda: {"*": DEFAULT_DOMAIN},
        description="Identity domain by calling AE title, `*`: the others. Equal ids of two domains are two subjects.",
    )
    encrypt_to: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="Certificates (PEM files, RSA) of those who may open what was removed: it goes along, encrypted, "
        "in each output. Empty: nothing goes along. Whoever has a recipient's key can re-identify the outputs.",
    )


class ListenSection(Section):
    """Listen."""

    address: str = Field(min_length=3)
    certificate: str | None = Field(default=None, min_length=1)
    certificate_key: str | None = Field(default=None, min_length=1)


class OrthancSection(Section):
    """Orthanc."""

    url: str = Field(min_length=1)
    username: str | None = Field(default=None, min_length=1)
    password_file: str | None = Field(default=None, min_length=1)
    ca: str | None = Field(default=None, min_length=1)


class GatewaySection(Section):
    """Gateway mode."""

    spool: str | None = Field(
        default=None,
        min_length=1,
        description="The folder in which originals wait until they are done, an absolute path. By default `spool` "
        "in `DataDirectory`. It holds identified originals.",
    )
    maximum_size: int = Field(
        default=20_480, ge=1, description="Beyond so many MiB the spool takes no more: senders are refused, and retry."
    )
    minimum_free: int = Field(
        default=1024, ge=0, description="It takes nothing that would leave its disk fewer MiB than this, either."
    )
    unmatched: Literal["quarantine", "discard"] = Field(
        default="quarantine",
        description="What no project takes: kept in the spool and listed (`quarantine`), or deleted (`discard`).",
    )


class DeidSection(Section):
    """The whole section."""

    python: str | None = Field(
        default=None,
        min_length=1,
        description="The Python interpreter of the service, 3.11 or newer. By default that of the environment beside "
        "the plugin (`venv`, or `.venv` of a checkout), else `python3`.",
    )
    service: str = Field(
        default="spawn",
        min_length=1,
        description="`spawn`: the plugin starts the service itself. A URL (`https://`, or `http://` on the loopback): "
        "it runs elsewhere, and the plugin hands requests on to it.",
    )
    service_token_file: str | None = Field(
        default=None,
        min_length=1,
        description="A file with the token that the plugin and a service elsewhere share: at least 32 characters.",
    )
    service_ca: str | None = Field(
        default=None,
        min_length=1,
        description="A file (PEM) with the authority of such a service's certificate. By default the system's.",
    )
    listen: ListenSection | None = Field(
        default=None,
        description='Where a service that no plugin starts (`orthanc-deid serve --config FILE`) is asked: `{"Address": '
        '"host:port", "Certificate": file, "CertificateKey": file}`; without a certificate on the loopback only.',
    )
    orthanc: OrthancSection | None = Field(
        default=None,
        description='The Orthanc of such a service: `{"Url", "Username", "PasswordFile", "Ca"}`. By default the one '
        "whose configuration this is, on this machine.",
    )
    data_directory: str | None = Field(
        default=None,
        min_length=1,
        description="The folder of the outbox and, unless they are given, of database, key and spool; each service's "
        "own. By default that of the database's file, or `orthanc-deid` beside Orthanc's storage.",
    )
    database: str | None = Field(
        default=None,
        min_length=1,
        description="The database's file. By default `deid.sqlite3` in `DataDirectory`. Or "
        "`postgresql://user@host:port/database`, without a password, which several services may share.",
    )
    database_password_file: str | None = Field(
        default=None,
        min_length=1,
        description="A file with the password of that PostgreSQL. By default `PGPASSWORD` or `.pgpass`.",
    )
    key_file: str | None = Field(
        default=None,
        min_length=1,
        description="The master key, made at the first start. By default `master.key` in `DataDirectory`. Back it up.",
    )
    profiles: str | None = Field(
        default=None, min_length=1, description="The folder of the profiles. By default those of this package."
    )
    workers: int | None = Field(
        default=None, ge=1, le=256, description="Worker processes. By default one per processor."
    )
    commitment_listen: str | None = Field(
        default=None,
        pattern=r"^(?:[^:\s]+:)?[0-9]{1,5}$",
        description="Port, or address:port, where receivers bring their answers about storage commitments. By default "
        "they can bring them only over the association on which they were asked.",
    )
    gateway: GatewaySection | None = Field(
        default=None,
        description="Gateway mode: an object, `{}` for its defaults. Originals go into a spool and never into "
        "Orthanc's storage. `null`: off.",
    )
    latency_budget: float = Field(
        default=3,
        ge=0,
        strict=False,
        description="How many times as long as on an idle Orthanc a small request may take before work gives way to "
        "it: the back-fill first and at last almost to a standstill, what has just arrived much later. While instances "
        "arrive in a rush, the back-fill stands back too. 0: never.",
    )
    niceness: int = Field(
        default=10,
        ge=0,
        le=19,
        description="By how much the worker processes stand behind Orthanc where processors are short (`nice`).",
    )
    outbox_limit: int = Field(
        default=20000,
        ge=1,
        description="Megabytes of outputs on their way after which no more are made, until destinations have taken "
        "some.",
    )
    free_disk: int = Field(
        default=1000,
        ge=0,
        description="Megabytes that stay free on the outbox's disk: below that nothing is de-identified.",
    )
    projects: dict[str, ProjectSection] = Field(
        default_factory=dict,
        description="The projects by name: letters, digits, dot, hyphen and underscore, at most 64.",
    )


_DEFAULTS: Mapping[str, str] = {
    "Python": "the environment's",
    "Database": "orthanc-deid/deid.sqlite3",
    "ServiceTokenFile": "none",
    "ServiceCa": "none",
    "Listen": "none",
    "Orthanc": "none",
    "DataDirectory": "orthanc-deid",
    "DatabasePasswordFile": "none",
    "KeyFile": "orthanc-deid/master.key",
    "Profiles": "the package's own",
    "Workers": "number of processors",
    "Profile": "none",
    "Domains": '{"*": "default"}',
    "Gateway": "null",
    "Spool": "orthanc-deid/spool",
}


def read(section: Mapping[str, Any], errors: list[str]) -> DeidSection:
    """Read the section; faults go to `errors`, and what is left without the faulty keys is returned, so that its
    faults of other kinds are told at the same time."""
    try:
        return DeidSection.model_validate(dict(section))
    except ValidationError as error:
        errors += [_fault(fault) for fault in error.errors()]
        return _without(section, error)


def describe() -> list[Row]:
    """Return the keys with defaults and meanings; those of a project and of its destinations have their paths."""
    rows = [_row("", name, field) for name, field in DeidSection.model_fields.items()]
    rows += [_row("Gateway.", name, field) for name, field in GatewaySection.model_fields.items()]
    for name, field in ProjectSection.model_fields.items():
        rows.append(_row("Projects.<name>.", name, field))
        if name == "destinations":
            inner = DestinationSection.model_fields.items()
            rows += [_row("Projects.<name>.Destinations[].", key, option) for key, option in inner]
    return rows


def _row(prefix: str, name: str, field: Any) -> Row:
    key = to_pascal(name)
    value = field.get_default(call_default_factory=True)
    default = _DEFAULTS.get(key)
    if default is None:
        default = {"True": "true", "False": "false", "{}": "{}", "None": "none"}.get(str(value), str(value))
    return Row(prefix + key, default, str(field.description))


def _path(parts: Iterable[Any]) -> str:
    text = "Deid"
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text


_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "has to be given",
    "bool_type": "has to be true or false",
    "string_type": "has to be a text",
    "int_type": "has to be a whole number",
    "dict_type": "has to be an object",
    "list_type": "has to be a list",
    "model_type": "has to be an object",
    "model_attributes_type": "has to be an object",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
}


def _fault(fault: Any) -> str:
    text = _WORDS.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "literal_error":
        text = f"has to be {fault['ctx']['expected']}"
    return f"{_path(fault['loc'])}: {text[0].lower() + text[1:] if fault['type'] != 'value_error' else text}"


def _without(section: Mapping[str, Any], error: ValidationError) -> DeidSection:
    """Read what is left when the keys with faults are taken out; a key that has to be there takes its project along."""
    left: dict[str, Any] = dict(section)
    if isinstance(left.get("Projects"), Mapping):
        left["Projects"] = {
            name: dict(project) if isinstance(project, Mapping) else project
            for name, project in left["Projects"].items()
        }
    for fault in error.errors():
        place = [str(part) for part in fault["loc"]]
        if place[0] == "Projects" and len(place) >= 2:
            projects = left["Projects"]
            if len(place) == 2 or place[2] == "Profile":
                projects.pop(place[1], None)
            elif place[1] in projects:
                projects[place[1]].pop(place[2], None)
        else:
            left.pop(place[0], None)
    return DeidSection.model_validate(left)
