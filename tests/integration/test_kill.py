"""Killed at any moment without warning: afterwards every source has one outcome, and the peer holds what it should."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest

from tests import builders, flow
from tests.builders import Origin, person
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = pytest.mark.integration

STAGES = {
    # What is seen in the database when the service is killed.
    "nothing": "SELECT 1",
    "rows": "SELECT count(*) FROM ledger",
    "working": "SELECT count(*) FROM ledger WHERE state = 'working'",
    "released": "SELECT count(*) FROM ledger WHERE state = 'released'",
    "sending": "SELECT count(*) FROM deliveries WHERE state = 'sending'",
    "some confirmed": "SELECT count(*) FROM ledger WHERE state = 'confirmed'",
    "all but some": "SELECT count(*) > 20 FROM ledger WHERE state = 'confirmed'",
}


def kill_service(clinical: Orthanc, pid: int) -> None:
    """SIGKILL to the service; the plugin starts another."""
    os.kill(pid, signal.SIGKILL)
    until(lambda: clinical.health().get("Pid") not in (None, pid), 60, "another service")


@pytest.mark.parametrize("stage", STAGES)
def test_the_service_is_killed(clinical: Orthanc, research: Orthanc, stage: str) -> None:
    files = flow.ct_series(31, 1, 1, 24, rows=256)
    outputs = flow.expected(clinical, files)
    pid = clinical.service_pid
    for data in files:
        clinical.store(data)
    until(lambda: flow.query(clinical, STAGES[stage])[0][0], 60, stage, every=0.001)
    kill_service(clinical, pid)
    rows = flow.settled(clinical, len(files))
    flow.check_ledger(rows, outputs)
    flow.check_peer(research, outputs)
    flow.sweep(flow.identifying((31,)), clinical, research)


@pytest.mark.one_orthanc
def test_the_service_is_killed_again_and_again_as_it_starts(clinical: Orthanc, research: Orthanc) -> None:
    files = flow.ct_series(37, 1, 1, 4, rows=64)
    outputs = flow.expected(clinical, files)
    pid = clinical.service_pid
    for number, data in enumerate(files):
        clinical.store(data)
        os.kill(pid, signal.SIGKILL)
        # The next one dies as soon as it is there, then ever later: at its imports, its database, its reconciliation.
        found = until(lambda pid=pid: (now := clinical.health().get("Pid")) not in (None, pid) and now, 60, "another")  # type: ignore[misc]
        born = time.monotonic()
        until(lambda born=born, number=number: time.monotonic() - born >= 0.4 * number, 10, "its time", every=0.01)  # type: ignore[misc]
        pid = found
    flow.check_ledger(flow.settled(clinical, len(files), 120), outputs)
    flow.check_peer(research, outputs)
    flow.sweep(flow.identifying((37,)), clinical, research)


def test_the_service_is_killed_while_the_peer_takes_the_bytes(clinical: Orthanc, research: Orthanc) -> None:
    files = flow.ct_series(32, 1, 1, 6, rows=128)
    outputs = flow.expected(clinical, files)
    pid = clinical.service_pid
    os.kill(research.pid, signal.SIGSTOP)
    try:
        for data in files:
            clinical.store(data)
        until(lambda: flow.query(clinical, STAGES["sending"])[0][0], 60, "bytes on their way")
        os.kill(pid, signal.SIGKILL)
    finally:
        os.kill(research.pid, signal.SIGCONT)
    # The peer may store what was on its way; sent again it answers AlreadyStored, and the ledger knows why.
    rows = flow.settled(clinical, len(files), 120)
    flow.check_ledger(rows, outputs)
    flow.check_peer(research, outputs)


def test_the_service_is_killed_while_a_study_waits(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"] |= {"Release": "study", "QuietSeconds": 12, "KeepResearchCopy": True}
    files = flow.ct_series(33, 1, 1, 5)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        outputs = flow.expected(clinical, files)
        pid = clinical.service_pid
        for data in files:
            clinical.store(data)
        until(lambda: [row.state for row in flow.ledger(clinical)] == ["ready"] * 5, 30, "five that are ready")
        kill_service(clinical, pid)
        flow.check_ledger(flow.settled(clinical, 5), outputs)
        flow.check_peer(peer, outputs)
        copies = {output.orthanc_id: output.data for output in outputs}
        assert {one: clinical.file(one) for one in copies} == copies


@pytest.mark.one_orthanc
def test_the_service_is_killed_while_outputs_are_made_anew(tmp_path: Path) -> None:
    # The last object of each patient tells that what the profile kept in all the others is a name.
    section = deid_section(Workers=2)
    section["Projects"]["lung"] |= {"Release": "study", "QuietSeconds": 6, "KeepResearchCopy": True}
    files = []
    for number in (51, 52, 53):
        slices = [builders.ct(Origin(person(number), 1, 1, n), rows=32, columns=32) for n in range(1, 16)]
        for one in slices:
            one.ConvolutionKernel = f"QUIXO{number}TEL"
        slices[-1].OperatorsName = f"Quixo{number}tel^Ana"
        files += [builders.to_bytes(one) for one in slices]
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        for data in files:
            clinical.store(data)
        again = "SELECT count(*) FROM ledger WHERE state IN ('queued', 'working') AND out_digest IS NOT NULL"
        until(lambda: flow.query(clinical, again)[0][0], 90, "outputs that are made anew", every=0.001)
        kill_service(clinical, clinical.service_pid)
        rows = flow.settled(clinical, len(files), 180)
        assert {row.state for row in rows} == {"confirmed"}
        held = {instance: peer.file(instance) for instance in peer.instances()}
        assert Counter(hashlib.sha256(data).hexdigest() for data in held.values()) == Counter(
            row.out_digest for row in rows
        )
        assert not [instance for instance, data in held.items() if b"quixo" in data.lower()]
        assert clinical.get("/deid/projects/lung")["LateValues"] == 0
        copies = {instance: clinical.file(instance) for instance in held}
        assert copies == held, "the research copies that were stored before were replaced"
        assert not list((flow.data_folder(clinical) / "outbox").rglob("*.dcm"))


@pytest.mark.one_orthanc
def test_a_torn_outbox_is_made_again(tmp_path: Path) -> None:
    section = deid_section()
    section["Projects"]["lung"]["Release"] = "manual"
    files = flow.ct_series(34, 1, 1, 3)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid=section) as clinical,
    ):
        outputs = flow.expected(clinical, files)
        for data in files:
            clinical.store(data)
        (row, *_) = flow.settled(clinical, 3, also=("ready",))
        pid = clinical.service_pid
        os.kill(pid, signal.SIGKILL)
        # As after a power failure: one file empty, one of the right size with other bytes, one gone.
        one, two, three = sorted(flow.data_folder(clinical).glob("outbox/*/*.dcm"))
        one.write_bytes(b"")
        two.write_bytes(b"\0" * two.stat().st_size)
        three.unlink()
        until(lambda: clinical.health().get("Pid") not in (None, pid), 60, "another service")
        clinical.wait_ready()
        answer = clinical.request("POST", f"/deid/projects/lung/studies/{row.out_study}/release", json={})
        assert answer.ok, answer.text

        def done() -> bool:
            # What had to be made again is ready again, and released again: a person's word is not forgotten.
            return all(row.state == "confirmed" for row in flow.ledger(clinical))

        until(done, 60, "three confirmed")
        flow.check_ledger(flow.settled(clinical, 3), outputs)
        flow.check_peer(peer, outputs)


def test_orthanc_is_killed_and_restarted(clinical: Orthanc, research: Orthanc) -> None:
    before, after = flow.ct_series(35, 1, 1, 12, rows=256), flow.ct_series(35, 2, 1, 3)
    outputs = flow.expected(clinical, before + after)
    for data in before:
        clinical.store(data)
    until(lambda: flow.query(clinical, STAGES["working"])[0][0], 60, "work", every=0.001)
    service = clinical.service_pid
    clinical.kill()
    until(lambda: not Path(f"/proc/{service}/stat").exists(), 20, "the service to end with its Orthanc")
    clinical.start().wait_ready()
    for data in after:
        clinical.store(data)
    rows = flow.settled(clinical, len(before) + len(after))
    flow.check_ledger(rows, outputs)
    flow.check_peer(research, outputs)
    assert len({row.out_patient for row in rows}) == 1, "one patient, one pseudonym, before and after"
    flow.sweep(flow.identifying((35,), (1, 2)), clinical, research)


def test_a_worker_is_killed(clinical: Orthanc, research: Orthanc) -> None:
    files = flow.ct_series(36, 1, 1, 12, rows=256)
    outputs = flow.expected(clinical, files)
    service = clinical.service_pid
    # The service is ready before its workers are: they have libraries to load first.
    until(lambda: workers_of(service), 60, "the workers")
    for data in files:
        clinical.store(data)
    until(lambda: flow.query(clinical, STAGES["working"])[0][0], 60, "work", every=0.001)
    workers = workers_of(service)
    assert workers, "the workers that were seen before the work came"
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    flow.check_ledger(flow.settled(clinical, len(files)), outputs)
    flow.check_peer(research, outputs)
    assert clinical.service_pid == service, "the service itself lives on"


def workers_of(service: int) -> list[int]:
    """The worker processes of a service: children of its fork server."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    children = {pid for pid, parent in parents.items() if parent == service}
    return [pid for pid, parent in parents.items() if parent in children]
