"""Archives: a DICOMweb server is searched without Orthanc's help, and Orthanc names no value to one that is down."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from orthanc_deid.orthanc import matching, sources
from orthanc_deid.orthanc.client import Answer, Failed
from orthanc_deid.orthanc.settings import Receivers, WebService
from orthanc_deid.orthanc.sources import Origin, SourceDown, SourceFailed, Study

WEB = Origin("DicomWeb", "web")
SECRET = "PAT SECRET"
STUDY = "1.2.3.4.5.6.7.8.9"


def study(uid: str = STUDY, **values: str) -> dict[str, Any]:
    """A study as QIDO-RS tells it."""
    tags = {"PatientID": "00100020", "AccessionNumber": "00080050", "StudyDate": "00080020"}
    found = {tags[key]: {"vr": "LO", "Value": [value]} for key, value in values.items()}
    return {**found, "0020000D": {"vr": "UI", "Value": [uid]}, "00201208": {"vr": "IS", "Value": [3]}}


class Web:
    """A DICOMweb server that refuses whatever names somebody while `refuses` is set."""

    def __init__(self) -> None:
        self.answer: Any = [study(PatientID=SECRET)]
        self.refuses = False
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                outer.asked.append((parts.path, parse_qs(parts.query), dict(self.headers)))
                body = b"" if outer.answer is None else json.dumps(outer.answer).encode()
                status = 500 if outer.refuses and SECRET in str(outer.asked[-1][1]) else 200 if body else 204
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def known(self, **more: Any) -> Receivers:
        """Orthanc's settings of it."""
        service = WebService("web", f"http://127.0.0.1:{self.server.server_port}/dicom-web/", **more)
        return Receivers(dicomweb={"web": service})

    def stop(self) -> None:
        """Be down."""
        self.server.shutdown()
        self.server.server_close()


class Orthanc:
    """An Orthanc that remembers what it was asked; with `down` its DICOMweb plugin reaches nobody."""

    def __init__(self, down: bool = False) -> None:
        self.down = down
        self.asked: list[tuple[str, str]] = []

    def ask(self, method: str, path: str, body: bytes | None = None, *, timeout: float | None = None) -> Answer:
        """Ask."""
        self.asked.append((path, (body or b"").decode()))
        if self.down:
            raise Failed("no", 500)
        return Answer(200, {}, json.dumps([study(PatientID=SECRET)] if path.endswith("qido") else {"ID": "1"}).encode())

    def change(self, method: str, path: str, body: bytes | None = None, *, content_type: str = "") -> Answer:
        """Change."""
        return self.ask(method, path, body)


@pytest.fixture
def web() -> Iterator[Web]:
    """A server of one test."""
    one = Web()
    yield one
    one.server.server_close()


def find(orthanc: Orthanc, line: dict[str, str], receivers: Receivers) -> list[Study]:
    """Ask for a line."""
    return sources.find(orthanc, WEB, line, receivers)  # type: ignore[arg-type]


def test_a_server_is_searched_with_orthancs_settings_and_orthanc_is_told_nothing(web: Web) -> None:
    orthanc = Orthanc()
    receivers = web.known(username="u", password="p", headers={"X-Site": "a", "accept": "text/html"})
    assert find(orthanc, {"PatientID": SECRET}, receivers) == [Study(STUDY, 3)]
    ((path, asked, headers),) = web.asked
    assert path == "/dicom-web/studies" and asked["PatientID"] == [SECRET]
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"u:p").decode()
    assert headers["X-Site"] == "a" and headers["Accept"] == "application/dicom+json" and "accept" not in headers
    web.answer = None
    assert find(orthanc, {"PatientID": SECRET}, receivers) == []
    assert orthanc.asked == []


def test_a_server_that_is_down_is_told_from_one_that_refuses(web: Web) -> None:
    orthanc = Orthanc()
    web.refuses = True
    with pytest.raises(SourceFailed, match=r"^refused$"):
        find(orthanc, {"PatientID": SECRET}, web.known())
    web.refuses, web.answer = False, {"no": "list"}
    with pytest.raises(SourceDown):
        find(orthanc, {"PatientID": SECRET}, web.known())
    web.stop()
    with pytest.raises(SourceDown) as down:
        find(orthanc, {"PatientID": SECRET}, web.known())
    assert SECRET not in str(down.value) and down.value.__suppress_context__
    assert orthanc.asked == []


@pytest.mark.parametrize(
    "known", [Receivers(), Receivers(dicomweb={"web": WebService("web", "http://x/", pkcs11=True)})]
)
def test_orthanc_names_nobody_to_a_server_that_is_down(known: Receivers) -> None:
    orthanc = Orthanc()
    assert find(orthanc, {"PatientID": SECRET}, known) == [Study(STUDY, 3)], "what only Orthanc reaches"
    assert sources.retrieve(orthanc, WEB, STUDY) == "1"  # type: ignore[arg-type]
    orthanc = Orthanc(down=True)
    with pytest.raises(SourceDown):
        find(orthanc, {"PatientID": SECRET}, known)
    with pytest.raises(SourceDown):
        sources.retrieve(orthanc, WEB, STUDY)  # type: ignore[arg-type]
    assert orthanc.asked
    assert not [body for _, body in orthanc.asked if SECRET in body or STUDY in body]


@pytest.mark.parametrize(
    ("keyword", "wanted", "found"),
    [
        ("PatientID", "12", " 12 "),
        ("PatientID", "12", "12\0"),
        ("StudyDescription", "", ""),
        ("StudyDescription", "*", ""),
        ("StudyDescription", "RES*L?NG", "RESEARCH LUNG"),
        ("StudyDescription", "A.B", "A.B"),
        ("StudyDate", "20240101-20240131", "20240131"),
        ("StudyDate", "20240101", "2024.01.01"),
        ("PatientBirthDate", "19700101-", "19991231"),
        ("PatientBirthDate", "-19700101", "19700101"),
        ("StudyTime", "1000-1015", "101559.25"),
        ("StudyTime", "101500", "1015"),
        ("StudyTime", "1015", "10:15:30"),
        ("ModalitiesInStudy", "CT", "SR\\CT"),
        ("ModalitiesInStudy", "MR\\CT", "CT"),
        ("PatientName", "doe^john", "DOE^JOHN^^^ "),
        ("PatientName", "Doe^John^", "DOE ^JOHN"),
        ("PatientName", "DOE*", "Doe^John"),
        ("PatientName", "DOE^*", "Doe"),
        ("PatientName", "山田^太郎", "YAMADA^TAROU=山田^太郎"),
        ("PatientName", "YAMADA^TAROU=山田^太郎", "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("PatientName", "MU\u0308LLER", "Müller"),
        ("SpecificCharacterSet", "ISO_IR 192", "ISO_IR 100"),
    ],
)
def test_what_matches(keyword: str, wanted: str, found: str) -> None:
    assert matching.fits({keyword: wanted}, {keyword: found})


@pytest.mark.parametrize(
    ("keyword", "wanted", "found"),
    [
        ("PatientID", "12", "123"),
        ("PatientID", "12", ""),
        ("PatientID", "ab", "AB"),
        ("StudyDescription", "RES*", "THE RESEARCH"),
        ("StudyDescription", "RES?", "RES"),
        ("StudyDescription", "A.B", "AxB"),
        ("StudyDate", "20240101-20240131", "20240201"),
        ("StudyDate", "20240101-20240131", ""),
        ("StudyDate", "20240101", "2024"),
        ("PatientBirthDate", "19700101-", "19691231"),
        ("StudyTime", "1000-1015", "101600"),
        ("ModalitiesInStudy", "CT", "MR\\SR"),
        ("ModalitiesInStudy", "CT", ""),
        ("PatientName", "DOE", "DOE^JOHN"),
        ("PatientName", "DOE^JOHN", "DOE"),
        ("PatientName", "YAMADA^TAROU=山田^太郎", "YAMADA^TAROU"),
        ("PatientName", "=山田^太郎", "YAMADA^TAROU=鈴木"),
        ("SOPClassesInStudy", "1.2*", "1.2.3"),
    ],
)
def test_what_does_not_match(keyword: str, wanted: str, found: str) -> None:
    assert not matching.fits({keyword: wanted}, {keyword: found})


def test_every_key_is_asked_for_and_looked_at(web: Web) -> None:
    names = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane", "Ideographic": "名"}]}}
    modalities = {"00080061": {"vr": "CS", "Value": ["SR", "CT"]}}
    web.answer = [
        {**study("1.1", StudyDate="20240115"), **names, **modalities},
        {**study("1.2", StudyDate="20240115"), **names},
        {**study("1.3"), **names, **modalities},
        {**study("1.4", StudyDate="20240115"), **modalities, "00100010": {"vr": "PN"}},
    ]
    line = {"StudyDate": "20240101-20240131", "PatientName": "DOE^JANE", "ModalitiesInStudy": "CT"}
    assert find(Orthanc(), line, web.known()) == [Study("1.1", 3)]
    assert {"00080020", "00100010", "00080061"} <= set(web.asked[0][1]["includefield"][0].split(","))
