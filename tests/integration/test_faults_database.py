"""The database is locked, gone, read-only, damaged or full: the state tells, nothing is parked for it, all goes on
afterwards.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests import flow
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = [pytest.mark.integration, pytest.mark.one_orthanc]


def troubles(clinical: Orthanc) -> set[str]:
    """The parts that do not work, by the service's own word."""
    return {one["Part"] for one in (clinical.health().get("Service") or {}).get("Troubles", [])}


def database(clinical: Orthanc) -> Path:
    return flow.data_folder(clinical) / "deid.sqlite3"


def finish(clinical: Orthanc, research: Orthanc, files: list[bytes]) -> None:
    """All is done, each once, and nothing is wrong any more."""
    flow.check_ledger(flow.settled(clinical, len(files), 120), flow.expected(clinical, files))
    flow.check_peer(research, flow.expected(clinical, files))
    until(lambda: not troubles(clinical), 60, "no more troubles")


def test_locked_by_another_process_for_twenty_seconds(clinical: Orthanc, research: Orthanc) -> None:
    files = flow.ct_series(71, slices=6)
    clinical.store(files[0])
    flow.settled(clinical, 1)
    with closing(sqlite3.connect(database(clinical), isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        for data in files[1:]:
            assert clinical.store(data)["Status"] == "Success"
        while time.monotonic() - began < 20:
            assert clinical.health()["Status"] == "ok", "what only reads goes on"
            assert len(flow.ledger(clinical)) == 1
            time.sleep(1)
        other.execute("ROLLBACK")
    finish(clinical, research, files)


def test_gone_while_the_service_runs_and_back_again(clinical: Orthanc, research: Orthanc) -> None:
    files = flow.ct_series(72, slices=4)
    clinical.store(files[0])
    flow.settled(clinical, 1)
    away = database(clinical).with_name("away.sqlite3")
    pid = clinical.service_pid
    database(clinical).rename(away)
    for data in files[1:]:
        clinical.store(data)
    until(lambda: {"ledger", "intake"} <= troubles(clinical), 60, "the service to say so")
    assert clinical.health()["Service"]["State"] == "degraded"
    assert not database(clinical).exists(), "no new database in the place of the old"
    away.rename(database(clinical))
    finish(clinical, research, files)
    assert clinical.service_pid == pid


def test_a_lost_database_is_not_replaced_by_an_empty_one_and_a_restored_one_is_taken(
    clinical: Orthanc, research: Orthanc, tmp_path: Path
) -> None:
    files = flow.ct_series(73, slices=4)
    for data in files[:2]:
        clinical.store(data)
    flow.settled(clinical, 2)
    backup = tmp_path / "backup.sqlite3"
    with closing(sqlite3.connect(database(clinical))) as source, closing(sqlite3.connect(backup)) as target:
        source.backup(target)
    os.kill(clinical.service_pid, 9)
    for file in database(clinical).parent.glob("deid.sqlite3*"):
        file.unlink()
    until(lambda: "restore it from the backup" in clinical.health().get("Detail", ""), 60, "the plugin to say why")
    assert clinical.health()["Status"] == "down" and not database(clinical).exists()
    for data in files[2:]:
        assert clinical.store(data)["Status"] == "Success", "Orthanc stores on"
    shutil.copy(backup, database(clinical))
    clinical.wait_ready(90)
    finish(clinical, research, files)


def test_another_file_in_its_place_makes_the_service_begin_again(clinical: Orthanc, research: Orthanc) -> None:
    files = flow.ct_series(74, slices=3)
    clinical.store(files[0])
    flow.settled(clinical, 1)
    pid = clinical.service_pid
    copy = database(clinical).with_name("copy.sqlite3")
    with closing(sqlite3.connect(database(clinical))) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    for rest in ("-wal", "-shm"):
        database(clinical).with_name("deid.sqlite3" + rest).unlink(missing_ok=True)
    copy.rename(database(clinical))
    until(lambda: clinical.health().get("Pid") not in (None, pid), 60, "another service")
    for data in files[1:]:
        clinical.store(data)
    clinical.wait_ready()
    finish(clinical, research, files)


def test_a_damaged_database_parks_nothing(clinical: Orthanc, research: Orthanc) -> None:
    """Pages with rubbish in them: as the disk gives them back one day."""
    files = flow.ct_series(75, slices=4)
    for data in files[:2]:
        clinical.store(data)
    flow.settled(clinical, 2)
    pid = clinical.service_pid
    with closing(sqlite3.connect(database(clinical))) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        table = "SELECT rootpage FROM sqlite_master WHERE name = 'ledger'"
        page = connection.execute(table).fetchone()[0]
    os.kill(pid, 9)
    whole = database(clinical).read_bytes()
    with database(clinical).open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x5a" * size)
    for data in files[2:]:
        clinical.store(data)

    def told() -> object:
        health = clinical.health()
        detail = health.get("Detail", "")
        return "the database" in detail or {"ledger", "intake"} & troubles(clinical)

    until(told, 90, "somebody to say so")
    assert len(research.instances()) == 2
    # A person restores it while nothing writes to it.
    clinical.stop()
    for rest in ("-wal", "-shm"):
        database(clinical).with_name("deid.sqlite3" + rest).unlink(missing_ok=True)
    database(clinical).write_bytes(whole)
    clinical.start().wait_ready()
    finish(clinical, research, files)


def immutable(path: Path, on: bool) -> bool:
    """Let nobody write to a file, root neither; False where the file system cannot."""
    return subprocess.run(["chattr", "+i" if on else "-i", str(path)], capture_output=True, check=False).returncode == 0


def test_read_only(clinical: Orthanc, research: Orthanc) -> None:
    files = flow.ct_series(76, slices=4)
    clinical.store(files[0])
    flow.settled(clinical, 1)
    paths = [database(clinical), database(clinical).with_name("deid.sqlite3-wal")]
    if not all(immutable(path, True) for path in paths):
        for path in paths:
            immutable(path, False)
        pytest.skip("nobody can be kept from writing here: chattr needs root and a file system that knows it")
    try:
        for data in files[1:]:
            assert clinical.store(data)["Status"] == "Success"
        until(lambda: "intake" in troubles(clinical), 60, "the service to say so")
        assert [row.state for row in flow.ledger(clinical)] == ["confirmed"]
    finally:
        for path in paths:
            immutable(path, False)
    finish(clinical, research, files)


def test_two_services_over_one_database(tmp_path: Path) -> None:
    """Somebody copies the configuration: the second stays down, says why, and the first does not notice."""
    files = flow.ct_series(77, slices=3)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}) as first,
    ):
        section: dict[str, Any] = deid_section(Database=str(database(first)))
        with clinical_orthanc(tmp_path / "d", {"research": peer}, section, ready=False) as second:
            until(lambda: "another service uses" in second.health().get("Detail", ""), 90, "the second to say why")
            for data in files:
                first.store(data)
            finish(first, peer, files)
            assert not second.health().get("Service")
