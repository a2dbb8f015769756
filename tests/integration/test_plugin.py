"""The plugin in a real Orthanc: it starts, watches, restarts and stops the service, and refuses to run half."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow import ct_series
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, until

pytestmark = pytest.mark.integration


def group(leader: int) -> list[int]:
    """The processes of a service and its workers: all of its process group that still run."""
    members = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _parent, pgrp = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue  # it has ended meanwhile
        if int(pgrp) == leader and state != "Z":
            members.append(int(folder.name))
    return members


def refused(folder: Path, deid: Any, **configuration: Any) -> str:
    """Orthanc's log after it has refused to start."""
    with clinical_orthanc(folder, {}, deid, start=False, **configuration) as clinical:
        clinical.launch()
        assert clinical.process is not None
        assert clinical.process.wait(60) != 0
        return clinical.log.read_text()


def test_a_wrong_configuration_keeps_orthanc_from_starting_and_shows_every_fault(tmp_path: Path) -> None:
    good = deid_section()["Projects"]["lung"]
    deid = deid_section(
        Projects={
            "lung": good | {"Release": "sometimes", "QuietSecond": 3},
            "no name": good,
            "elsewhere": good | {"Destinations": [{"Mailbox": "PACS"}]},
            "unknown": good | {"Profile": "nowhere"},
        }
    )
    log = refused(tmp_path, deid, SslEnabled=True, SslVerifyPeers=True)
    for path in (
        "Deid.Projects.lung.Release",
        "Deid.Projects.lung.QuietSecond",
        "Deid.Projects.no name",
        "Deid.Projects.elsewhere.Destinations[0].Mailbox",
        "Deid.Projects.unknown.Profile",
        "SslVerifyPeers",
    ):
        assert f"orthanc-deid: {path}:" in log, log
    assert "Orthanc has started" not in log


@pytest.mark.parametrize(
    ("configuration", "fault"),
    [
        ({}, "orthanc-deid: Deid.Projects.lung.Destinations[0].Peer: OrthancPeers has no 'research'"),
        ({"IngestTranscoding": "1.2.840.10008.1.2.4.50"}, "orthanc-deid: Deid.Projects.lung.KeepResearchCopy: "),
        ({"StorageDirectory": "storage"}, "orthanc-deid: Deid.Database: "),
        ({"Deid": None}, "orthanc-deid: Deid: "),
    ],
)
def test_what_is_wrong_beside_orthancs_own_settings_keeps_it_from_starting(
    tmp_path: Path, configuration: dict[str, Any], fault: str
) -> None:
    deid = deid_section()
    deid["Projects"]["lung"]["KeepResearchCopy"] = True
    assert fault in refused(tmp_path, deid, **configuration)


def test_an_interpreter_that_cannot_run_the_service_keeps_orthanc_from_starting(tmp_path: Path) -> None:
    log = refused(tmp_path / "none", deid_section(Python="/nowhere/python"))
    assert "orthanc-deid: Deid.Python: /nowhere/python cannot be run" in log
    # A Python without the packages; -I hides the package itself too.
    bare = tmp_path / "python"
    bare.write_text('#!/bin/sh\nexec /usr/bin/python3 -I "$@"\n')
    bare.chmod(0o755)
    log = refused(tmp_path / "bare", deid_section(Python=str(bare)))
    assert f"orthanc-deid: Deid.Python: {bare} cannot run the service (" in log
    assert "No module named" in log


def test_orthanc_stops_within_ten_seconds_and_leaves_nothing_behind(clinical: Orthanc) -> None:
    leader = clinical.service_pid
    assert len(group(leader)) > 1
    clinical.store(ct_series(1, slices=1)[0])
    assert clinical.stop(10) < 10
    assert group(leader) == []


def test_nothing_is_left_when_orthanc_is_killed(clinical: Orthanc) -> None:
    leader = clinical.service_pid
    clinical.kill()
    until(lambda: not group(leader), 15, "the service to end with Orthanc")


def socket_folder(pid: int) -> Path:
    """The folder of the socket that a service listens at."""
    mine = {str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()}
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) == 8 and f"socket:[{fields[6]}]" in mine and fields[7].endswith("/s"):
            return Path(fields[7]).parent
    raise AssertionError("no socket")


def test_a_folder_of_both_killed_together_goes_at_the_next_start(clinical: Orthanc) -> None:
    leader = clinical.service_pid
    dead = socket_folder(leader)
    for pid in [clinical.pid, *group(leader)]:
        os.kill(pid, signal.SIGSTOP)
    os.killpg(leader, signal.SIGKILL)
    clinical.kill()
    assert dead.is_dir(), "nobody was left to remove it"
    with lookalikes("young", "full", "held") as (young, full, held):
        (full / "notes.txt").write_text("not ours")
        kept = os.open(held, os.O_RDONLY)
        fcntl.flock(kept, fcntl.LOCK_EX)
        for folder in (dead, full, held):
            os.utime(folder, (1e9, 1e9))
        try:
            clinical.start().wait_ready()
            until(lambda: not dead.exists(), 10, "the dead folder to go")
            assert young.exists() and held.exists() and (full / "notes.txt").exists()
            assert socket_folder(clinical.service_pid).is_dir()
        finally:
            os.close(kept)


@contextlib.contextmanager
def lookalikes(*names: str) -> Iterator[list[Path]]:
    """Folders that are called like those of services."""
    folders = [Path(tempfile.mkdtemp(prefix=f"orthanc-deid-{name}", dir="/tmp")) for name in names]
    try:
        yield folders
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def test_a_killed_service_is_started_again_and_its_workers_do_not_stay(clinical: Orthanc, research: Orthanc) -> None:
    leader = clinical.service_pid
    os.kill(leader, signal.SIGKILL)
    clinical.store(ct_series(1, slices=1)[0])
    until(lambda: clinical.health()["Restarts"] == 1, 30, "a restart")
    until(lambda: not group(leader), 15, "the old workers to be gone")
    assert clinical.service_pid != leader
    until(lambda: len(research.instances()) == 1, 60, "the instance at the peer")


def test_ingest_goes_on_while_the_service_cannot_run_and_the_backlog_is_worked_off(
    clinical: Orthanc, research: Orthanc
) -> None:
    key = clinical.folder / "orthanc-deid" / "master.key"
    key.chmod(0o644)  # which the service refuses to use
    os.kill(clinical.service_pid, signal.SIGKILL)
    health = until(
        lambda: (h := clinical.health()).get("Status") == "down" and h["Restarts"] >= 2 and h, 60, "the service down"
    )
    assert isinstance(health, dict)
    assert "exit code 78" in health["Detail"]
    answer = clinical.request("GET", "/deid/projects")
    assert answer.status_code == 503
    assert answer.json()["error"] == "service unavailable"
    files = ct_series(1, slices=6)
    assert clinical.c_store(files[:3]) == [0, 0, 0]
    for data in files[3:]:
        assert clinical.store(data)["Status"] == "Success"
    assert not research.instances()
    key.chmod(0o600)
    until(lambda: len(research.instances()) == 6, 90, "the backlog at the peer")


def test_the_secret_and_the_token_are_in_no_process_list(clinical: Orthanc) -> None:
    for pid in group(clinical.service_pid):
        shown = (Path("/proc") / str(pid) / "cmdline").read_bytes() + (
            Path("/proc") / str(pid) / "environ"
        ).read_bytes()
        assert b"Bearer" not in shown
        assert b"Secret" not in shown


def test_only_the_plugin_reaches_what_is_internal(clinical: Orthanc) -> None:
    for path in ("/deid/internal/nudge", "/deid/internal", "/deid/internal/../internal/nudge", "/deid//internal/nudge"):
        assert clinical.request("POST", path, json={}).status_code in (404, 405), path
    sockets = list(Path("/tmp").glob("orthanc-deid-*"))
    assert sockets
    for folder in sockets:
        assert folder.stat().st_mode & 0o077 == 0


def test_queries_reach_the_service_as_they_were_meant(clinical: Orthanc) -> None:
    assert clinical.request("GET", "/deid/quarantine", params={"reason": "no such/%", "limit": "1"}).json() == []
    answer = clinical.request("GET", "/deid/quarantine", params={"limit": "a b"})
    assert answer.status_code == 400
    assert "limit" in answer.text


def test_storing_asking_and_stopping_at_once_never_hangs(clinical: Orthanc) -> None:
    files = [data for patient in (1, 2, 3, 4) for data in ct_series(patient, slices=10)]
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        stored = [pool.submit(clinical.store, data) for data in files]
        asked = [pool.submit(clinical.request, "GET", "/deid/projects") for _ in range(40)]
        sent = [pool.submit(clinical.c_store, ct_series(patient, slices=5)) for patient in (5, 6)]
        assert all(future.result(60)["Status"] == "Success" for future in stored)
        assert all(future.result(60).status_code == 200 for future in asked)
        assert all(future.result(60) == [0] * 5 for future in sent)
    assert clinical.stop(10) < 10


def test_it_works_where_orthanc_asks_for_users(tmp_path: Path, research: Orthanc) -> None:
    with clinical_orthanc(
        tmp_path / "clinical",
        {"research": research},
        start=False,
        AuthenticationEnabled=True,
        RegisteredUsers={"radiology": "not guessed"},
    ) as clinical:
        clinical.launch()
        until(lambda: "Orthanc has started" in clinical.tail(200), 60, "Orthanc to start")
        assert clinical.request("GET", "/deid/projects", auth=None).status_code == 401
        assert clinical.c_store(ct_series(1, slices=2)) == [0, 0]
        until(lambda: len(research.instances()) == 2, 90, f"both instances at the peer\n{clinical.tail(5)}")
