"""The doctor on files alone: what it says without a running Orthanc."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from orthanc_deid import doctor, gateway
from orthanc_deid.cli import main
from orthanc_deid.doctor.found import ERROR, OK, WARNING, Finding
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.store import Store, ledger

from tests.ledgers import add, source
from tests.receivers import scp


class Installation:
    """A configuration and the files of a service that has run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "orthanc-deid"
        self.data.mkdir(mode=0o700)
        (folder / "db").mkdir()
        self.database = self.data / "deid.sqlite3"
        self.key = self.data / "master.key"
        Store.open(self.database).close()
        MasterKey.open(self.key, create=True)

    def found(self, **configuration: Any) -> dict[str, tuple[str, str]]:
        """What the doctor finds, by what it looked at: level and detail."""
        path = self.folder / "orthanc.json"
        project = {"Profile": "basic", "Destinations": [{"Peer": "research"}]}
        everything = {
            "StorageDirectory": str(self.folder / "db"),
            "HttpPort": 1,  # where nobody listens
            "OrthancPeers": {"research": ["http://127.0.0.1:1/"]},
            "Deid": {"Projects": {"lung": project}},
            **configuration,
        }
        path.write_text(json.dumps(everything))
        return {finding.what: (finding.level, finding.detail) for finding in doctor.findings(path)}


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    """One that is sound, but for Orthanc, which does not run."""
    return Installation(tmp_path)


def test_a_sound_installation_whose_orthanc_does_not_run(
    installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    found = installation.found()
    assert found["Orthanc"][0] == ERROR
    assert {what for what, (level, _) in found.items() if level == ERROR} == {"Orthanc"}
    for what in ("configuration", "data folder", "master key", "database", "recycling", "owner", "packages"):
        assert found[what][0] == OK, what
    assert main(["doctor", "--config", str(installation.folder / "orthanc.json")]) == 1
    assert "is it running?" in " ".join(capsys.readouterr().out.split())


def test_a_wrong_configuration_is_told_whole(installation: Installation) -> None:
    path = installation.folder / "orthanc.json"
    path.write_text('{"Deid": {"Projects": {"a b": {}}, "Colour": 1}}')
    found = list(doctor.findings(path))
    assert len(found) >= 3
    assert {finding.level for finding in found} == {ERROR}


def test_a_key_that_others_can_read(installation: Installation) -> None:
    installation.key.chmod(0o640)
    assert installation.found()["master key"][0] == ERROR


def test_a_lost_key(installation: Installation) -> None:
    installation.key.unlink()
    assert installation.found()["master key"][0] == ERROR


def test_an_open_data_folder(installation: Installation) -> None:
    installation.data.chmod(0o755)
    level, detail = installation.found()["data folder"]
    assert level == ERROR
    assert "chmod 700" in detail


def test_before_the_first_start_there_is_nothing_to_complain_of(installation: Installation) -> None:
    for path in sorted(installation.data.iterdir()):
        path.unlink()
    installation.data.rmdir()
    found = installation.found()
    for what in ("data folder", "master key", "database"):
        assert found[what][0] == WARNING, what


def test_a_database_of_a_newer_version(installation: Installation) -> None:
    with closing(sqlite3.connect(installation.database)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from the future'")
    level, detail = installation.found()["database"]
    assert level == ERROR
    assert "newer" in detail


def test_a_damaged_database(installation: Installation) -> None:
    installation.database.write_bytes(b"not a database" * 1000)
    assert installation.found()["database"][0] == ERROR


def test_the_doctor_changes_nothing(installation: Installation) -> None:
    def state() -> dict[Path, tuple[int, bytes]]:
        # SQLite's own -shm and -wal come and go with any reader.
        files = [path for path in installation.folder.rglob("*") if path.is_file() and "sqlite3-" not in path.name]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    installation.found()
    before = {path: value for path, value in state().items() if path.name != "orthanc.json"}
    installation.found()
    assert {path: value for path, value in state().items() if path.name != "orthanc.json"} == before


def test_a_clock_that_went_back(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(installation.database)) as connection, connection:
        columns = [row for row in connection.execute("PRAGMA table_info(ledger)") if row[3] or row[1] == "updated"]
        values = {row[1]: 1 if "INT" in row[2].upper() else "x" for row in columns}
        values |= {"updated": time.time() + 86400}
        marks = ", ".join("?" * len(values))
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(f"INSERT INTO ledger ({', '.join(values)}) VALUES ({marks})", list(values.values()))
    assert installation.found()["clock"][0] == ERROR


@pytest.mark.parametrize(
    ("configuration", "what"),
    [
        ({"MaximumStorageSize": 1000}, "recycling"),
        ({"MaximumPatientCount": 10}, "recycling"),
        ({"IngestTranscoding": "1.2.840.10008.1.2.4.91"}, "IngestTranscoding"),
        ({"StoreMD5ForAttachments": False}, "StoreMD5ForAttachments"),
        ({"RemoteAccessAllowed": True, "AuthenticationEnabled": False}, "access"),
    ],
)
def test_settings_that_deserve_a_warning(installation: Installation, configuration: dict[str, Any], what: str) -> None:
    assert installation.found(**configuration)[what][0] == WARNING


def test_an_orthanc_that_rejects_instead_of_recycling_is_fine(installation: Installation) -> None:
    assert installation.found(MaximumStorageSize=1000, MaximumStorageMode="Reject")["recycling"][0] == OK


def test_a_full_disk(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 1 << 30

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: Usage)
    assert installation.found()["disk of the data folder"][0] == ERROR


def test_a_missing_host_id(installation: Installation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "HOSTID", tmp_path / "none")
    assert installation.found()["host id"][0] == WARNING


def test_an_interpreter_without_the_packages(installation: Installation, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 3.11; exit 1\n")
    fake.chmod(0o755)
    deid = {"Python": str(fake), "Projects": {}}
    assert installation.found(Deid=deid)["interpreter"][0] == ERROR


def test_a_key_file_that_the_database_was_not_made_with(installation: Installation) -> None:
    with closing(sqlite3.connect(installation.database)) as connection, connection:
        connection.execute("INSERT INTO projects VALUES ('lung', 1, 'another', 1.0)")
    level, detail = installation.found()["key of the database"]
    assert (level, "lung" in detail) == (ERROR, True)


def test_an_old_backlog_and_what_is_held(installation: Installation) -> None:
    store = Store.open(installation.database)
    with store.begin() as conn:
        add(conn, "waits")
        (held,) = add(conn, "held")
        conn.exec_driver_sql(f"UPDATE ledger SET state = 'quarantined', reason = 'unparsable' WHERE id = {held.id}")
        ledger.add_many(conn, "gone", [source("other")], 1.0)
    store.close()
    found = installation.found()
    level, detail = found["ledger of lung"]
    assert level == WARNING and "2 instances, 1 on their way, the oldest for" in detail
    assert found["held of lung"] == (WARNING, "1 unparsable: see /deid/quarantine")
    level, detail = found["ledger of gone"]
    assert level == WARNING and "not configured any more" in detail


def test_counters_are_compared_when_asked(installation: Installation) -> None:
    path = installation.folder / "orthanc.json"
    installation.found()
    assert {one.level for one in doctor.findings(path, thorough=True) if one.what == "counters"} == {OK}
    with closing(sqlite3.connect(installation.database)) as connection, connection:
        connection.execute("INSERT INTO instance_counts VALUES (0, 'lung', 'queued', '', 0, 3)")
    assert {one.level for one in doctor.findings(path, thorough=True) if one.what == "counters"} == {ERROR}


def test_findings_as_json_and_a_status_for_the_worst(
    installation: Installation, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = installation.folder / "orthanc.json"
    installation.found()
    assert main(["doctor", "--json", "--config", str(path)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["Worst"] == ERROR
    assert {"Level", "What", "Detail"} == set(told["Findings"][0])
    for level, status in ((OK, 0), (WARNING, 2), (ERROR, 1)):
        monkeypatch.setattr(doctor, "findings", lambda path, thorough, level=level: [Finding(level, "what", "why")])
        assert main(["doctor", "--config", str(path)]) == status


def test_files_of_another_user(installation: Installation) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away")
    os.chown(installation.key, 65534, 65534)
    level, detail = installation.found()["owner"]
    assert level == ERROR and str(installation.key) in detail


def test_what_is_not_the_services_in_its_folder(installation: Installation) -> None:
    assert "leftovers" not in installation.found()
    (installation.data / "copy of a disk").mkdir()
    level, detail = installation.found()["leftovers"]
    assert level == WARNING and "copy of" not in detail


def test_scripts_that_may_send_research_copies_on(installation: Installation) -> None:
    project = {"Profile": "basic", "KeepResearchCopy": True}
    deid = {"Projects": {"lung": project}}
    assert installation.found(LuaScripts=["route.lua"], Deid=deid)["auto-routing"][0] == WARNING
    assert installation.found(LuaScripts=["route.lua"])["auto-routing"][0] == OK


@pytest.mark.parametrize("proxy", [False, True])
def test_a_peer_with_little_patience_and_another_clock(installation: Installation, proxy: bool) -> None:
    class Peer(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response_only(401)
            self.send_header("Date", "Mon, 01 Jan 2001 00:00:00 GMT")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Peer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = {"Url": f"http://127.0.0.1:{server.server_port}/", "Timeout": 10}
        more = {"HttpProxy": "http://127.0.0.1:1"} if proxy else {}
        found = installation.found(OrthancPeers={"research": address}, **more)
        server.shutdown()
        thread.join()
    assert found["clock of research"][0] == WARNING
    if proxy:
        detail = "10 s for a whole transfer: over 10 Mbit/s nothing above 12 MB passes"
        assert found["size limit of research"] == (WARNING, detail)
    else:
        assert found["patience with research"] == (WARNING, "it may be silent for 10 s, whatever the size")


# pynetdicom leaves the socket of a connection that did not come about to the interpreter.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_kind_of_destination_is_asked(installation: Installation, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    with scp() as receiver:
        project = {
            "Profile": "basic",
            "Destinations": [
                {"Folder": str(there)},
                {"Folder": str(tmp_path / "missing")},
                {"Modality": "up", "StorageCommitment": True},
                {"Modality": "gone"},
                {"DicomWeb": "web"},
            ],
        }
        found = installation.found(
            DicomModalities={"up": ["UP", "127.0.0.1", receiver.port], "gone": ["GONE", "127.0.0.1", 1]},
            DicomWeb={"Servers": {"web": ["http://127.0.0.1:1/dicom-web/"]}},
            Deid={"Projects": {"lung": project}},
        )
    assert found["folder there"][0] == found["modality up"][0] == OK
    for what in ("folder missing", "modality gone", "dicomweb web"):
        assert found[what][0] == ERROR, what
    assert "mounted" in found["folder missing"][1] and "DicomModalities" in found["modality gone"][1]
    assert found["storage commitment"][0] == WARNING


def test_gateway_mode_is_looked_at(installation: Installation) -> None:
    spool = installation.data / "spool"
    assert not {"spool", "commitment to senders", "unmatched"} & installation.found().keys()
    scanners: dict[str, Any] = {
        "ct": ["CT", "127.0.0.1", 104],
        "mr": {"AET": "MR", "Host": "127.0.0.1", "Port": 104, "AllowStorageCommitment": False},
    }
    lung = {"Profile": "basic", "Match": {"CalledAET": "LUNG"}, "Destinations": [{"Peer": "research"}]}
    deid = {"Gateway": {"MaximumSize": 1, "MinimumFree": 0}, "Projects": {"lung": lung}}
    found = installation.found(Deid=deid, DicomModalities=scanners)
    assert found["spool"][0] == WARNING
    level, detail = found["commitment to senders"]
    assert level == WARNING and detail.endswith(" for ct")
    assert "placeholder" in found["AE titles"][1]
    gateway.prepare(spool)
    (spool / gateway.UNMATCHED / ("0" * 32)).write_bytes(b"x")
    found = installation.found(Deid=deid, DicomModalitiesInDatabase=True)
    assert found["spool"][0] == OK and "0 of 1 MB used" in found["spool"][1]
    assert found["unmatched"] == (WARNING, "1 originals in the spool that no project takes: /deid/spool")
    assert "for each modality in Orthanc's database" in found["commitment to senders"][1]
    (spool / gateway.TAKEN / ("1" * 32)).write_bytes(bytes(1 << 20))
    assert installation.found(Deid=deid)["spool"][0] == ERROR
    (spool / gateway.TAKEN / ("1" * 32)).unlink()
    deid["Gateway"]["MinimumFree"] = 1 << 40
    assert installation.found(Deid=deid)["spool"][0] == ERROR
    asking = {"ct": {"AET": "CT", "Host": "127.0.0.1", "Port": 104, "AllowStorageCommitment": True}}
    assert installation.found(Deid=deid, DicomModalities=asking)["configuration"][0] == ERROR
