"""What a command is told at its start: Orthanc's configuration as Orthanc reads it, and its own certificate."""

from __future__ import annotations

import datetime
import io
import json
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from orthanc_deid import startup
from orthanc_deid.errors import ConfigError
from orthanc_deid.orthanc.client import OrthancClient, Unavailable
from orthanc_deid.orthanc.settings import WebService
from orthanc_deid.startup import from_configuration, load

PROJECT = {"Profile": "basic", "Destinations": [{"Peer": "research"}]}


def configuration(**changes: Any) -> dict[str, Any]:
    """A whole configuration of Orthanc that is right."""
    return {
        "StorageDirectory": "/srv/orthanc/db",
        "OrthancPeers": {"research": ["http://peer/", "gateway", "the password"]},
        "Deid": {"Projects": {"lung": PROJECT}},
        **changes,
    }


def faults(**changes: Any) -> list[str]:
    """The faults of that configuration, changed."""
    with pytest.raises(ConfigError) as error:
        from_configuration(configuration(**changes)).configure()
    return list(error.value.errors)


def test_the_service_lies_beside_orthancs_storage_or_its_database() -> None:
    assert from_configuration(configuration()).configure().data_directory == Path("/srv/orthanc/orthanc-deid")
    deid = {"Projects": {"lung": PROJECT}, "Database": "/data/deid/ledger.sqlite3"}
    config = from_configuration(configuration(Deid=deid)).configure()
    assert config.data_directory == Path("/data/deid")
    assert config.database == Path("/data/deid/ledger.sqlite3")


def test_every_fault_is_told_at_once() -> None:
    told = faults(
        Deid={"Projects": {"lung": PROJECT | {"Release": "never", "Quiet": 1}}, "Colour": "red"},
        HttpServerEnabled=False,
        SslEnabled=True,
        SslVerifyPeers=True,
    )
    paths = {fault.split(":")[0] for fault in told}
    assert paths == {
        "Deid.Projects.lung.Release",
        "Deid.Projects.lung.Quiet",
        "Deid.Colour",
        "HttpServerEnabled",
        "SslVerifyPeers",
    }


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"OrthancPeers": {}}, "Deid.Projects.lung.Destinations[0].Peer"),
        ({"OrthancPeers": {"research": ["http://peer/"], "b": ["http://peer/", "user"]}}, "OrthancPeers.b"),
        ({"DicomModalities": {"pacs": ["PACS", "127.0.0.1", 0]}}, "DicomModalities.pacs.Port"),
        ({"DicomWeb": {"Servers": {"web": {"Url": "ftp://x/"}}}}, "DicomWeb.Servers.web"),
        ({"StorageDirectory": "db"}, "Deid.Database"),
        ({"Deid": None}, "Deid"),
        ({"Deid": []}, "Deid"),
    ],
)
def test_what_is_wrong_beside_orthancs_settings(changes: dict[str, Any], path: str) -> None:
    assert [fault.split(":")[0] for fault in faults(**changes)] == [path]


def test_a_peer_may_stand_in_orthancs_database() -> None:
    # What the file says is then no more than a remnant, which Orthanc does not read.
    begun = from_configuration(configuration(OrthancPeers={"research": ["http:"]}, OrthancPeersInDatabase=True))
    begun.configure()
    assert begun.peers == {}


@pytest.mark.parametrize(("syntax", "lossy"), [("1.2.840.10008.1.2.4.91", True), ("1.2.840.10008.1.2.4.90", False)])
def test_a_research_copy_that_would_feed_itself_is_refused(syntax: str, lossy: bool) -> None:
    changed = configuration(Deid={"Projects": {"lung": PROJECT | {"KeepResearchCopy": True}}}, IngestTranscoding=syntax)
    if not lossy:
        from_configuration(changed).configure()
        return
    with pytest.raises(ConfigError, match=r"Deid\.Projects\.lung\.KeepResearchCopy"):
        from_configuration(changed).configure()


def test_no_secret_is_shown() -> None:
    begun = from_configuration(
        configuration(
            RegisteredUsers={"admin": "geheim"},
            HttpProxy="user:proxy-password@proxy:3128",
            DicomWeb={"Servers": {"web": {"Url": "http://x/", "HttpHeaders": {"Token": "the token"}}}},
        )
    )
    assert begun.authorization == "Basic YWRtaW46Z2VoZWlt"
    assert begun.peers["research"].password == "the password"
    assert begun.dicomweb["web"].headers == {"Token": "the token"}
    for hidden in ("geheim", "YWRtaW46Z2VoZWlt", begun.secret, "the password", "the token", "proxy-password"):
        assert hidden not in repr(begun)


def test_the_line_of_the_plugin_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    line = {
        "Deid": {"Projects": {"lung": PROJECT}},
        "Orthanc": {"HttpPort": 8099, "StorageDirectory": "/srv/db"},
        "Peers": {"research": ["https://peer:8443/base", "gateway", "the password"]},
        "Modalities": {"pacs": ["PACS", "127.0.0.1", 104]},
        "DicomWeb": {"web": {"Url": "http://web/dicom-web", "HasDelete": True}},
        "Authorization": "Bearer x",
        "Secret": "s",
        "Socket": "/tmp/x/s",
    }
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(json.dumps(line).encode() + b"\nmore")))
    begun = startup.read("-")
    assert begun.from_plugin
    assert begun.url == "http://127.0.0.1:8099"
    assert begun.socket == Path("/tmp/x/s")
    assert begun.peers["research"] == WebService("research", "https://peer:8443/base/", "gateway", "the password")
    assert begun.modalities["pacs"].port == 104
    assert begun.dicomweb["web"].properties == {"HasDelete": True}
    begun.configure()


@pytest.mark.parametrize("line", [b"", b"{}", b"[]", b"no json", b'{"Deid": {}}'])
def test_another_line_is_refused(monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(line)))
    with pytest.raises(ConfigError):
        startup.read("-")


def test_files_are_read_as_orthanc_reads_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEID_TEST_PORT", "8123")
    (tmp_path / "a.json").write_text(
        '{ // a comment\n "Name": "http://no/comment", /* one\n more */ "HttpPort": ${DEID_TEST_PORT},'
        ' "StorageDirectory": "db", "DicomAet": "${DEID_TEST_NOTHING:-ORTHANC}"}'
    )
    (tmp_path / "b.json").write_text('{"Deid": {}}')
    (tmp_path / "c.txt").write_text("not read")
    assert load(tmp_path) == {
        "Name": "http://no/comment",
        "HttpPort": 8123,
        "StorageDirectory": str(tmp_path / "db"),
        "DicomAet": "ORTHANC",
        "Deid": {},
    }


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    for path in (tmp_path / "bad.json", tmp_path / "list.json", tmp_path / "none.json", tmp_path / "folder"):
        if path.name == "folder":
            path.mkdir()
        with pytest.raises(ConfigError, match=path.name):
            load(path)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A server's key and certificate, made out to a name that the loopback has not."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "orthanc.hospital.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / f"{made.serial_number}.pem"
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


def _serve_one(certificate: Path) -> int:
    """Answer one HTTPS request on a free port; an unwanted certificate ends it before."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener:
            raw, _ = listener.accept()
            try:
                with context.wrap_socket(raw, server_side=True) as connection:
                    connection.recv(10_000)
                    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"Version": "1.12.7"}')
            except ssl.SSLError:
                raw.close()

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def test_orthancs_own_certificate_is_trusted_under_whatever_name(certificate: Path) -> None:
    begun = from_configuration(
        configuration(SslEnabled=True, SslCertificate=str(certificate), HttpPort=_serve_one(certificate))
    )
    client = OrthancClient(begun.url, begun.authorization, begun.ca)
    assert client.system() == {"Version": "1.12.7"}
    client.close()


def test_another_certificate_is_not_trusted(certificate: Path, tmp_path: Path) -> None:
    port = _serve_one(certificate)
    (other := tmp_path / "other").mkdir()
    client = OrthancClient(f"https://127.0.0.1:{port}", None, _another(other))
    with pytest.raises(Unavailable):
        client.send("GET", "/system")
    client.close()


def _another(folder: Path) -> Path:
    return certificate.__wrapped__(folder)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("destination", "more", "told"),
    [
        ({"Modality": "there"}, {"DicomModalities": {"there": ["A", "127.0.0.1", 104]}}, None),
        ({"Modality": "there"}, {}, "Destinations[0].Modality: DicomModalities has no 'there'"),
        (
            {"Modality": "there"},
            {"DicomModalitiesInDatabase": True},
            "Destinations[0].Modality: DicomModalities of the file (those in Orthanc's database cannot be read) has no",
        ),
        (
            {"Modality": "there"},
            {"DicomModalities": {"there": {"AET": "A", "Host": "h", "Port": 104, "AllowStore": False}}},
            "Destinations[0].Modality: AllowStore of 'there' is false",
        ),
        (
            {"Modality": "there", "StorageCommitment": True},
            {"DicomModalities": {"there": {"AET": "A", "Host": "h", "Port": 104, "AllowStorageCommitment": False}}},
            "Destinations[0].StorageCommitment: AllowStorageCommitment of 'there' is false",
        ),
        ({"DicomWeb": "web"}, {"DicomWeb": {"Servers": {"web": ["http://127.0.0.1/dicom-web/"]}}}, None),
        ({"DicomWeb": "web"}, {}, "Destinations[0].DicomWeb: DicomWeb.Servers has no 'web'"),
        ({"Folder": "/srv/out"}, {}, None),
    ],
)
def test_every_destination_is_one_that_orthanc_knows(
    tmp_path: Path, destination: dict[str, Any], more: dict[str, Any], told: str | None
) -> None:
    configuration = {
        "StorageDirectory": str(tmp_path / "storage"),
        "Deid": {"Projects": {"lung": {"Profile": "basic", "Destinations": [destination]}}},
        **more,
    }
    begun = startup.from_configuration(configuration)
    if told is None:
        begun.configure()
    else:
        with pytest.raises(ConfigError) as problem:
            begun.configure()
        (line,) = problem.value.errors
        assert told in line
