"""Another archive that Orthanc can ask: a DICOM modality (C-FIND, C-MOVE or C-GET) or a DICOMweb server.

Orthanc does the asking and the fetching, with the settings that it has for them; what is fetched is stored in it. What
is asked for travels in bodies only, and no error here names any of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from orthanc_deid.orthanc import resources
from orthanc_deid.orthanc.client import NotFound, OrthancClient, OrthancError, Unavailable

FIND_SECONDS = 300.0
"""How long an archive may take to answer a question."""
_UID = re.compile(r"[0-9.]{1,64}")
_ASKED = ("PatientID", "StudyInstanceUID", "AccessionNumber", "StudyDate", "NumberOfStudyRelatedInstances")
_TAGS = {
    "PatientID": "00100020",
    "StudyInstanceUID": "0020000D",
    "AccessionNumber": "00080050",
    "StudyDate": "00080020",
    "NumberOfStudyRelatedInstances": "00201208",
}
_EXACT = ("PatientID", "StudyInstanceUID", "AccessionNumber")


class SourceDown(Exception):
    """The archive does not answer at all."""


class SourceFailed(Exception):
    """The archive answers, but not this question."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a cohort is fetched from: `kind` as in the request, and the name in Orthanc's configuration."""

    kind: Literal["Modality", "DicomWeb"]
    name: str

    def shown(self) -> dict[str, str]:
        """Return it as requests and answers name it."""
        return {self.kind: self.name}

    @property
    def path(self) -> str:
        """The route of Orthanc's that stands for it."""
        where = "/modalities/" if self.kind == "Modality" else "/dicom-web/servers/"
        return where + quote(self.name, safe="")


def origin_of(shown: Mapping[str, str]) -> Origin:
    """Read an origin as requests name it."""
    ((kind, name),) = shown.items()
    return Origin("Modality" if kind == "Modality" else "DicomWeb", name)


@dataclass(frozen=True, slots=True)
class Study:
    """A study that an archive has; `instances` is None where it does not tell how many."""

    uid: str
    instances: int | None


def known(rest: resources.Rest, origin: Origin) -> bool:
    """Tell whether Orthanc has settings of this name."""
    try:
        return origin.name in rest.get_json("/modalities" if origin.kind == "Modality" else "/dicom-web/servers")
    except NotFound:  # without the DICOMweb plugin
        return False


def find(client: OrthancClient, origin: Origin, line: Mapping[str, str]) -> list[Study]:
    """Ask for the studies of one line of a cohort. Raises SourceDown and SourceFailed.

    An archive that does not know a key leaves it out of account and answers with other patients' studies: those are
    passed over.
    """
    query = {**dict.fromkeys(_ASKED, ""), **line}
    answers = _ask(client, origin, query)
    studies = {}
    for answer in answers:
        if _UID.fullmatch(answer.get("StudyInstanceUID", "")) and _fits(line, answer):
            number = answer.get("NumberOfStudyRelatedInstances", "")
            studies[answer["StudyInstanceUID"]] = int(number) if number.isascii() and number.isdigit() else None
    if answers and not studies:
        raise SourceFailed("another study was found than asked for")
    return [Study(uid, number) for uid, number in sorted(studies.items())]


def _fits(line: Mapping[str, str], answer: Mapping[str, str]) -> bool:
    for key in _EXACT:
        if line.get(key) and answer.get(key, "").strip() != line[key].strip():
            return False
    first, _, last = line.get("StudyDate", "").partition("-")
    date = answer.get("StudyDate", "")
    return not (first and date) or first <= date <= (last or first)


def _ask(client: OrthancClient, origin: Origin, query: Mapping[str, str]) -> list[dict[str, str]]:
    if origin.kind == "DicomWeb":
        fields = [key for key, value in query.items() if not value]
        arguments = {key: value for key, value in query.items() if value}
        arguments["includefield"] = ",".join(_TAGS[key] for key in fields if key in _TAGS)
        found = _json(client, origin, origin.path + "/qido", {"Uri": "/studies", "Arguments": arguments})
        return [{key: _value(answer, key) for key in _ASKED} for answer in found]
    made = _json(client, origin, origin.path + "/query", {"Level": "Study", "Query": dict(query)})
    path = f"/queries/{made['ID']}"
    try:
        found = client.get_json(path + "/answers", {"expand": True, "simplify": True})
        return [{key: str(answer.get(key) or "") for key in _ASKED} for answer in found]
    finally:
        _forget(client, path)


def _value(answer: Any, key: str) -> str:
    """Return a value of Orthanc's answer to QIDO-RS: DICOM JSON, or its own form with names."""
    element = answer.get(_TAGS[key]) or answer.get(f"{_TAGS[key][:4].lower()},{_TAGS[key][4:].lower()}") or {}
    value = element.get("Value", "")
    return str(value[0] if isinstance(value, list) and value else "" if isinstance(value, list) else value)


def _json(client: OrthancClient, origin: Origin, path: str, body: Any) -> Any:
    try:
        return client.ask("POST", path, json.dumps(body).encode(), timeout=FIND_SECONDS).json()
    except Unavailable:
        raise
    except OrthancError:
        raise _trouble(client, origin) from None


def _trouble(client: OrthancClient, origin: Origin) -> Exception:
    """Tell an archive that does not answer from one that refuses: Orthanc answers 500 for both."""
    try:
        if origin.kind == "Modality":
            client.ask("POST", origin.path + "/echo", b"{}", timeout=60)
        else:
            body = {"Uri": "/studies", "Arguments": {"limit": "1", "StudyInstanceUID": "1.2.3"}}
            client.ask("POST", origin.path + "/qido", json.dumps(body).encode(), timeout=60)
    except Unavailable:
        raise
    except OrthancError:
        return SourceDown("it does not answer")
    return SourceFailed("it refuses")


def retrieve(client: OrthancClient, origin: Origin, uid: str) -> str:
    """Begin to fetch a study into this Orthanc; returns Orthanc's own job. Raises SourceDown and SourceFailed."""
    try:
        if origin.kind == "DicomWeb":
            body = {"Resources": [{"Study": uid}], "Synchronous": False, "Asynchronous": True}
            return str(_change(client, origin.path + "/retrieve", body)["ID"])
        made = _change(client, origin.path + "/query", {"Level": "Study", "Query": {"StudyInstanceUID": uid}})
        path = f"/queries/{made['ID']}"
        try:
            # By C-MOVE to this Orthanc's own title, or by C-GET where Orthanc is set up so.
            return str(_change(client, path + "/retrieve", {"Synchronous": False, "Asynchronous": True})["ID"])
        finally:
            _forget(client, path)
    except (Unavailable, SourceDown, SourceFailed):
        raise
    except (OrthancError, KeyError, TypeError):
        raise _trouble(client, origin) from None


def _change(client: OrthancClient, path: str, body: Any) -> Any:
    return client.change("POST", path, json.dumps(body).encode(), content_type="application/json").json()


def _forget(client: OrthancClient, path: str) -> None:
    """Let Orthanc forget a question; it forgets the oldest by itself."""
    try:
        client.change("DELETE", path)
    except OrthancError:
        return


def job_state(client: OrthancClient, job: str) -> str:
    """Return the state of one of Orthanc's jobs; Failure for one that it does not know any more."""
    try:
        return str(client.get_json(f"/jobs/{job}")["State"])
    except NotFound:
        return "Failure"


def cancel(client: OrthancClient, job: str) -> None:
    """End one of Orthanc's jobs, if it still runs."""
    try:
        client.change("POST", f"/jobs/{job}/cancel", b"{}", content_type="application/json")
    except OrthancError:
        return


def stored(client: OrthancClient, uid: str) -> list[str]:
    """Return the instances that this Orthanc holds of a study by its Study Instance UID."""
    found = client.ask("POST", "/tools/lookup", uid.encode()).json()
    studies = sorted(row["ID"] for row in found if row["Type"] == "Study")
    return [instance for study in studies for instance in resources.below(client, "studies", study)]


def came_from(metadata: Mapping[str, str], origin: Origin) -> bool:
    """Tell whether an instance came in the way in which this origin's come."""
    return (metadata.get("Origin") == "DicomProtocol") == (origin.kind == "Modality")
