"""Several services on one PostgreSQL: whatever dies, pauses or has another time of day, nothing is lost or doubled."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests import flow
from tests.orthancs import Orthanc, clinical_orthanc, free_port, research_orthanc, until
from tests.postgres import Postgres, postgres
from tests.services import Cluster, Running, cluster

pytestmark = [pytest.mark.integration, pytest.mark.one_orthanc, pytest.mark.timeout(400)]

TAKEN_OVER = 60.0
"""Seconds that a test waits for the work of a dead service to be in other hands: twice what it takes at most."""


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres(durable=True) as server:
        yield server


@pytest.fixture
def together(tmp_path: Path, database: Postgres) -> Iterator[Cluster]:
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, plugin=False) as clinical,
        cluster(tmp_path / "s", database, clinical, peer) as made,
    ):
        yield made


def send(clinical: Orthanc, files: list[bytes]) -> None:
    for data in files:
        clinical.store(data)


def series(patients: range, slices: int) -> list[bytes]:
    return [data for number in patients for data in flow.ct_series(number, 1, 1, slices, rows=128)]


def check(together: Cluster, files: list[bytes], seconds: float = 150) -> None:
    """Every source is confirmed once, the peer holds exactly the expected bytes, nothing was in conflict."""
    outputs = flow.expected(together.clinical, files)
    rows = together.settled(len(files), seconds)
    flow.check_ledger(rows, outputs)
    flow.check_peer(together.peer, outputs)
    states = together.states()
    assert (states.get("confirmed"), states.get("(confirmed)")) == (len(files), len(files)), states
    for one in together.services:
        said = one.log.read_text(errors="replace")
        assert together.token not in said
        assert together.postgres.password not in said
    files_left = [path for one in together.services for path in one.folder.rglob("*.dcm")]
    living = [path for path in files_left if not owner_of(together, path).ended]
    until(lambda: not any(path.exists() for path in living), 20, "the outboxes of the living to be empty")


def owner_of(together: Cluster, path: Path) -> Running:
    return next(one for one in together.services if one.folder in path.parents)


def confirmed(together: Cluster) -> int:
    return together.states().get("confirmed", 0)


def test_the_leader_and_then_a_worker_are_killed(together: Cluster) -> None:
    files = series(range(101, 111), 20)
    first = together.add("one", shift=-5400).start()
    second, third = together.add("two", shift=3600).start(), together.add("three").start()
    until(lambda: len(third.health()["Services"]) == 3, 30, "three services that know of each other")
    assert together.leader() is first, "who comes first leads"
    send(together.clinical, files)
    until(lambda: confirmed(together) >= 10, 120, "some that are confirmed", every=0.02)
    first.kill()
    killed = time.monotonic()
    leader = until(together.leader, TAKEN_OVER, "another leader")
    assert leader in (second, third)
    dead = first.folder / "data" / "outbox" / "name"
    mine = dead.read_text()

    def inherited() -> bool:
        return mine[:8] not in [one["Outbox"] for one in leader.health().get("Services", [])]

    until(inherited, TAKEN_OVER - (time.monotonic() - killed), "the burial of the first")
    other = second if leader is third else third
    other.kill()
    check(together, files)
    first.start()
    until(lambda: len(leader.health()["Services"]) == 2, 40, "the first to be back")


def test_a_paused_service_finds_its_work_taken_over_and_ends(together: Cluster) -> None:
    files = series(range(121, 131), 20)
    one, two = together.add("one").start(), together.add("two").start()
    until(lambda: len(one.health()["Services"]) == 2, 30, "two services that know of each other")
    leader = until(together.leader, 30, "a leader")
    paused, other = (one, two) if leader is one else (two, one)

    def stopped_at_work() -> bool:
        paused.signal(signal.SIGSTOP)
        if together.in_hand(paused):
            return True
        paused.signal(signal.SIGCONT)
        return False

    with ThreadPoolExecutor(1) as sender:
        sending = sender.submit(send, together.clinical, files)
        until(lambda: confirmed(together), 60, "one that is confirmed", every=0.005)
        until(stopped_at_work, 60, "work in the hands of the one that is paused", every=0.03)
        sending.result()
    until(lambda: other.health().get("Leads"), TAKEN_OVER, "the other one to lead")
    together.settled(len(files), 200)
    paused.signal(signal.SIGCONT)
    until(lambda: paused.ended, 60, "the end of the one that was paused")
    assert "taken for dead" in paused.tail(60)
    paused.start()
    check(together, files)


def test_postgresql_is_restarted_and_killed_meanwhile(together: Cluster) -> None:
    files = series(range(141, 151), 20)
    one, two = together.add("one").start(), together.add("two").start()
    until(lambda: len(one.health()["Services"]) == 2, 30, "two services that know of each other")
    send(together.clinical, files[:100])
    until(lambda: confirmed(together) >= 5, 120, "some that are confirmed", every=0.02)
    together.postgres.stop()
    together.postgres.start()
    send(together.clinical, files[100:])
    until(lambda: confirmed(together) >= 60, 120, "more of them", every=0.02)
    together.postgres.kill()
    together.postgres.start()
    check(together, files)
    assert not one.ended
    assert not two.ended


def test_a_plugin_hands_requests_on_to_a_service_that_runs_elsewhere(tmp_path: Path, database: Postgres) -> None:
    with research_orthanc(tmp_path / "r") as peer:
        token, port = tmp_path / "token", free_port()
        token.write_text("x" * 40)
        section = {"Service": f"http://127.0.0.1:{port}", "ServiceTokenFile": str(token)}
        with (
            clinical_orthanc(tmp_path / "c", {"research": peer}, section, ready=False) as clinical,
            cluster(tmp_path / "s", database, clinical, peer) as made,
        ):
            health = clinical.health()
            assert (health["Status"], health["Service"]) == ("down", None)
            assert clinical.request("GET", "/deid/projects").status_code == 503
            service = made.add("one", Listen={"Address": f"127.0.0.1:{port}"}, ServiceTokenFile=str(token))
            service.token = token.read_text()
            service.port = port
            service.start()
            assert clinical.wait_ready()["Service"]["Leads"] is True
            assert requests.get(f"http://127.0.0.1:{port}/deid/health", timeout=10).status_code == 403
            files = series(range(161, 163), 5)
            send(clinical, files)
            check(made, files)
            assert clinical.get("/deid/projects/lung")
            study = clinical.get("/studies")[0]
            answer = clinical.request("POST", f"/studies/{study}/deidentify", json={"Project": "lung"})
            assert answer.ok, answer.text
            path = answer.json()["Path"]
            until(lambda: clinical.get(path)["State"] == "Success", 60, "the job")
            answer = clinical.request(
                "POST", f"/studies/{study}/deidentify", json={"Project": "lung"}, headers={"Origin": "http://elsewhere"}
            )
            assert answer.status_code == 403, "a page of another site"
            assert not clinical.log.read_text(errors="replace").count("x" * 40)


def test_orthancs_that_share_an_index_are_read_as_one(tmp_path: Path, database: Postgres) -> None:
    name = database.new()
    index = {
        "EnableIndex": True,
        "EnableStorage": False,
        "ConnectionUri": f"postgresql://deid:{database.password}@127.0.0.1:{database.port}/{name}",
        "Lock": False,
    }
    with research_orthanc(tmp_path / "r") as peer:
        shared = str(tmp_path / "storage")
        settings = {"PostgreSQL": index, "StorageDirectory": shared}
        with (
            clinical_orthanc(tmp_path / "a", {"research": peer}, plugin=False, start=False, **settings) as first,
            clinical_orthanc(tmp_path / "b", {"research": peer}, plugin=False, start=False, **settings) as second,
            cluster(tmp_path / "s", database, first, peer) as made,
        ):
            library = first.source.plugins / "libOrthancPostgreSQLIndex.so"
            for server in (first, second):
                server.configuration["Plugins"].append(str(library))
                server.start()
            assert first.get("/system")["DatabaseBackendPlugin"]
            made.add("one").start()
            made.add("two", clinical=second).start()
            files = series(range(171, 181), 10)
            with ThreadPoolExecutor(4) as senders:
                servers = [(first, second)[place % 2] for place in range(len(files))]
                list(senders.map(lambda pair: pair[0].store(pair[1]), zip(servers, files, strict=True)))
            assert first.instances() == second.instances()
            check(made, files)
