"""Another archive that Orthanc can ask: a DICOM modality (C-FIND, C-MOVE or C-GET) or a DICOMweb server.

Orthanc does the asking and the fetching, with the settings that it has for them; what is fetched is stored in it. A
DICOMweb server is searched from here: of a request that fails Orthanc logs the whole address, with the values in it.
What goes through Orthanc all the same (what it alone can reach, and what is fetched) comes after a question without
values, so that nothing is logged again and again while an archive is down. No error here names any value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import quote, urlencode

from pydicom.datadict import tag_for_keyword

from orthanc_deid.orthanc import matching, resources
from orthanc_deid.orthanc.client import Failed, NotFound, OrthancClient, OrthancError, Unavailable
from orthanc_deid.orthanc.peers import connect
from orthanc_deid.orthanc.settings import Receivers

FIND_SECONDS = 300.0
"""How long an archive may take to answer a question."""
_UID = re.compile(r"[0-9.]{1,64}")
_ASKED = ("PatientID", "StudyInstanceUID", "AccessionNumber", "StudyDate", "NumberOfStudyRelatedInstances")
_NOBODY = {"limit": "1", "StudyInstanceUID": "1.2.3"}
"""A search that names nobody: it only shows whether the server answers."""


class SourceDown(Exception):
    """The archive does not answer at all."""


class SourceFailed(Exception):
    """The archive answers, but not this question; its text is the code of why."""


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


def find(client: OrthancClient, origin: Origin, line: Mapping[str, str], receivers: Receivers) -> list[Study]:
    """Ask for the studies of one line of a cohort; `receivers` has the settings of DICOMweb servers. Raises SourceDown
    and SourceFailed.

    An archive that does not know a key leaves it out of account and answers with other patients' studies: those are
    passed over, and so is an answer that does not show a key that was asked for.
    """
    query = {**dict.fromkeys(_ASKED, ""), **line}
    answers = _ask(client, origin, query, receivers)
    studies = {}
    for answer in answers:
        if _UID.fullmatch(answer.get("StudyInstanceUID", "")) and matching.fits(line, answer):
            number = answer.get("NumberOfStudyRelatedInstances", "")
            studies[answer["StudyInstanceUID"]] = int(number) if number.isascii() and number.isdigit() else None
    if answers and not studies:
        raise SourceFailed("mismatch")  # another study was found than asked for
    return [Study(uid, number) for uid, number in sorted(studies.items())]


def _ask(client: OrthancClient, origin: Origin, query: Mapping[str, str], receivers: Receivers) -> list[dict[str, str]]:
    if origin.kind == "DicomWeb":
        arguments = {key: value for key, value in query.items() if value}
        arguments["includefield"] = ",".join(_tag(key) for key in query)
        found = _search(client, origin, arguments, receivers)
        return [{key: _value(answer, _tag(key)) for key in query} for answer in found]
    made = _json(client, origin, origin.path + "/query", {"Level": "Study", "Query": dict(query)})
    path = f"/queries/{made['ID']}"
    try:
        found = client.get_json(path + "/answers", {"expand": True, "simplify": True})
        return [{key: str(answer.get(key) or "").strip(" \0") for key in query} for answer in found]
    finally:
        _forget(client, path)


def _tag(keyword: str) -> str:
    return f"{tag_for_keyword(keyword) or 0:08X}"


def _value(answer: Any, tag: str) -> str:
    """Return a value of Orthanc's answer to QIDO-RS: DICOM JSON, or its own form with names. Several are put together
    as in DICOM."""
    element = answer.get(tag) or answer.get(f"{tag[:4].lower()},{tag[4:].lower()}") or {}
    value = element.get("Value", "")
    parts = value if isinstance(value, list) else [value]
    return "\\".join(_text(part) for part in parts).strip(" \0")


def _text(value: Any) -> str:
    if isinstance(value, dict):  # a person's name
        forms = (str(value.get(form) or "") for form in ("Alphabetic", "Ideographic", "Phonetic"))
        return "=".join(forms).rstrip("=")
    return "" if value is None else str(value)


def _search(client: OrthancClient, origin: Origin, arguments: Mapping[str, str], receivers: Receivers) -> Any:
    """Search a DICOMweb server for studies: from here, or through Orthanc where only that can reach it."""
    direct = _direct(origin, receivers)
    if direct is None:
        _call(client, origin)
        return _json(client, origin, origin.path + "/qido", {"Uri": "/studies", "Arguments": arguments})
    with closing(direct):
        try:
            return _studies(direct, arguments)
        except OrthancError:
            pass
        try:
            _studies(direct, _NOBODY)
        except OrthancError:
            raise SourceDown("it does not answer") from None
    raise SourceFailed("refused")


def _direct(origin: Origin, receivers: Receivers) -> OrthancClient | None:
    """Return a client of a DICOMweb server with Orthanc's settings for it, None where only Orthanc reaches it."""
    server = receivers.dicomweb.get(origin.name)
    if server is None:
        return None
    headers = {name: value for name, value in server.headers.items() if name.lower() != "accept"}
    found = connect(replace(server, headers={**headers, "Accept": "application/dicom+json"}), receivers.orthanc)
    return found if isinstance(found, OrthancClient) else None


def _studies(direct: OrthancClient, arguments: Mapping[str, str]) -> list[Any]:
    """Search for studies (QIDO-RS, PS3.18 10.6). Raises Unavailable and Failed."""
    path = "/studies?" + urlencode(arguments, quote_via=quote)
    answer = direct.ask("GET", path)
    found = [] if answer.status == 204 else answer.json()
    if not isinstance(found, list) or not all(isinstance(study, dict) for study in found):
        raise Failed("the answer is no list of studies", answer.status)
    return found


def _json(client: OrthancClient, origin: Origin, path: str, body: Any) -> Any:
    try:
        return client.ask("POST", path, json.dumps(body).encode(), timeout=FIND_SECONDS).json()
    except Unavailable:
        raise
    except OrthancError:
        raise _trouble(client, origin) from None


def _call(client: OrthancClient, origin: Origin) -> None:
    """Have Orthanc ask the archive something that names nobody. Raises SourceDown."""
    try:
        if origin.kind == "Modality":
            client.ask("POST", origin.path + "/echo", b"{}", timeout=60)
        else:
            body = {"Uri": "/studies", "Arguments": _NOBODY}
            client.ask("POST", origin.path + "/qido", json.dumps(body).encode(), timeout=60)
    except Unavailable:
        raise
    except OrthancError:
        raise SourceDown("it does not answer") from None


def _trouble(client: OrthancClient, origin: Origin) -> Exception:
    """Tell an archive that does not answer from one that refuses: Orthanc answers 500 for both."""
    try:
        _call(client, origin)
    except SourceDown as down:
        return down
    return SourceFailed("refused")


def retrieve(client: OrthancClient, origin: Origin, uid: str) -> str:
    """Begin to fetch a study into this Orthanc; returns Orthanc's own job. Raises SourceDown and SourceFailed."""
    try:
        if origin.kind == "DicomWeb":
            _call(client, origin)  # of a server that is down, Orthanc would log the address of the study
            body = {"Resources": [{"Study": uid}], "Synchronous": False, "Asynchronous": True}
            return str(_change(client, origin.path + "/retrieve", body)["ID"])
        made = _change(client, origin.path + "/query", {"Level": "Study", "Query": {"StudyInstanceUID": uid}})
        path = f"/queries/{made['ID']}"
        try:
            # All that was answered is fetched: it has to be this study alone.
            found = client.get_json(path + "/answers", {"expand": True, "simplify": True})
            if any(not matching.fits({"StudyInstanceUID": uid}, answer) for answer in found):
                raise SourceFailed("mismatch")
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


def forget_job(client: OrthancClient, job: str) -> None:
    """Take one of Orthanc's jobs out of its list, where a C-MOVE shows patient id and UIDs.

    Orthanc 1.10 keeps it until newer ones push it out.
    """
    try:
        client.change("DELETE", f"/jobs/{job}")
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
