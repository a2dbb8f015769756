"""Gateway mode on a real Orthanc: what identifies is never in its storage, and nothing is lost, whatever dies."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from orthanc_deid import gateway

from tests import builders, flow
from tests.builders import Origin, person
from tests.orthancs import PLUGIN_SCRIPT, Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = pytest.mark.integration

REFUSED = 0xA700


def section(gateway_mode: dict[str, Any] | None = None, **project: Any) -> dict[str, Any]:
    """The section with gateway mode on; `project` goes over the project `lung`."""
    deid = deid_section(Gateway={"MinimumFree": 0, **(gateway_mode or {})})
    deid["Projects"]["lung"] |= project
    return deid


def spool(clinical: Orthanc) -> Path:
    """The folder of the spool."""
    return flow.data_folder(clinical) / "spool"


def waiting(clinical: Orthanc) -> list[Path]:
    """Every file that lies in the spool."""
    return [path for part in gateway.HOLDING for path in (spool(clinical) / part).glob("*")]


def empty(clinical: Orthanc, seconds: float = 60) -> None:
    """Wait until the spool is empty."""
    until(lambda: not waiting(clinical), seconds, "an empty spool")


def nothing_identified(values: dict[str, str], clinical: Orthanc, peer: Orthanc) -> None:
    """No value stands in Orthanc's storage and database, in the service's folder, in logs, or at the peer."""
    flow.sweep(values, clinical, peer)
    found = []
    for path in (clinical.folder / "storage").rglob("*"):
        if not path.is_file():
            continue
        low = path.read_bytes().lower()
        found += [
            f"{what} in {path.name}"
            for what, value in values.items()
            if value.lower().encode() in low or value.lower().encode("utf-16-le") in low
        ]
    assert not found, found


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Orthanc, Orthanc]]:
    """A clinical Orthanc in gateway mode that keeps research copies, and its peer."""
    folder = tmp_path_factory.mktemp("gateway")
    with (
        research_orthanc(folder / "r") as peer,
        clinical_orthanc(folder / "c", {"research": peer}, section(KeepResearchCopy=True)) as clinical,
    ):
        yield clinical, peer


def test_by_every_way_in_it_reaches_the_peer_and_only_the_copy_is_stored(servers: tuple[Orthanc, Orthanc]) -> None:
    clinical, peer = servers
    files = flow.ct_series(61, 1, 1, 6)
    by_dicom = flow.ct_series(62, 1, 1, 3)
    for data in files[:3]:
        assert clinical.request("POST", "/instances", data=data).status_code == 200
    clinical.stow(files[3:])
    assert clinical.c_store(by_dicom) == [0, 0, 0]
    outputs = flow.expected(clinical, files)
    rows = flow.settled(clinical, 9)
    assert {row.state for row in rows} == {"confirmed"}
    held = {instance: peer.file(instance) for instance in peer.instances()}
    assert len(held) == 9 and {one.orthanc_id: one.data for one in outputs}.items() <= held.items()
    assert {instance: clinical.file(instance) for instance in clinical.instances()} == held, "the copies, and only they"
    empty(clinical)
    values = flow.identifying((61, 62))
    nothing_identified(values, clinical, peer)
    health = clinical.health()
    assert health["Gateway"]["Refused"] == 0
    assert health["Service"]["Gateway"]["Unmatched"] == {}


def test_what_is_sent_again_is_known_and_bytes_that_were_announced_once_are_spooled(
    servers: tuple[Orthanc, Orthanc],
) -> None:
    clinical, peer = servers
    before = len(flow.ledger(clinical))
    data = flow.ct_series(63, 1, 1, 1)[0]
    clinical.store(data)
    flow.settled(clinical, before + 1)
    empty(clinical)
    copies = clinical.instances()
    (copy,) = [one for one in copies if one == flow.expected(clinical, [data])[0].orthanc_id]
    for again in (data, clinical.file(copy)):
        clinical.store(again)
    empty(clinical)
    assert len(flow.ledger(clinical)) == before + 1
    assert clinical.instances() == copies
    assert len(peer.instances()) == before + 1
    nothing_identified(flow.identifying((63,)), clinical, peer)


def test_what_was_announced_twice_by_nobody_is_stored_once(servers: tuple[Orthanc, Orthanc]) -> None:
    clinical, _ = servers
    data = builders.to_bytes(builders.ct(Origin(person(64), 1, 1, 1), rows=16, columns=16))
    with gateway.announced(spool(clinical), hashlib.sha256(data).hexdigest()):
        first = clinical.store(data)
        assert first["Status"] == "Success"
        clinical.delete(f"/instances/{first['ID']}")
        assert clinical.store(data)["Status"] != "Success", "single use"
    assert first["ID"] not in clinical.instances()
    empty(clinical)


# In Orthanc's hands an accident of the callback is leave to store the original: so these are all of its accidents.

ACCIDENTS = {
    "the file cannot be made": ("os", "open", "fail"),
    "the disk is full": ("os", "write", "full"),
    "it cannot be made durable": ("os", "fsync", "fail"),
    "it cannot get its name": ("os", "rename", "fail"),
    "the disk cannot be asked": ("os", "statvfs", "fail"),
    "SystemExit": ("os", "open", "leave"),
    "KeyboardInterrupt": ("os", "statvfs", "interrupt"),
    "no memory": ("os", "write", "no_memory"),
    "no random number": ("secrets", "token_hex", "fail"),
    "the thread is interrupted": ("os", "fsync", "asynchronous"),
    "the service cannot be told": ("gateway", "_nudge", "fail"),
    "None where the size should be": ("os", "write", "nothing"),
}
HARNESS = """
import ctypes, json, os, sys, threading, types
import orthanc
__file__ = PLUGIN
BEFORE
exec(compile(open(PLUGIN).read(), PLUGIN, "exec"))
def fail(*_, **__): raise RuntimeError
def full(*_): raise OSError(28, "No space left on device")
def leave(*_, **__): raise SystemExit(0)
def interrupt(*_): raise KeyboardInterrupt
def no_memory(*_): raise MemoryError
def nothing(*_): return None
def asynchronous(*_):
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(threading.get_ident()), ctypes.py_object(SystemExit))
    for _ in range(100000): pass
if GATEWAY is not None:
    take, space = GATEWAY._take, type(GATEWAY)._take.__globals__
    def accident(data, origin):
        if not os.path.exists(SWITCH): return take(data, origin)
        where, name, how = json.loads(open(SWITCH).read())
        if where == "gateway":
            kept = GATEWAY._nudge
            GATEWAY._nudge = globals()[how]
            try: return take(data, origin)
            finally: GATEWAY._nudge = kept
        kept = space[where]
        space[where] = types.SimpleNamespace(**(vars(kept) | {name: globals()[how]}))
        try: return take(data, origin)
        finally: space[where] = kept
    GATEWAY._take = accident
"""


def harness(folder: Path, before: str = "") -> tuple[Path, Path]:
    """A script that is the plugin with accidents: its path, and that of the file that says which one happens now."""
    folder.mkdir(parents=True, exist_ok=True)
    script, switch = folder / "accidents.py", folder / "accident"
    text = HARNESS.replace("PLUGIN", repr(str(PLUGIN_SCRIPT))).replace("SWITCH", repr(str(switch)))
    script.write_text(text.replace("BEFORE", before))
    return script, switch


def test_every_accident_refuses_and_the_sender_who_tries_again_is_heard(tmp_path: Path) -> None:
    script, switch = harness(tmp_path / "c")
    files = flow.ct_series(65, 1, 1, 2 * len(ACCIDENTS) + 1, rows=16)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, section(), PythonScript=str(script)) as clinical,
    ):
        for number, accident in enumerate(ACCIDENTS.values()):
            switch.write_text(json.dumps(accident))
            rest, dicom = files[2 * number : 2 * number + 2]
            assert clinical.request("POST", "/instances", data=rest).status_code == 500, accident
            assert clinical.c_store([dicom]) == [REFUSED], accident
            assert not clinical.instances(), accident
        with contextlib.suppress(AssertionError):  # older ones answer 200, and name nothing that they stored
            clinical.stow(files[-1:])
        assert not clinical.instances()
        switch.unlink()
        for number, data in enumerate(files):
            # By the way of before: what was refused after it had its name is there already, as that way hands it over.
            if number % 2:
                assert clinical.c_store([data]) == [0]
            else:
                clinical.store(data)
        outputs = flow.expected(clinical, files)
        until(lambda: len(peer.instances()) == len(files), 60, "all at the peer")
        empty(clinical)
        flow.check_peer(peer, outputs[::1])
        assert not clinical.instances()
        nothing_identified(flow.identifying((65,)), clinical, peer)
        told = clinical.health()["Gateway"]
        assert told["Refused"] == 2 * len(ACCIDENTS) + 1


BROKEN = """
register = orthanc.RegisterReceivedInstanceCallback
def broken(data, origin):
    ANSWER
orthanc.RegisterReceivedInstanceCallback = lambda _ours: register(broken)
"""


@pytest.mark.parametrize("answer", ["raise SystemExit", "return None", "return [3, None]", "return (1, None)"])
def test_a_callback_that_orthanc_passes_over_stores_nothing_that_came_by_dicom(tmp_path: Path, answer: str) -> None:
    script, _ = harness(tmp_path / "c", BROKEN.replace("ANSWER", answer))
    with clinical_orthanc(
        tmp_path / "c", {}, section(KeepResearchCopy=True, Destinations=[]), PythonScript=str(script)
    ) as clinical:
        files = flow.ct_series(66, 1, 1, 2)
        # In a crowd pynetdicom now and then misses an answer that comes at once.
        until(lambda: clinical.c_store(files) == [REFUSED, REFUSED], 200, "both to be refused")
        assert not clinical.instances()


@pytest.mark.parametrize("name", ["RegisterReceivedInstanceCallback", "RegisterIncomingCStoreInstanceFilter"])
def test_where_it_is_not_possible_orthanc_does_not_start(tmp_path: Path, name: str) -> None:
    script, _ = harness(tmp_path / "c", f"del orthanc.{name}")
    assert f"has no {name}" in refused(tmp_path / "c", section(), PythonScript=str(script))


def refused(folder: Path, deid: dict[str, Any], **configuration: Any) -> str:
    """Orthanc's log after it has refused to start."""
    deid["Projects"]["lung"] |= {"KeepResearchCopy": True, "Destinations": []}
    with clinical_orthanc(folder, {}, deid, start=False, **configuration) as clinical:
        clinical.launch()
        assert clinical.process is not None
        assert clinical.process.wait(60) != 0
        return clinical.log.read_text()


def test_what_gateway_mode_cannot_keep_is_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    log = refused(tmp_path / "a", section({"Spool": str(tmp_path / "file" / "spool")}))
    assert "Deid.Gateway.Spool: cannot be used (Not a directory)" in log
    scanner = {"AET": "CT", "Host": "127.0.0.1", "Port": 104, "AllowStorageCommitment": True}
    log = refused(tmp_path / "b", section({"Unmatched": "forget", "Size": 3}))
    for fault in ("Deid.Gateway.Unmatched:", "Deid.Gateway.Size:"):
        assert f"orthanc-deid: {fault}" in log, log
    within = section({"Spool": str(tmp_path / "d" / "storage" / "spool")})
    log = refused(tmp_path / "d", within, DicomModalities={"ct": scanner})
    for fault in ("Deid.Gateway.Spool: cannot be within", "DicomModalities.ct.AllowStorageCommitment: cannot be"):
        assert f"orthanc-deid: {fault}" in log, log


# Room


def test_a_full_spool_refuses_and_takes_the_rest_when_there_is_room(tmp_path: Path) -> None:
    files = flow.ct_series(67, 1, 1, 6, rows=512)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, section({"MaximumSize": 2}, Release="manual")) as clinical,
    ):
        answers = clinical.c_store(files)
        assert answers == [0, 0, 0, REFUSED, REFUSED, REFUSED]
        until(lambda: clinical.health()["Gateway"]["LastRefusal"] == "full", 30, "the refusal to be told")
        metric = b"deid_spool_refused_total 3.0"
        until(lambda: metric in clinical.request("GET", "/deid/metrics").content, 30, "the metric")
        troubles = until(lambda: clinical.health()["Service"]["Troubles"], 30, "the trouble")
        assert troubles[0]["Part"] == "spool" and troubles[0]["Reason"] == "full"
        flow.settled(clinical, 3, also=["ready"])
        (study,) = clinical.get("/deid/projects/lung/studies")
        clinical.post(f"/deid/projects/lung/studies/{study['StudyInstanceUID']}/release")
        empty(clinical)
        until(lambda: clinical.health()["Gateway"]["Used"] == 0, 30, "the room to be reckoned with")
        assert clinical.c_store(files[3:]) == [0, 0, 0]
        flow.settled(clinical, 6, also=["ready"])
        assert not clinical.instances()


# What no project takes


def test_what_no_project_takes_is_kept_and_listed_or_discarded(tmp_path: Path) -> None:
    other = builders.to_bytes(builders.mr(Origin(person(68), 1, 1, 1), rows=16, columns=16))
    files = flow.ct_series(68, 2, 1, 2)
    deid = section(Match={"Modality": "CT"})
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid) as clinical,
    ):
        for data in (other, *files):
            clinical.store(data)
        flow.settled(clinical, 2)
        (kept,) = until(lambda: clinical.get("/deid/spool"), 30, "the list")
        assert kept["Reason"] == "unmatched" and kept["Size"] == len(other)
        clinical.stop(30)
        clinical.start().wait_ready()
        (again,) = until(lambda: clinical.get("/deid/spool"), 30, "the list")
        assert again["ID"] == kept["ID"]
        assert b'deid_spool_unmatched{reason="unmatched"} 1.0' in clinical.request("GET", "/deid/metrics").content
        assert clinical.request("POST", f"/deid/spool/{'0' * 32}", json={"Action": "discard"}).status_code == 404
        clinical.post(f"/deid/spool/{kept['ID']}", {"Action": "discard"})
        assert clinical.get("/deid/spool") == []
        empty(clinical)
        clinical.stop(30)
        clinical.configuration["Deid"]["Gateway"]["Unmatched"] = "discard"
        clinical.start().wait_ready()
        clinical.store(other)
        empty(clinical)
        assert len(flow.ledger(clinical)) == 2 and len(peer.instances()) == 2
        nothing_identified(flow.identifying((68,), (1, 2)), clinical, peer)


# AE titles, which the callback is not told


def test_projects_are_found_by_ae_titles_and_identities_by_domains(tmp_path: Path) -> None:
    deid = section(Match={"CalledAET": "LUNG"}, Domains={"EAST": "east", "*": "west"})
    files = flow.ct_series(69, 1, 1, 4)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid) as clinical,
    ):
        assert clinical.c_store(files[:2], calling="EAST", called="LUNG") == [0, 0]
        assert clinical.c_store(files[2:3], calling="EAST", called="BRAIN") == [0]
        clinical.store(files[3])
        rows = flow.settled(clinical, 2)
        assert {row.state for row in rows} == {"confirmed"}
        flow.check_peer(peer, flow.expected(clinical, files[:2], domain="east"))
        until(lambda: not clinical.instances(), 30, "the placeholders to go")
        assert [one["Reason"] for one in until(lambda: clinical.get("/deid/spool"), 30, "the rest")] == [
            "unmatched"
        ] * 2
        for one in clinical.get("/deid/spool"):
            clinical.post(f"/deid/spool/{one['ID']}", {"Action": "discard"})
        empty(clinical)
        nothing_identified(flow.identifying((69,)), clinical, peer)


# What was stored before


def test_what_is_in_orthanc_already_is_processed_as_ever(tmp_path: Path) -> None:
    files = flow.ct_series(70, 1, 1, 3)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid_section(), start=False) as clinical,
    ):
        script = clinical.configuration.pop("PythonScript")
        clinical.start()
        for data in files[:2]:
            clinical.store(data)
        clinical.stop(30)
        clinical.configuration |= {"PythonScript": script, "Deid": section()}
        clinical.start().wait_ready()
        clinical.store(files[2])
        clinical.store(files[0])
        flow.check_ledger(flow.settled(clinical, 3), flow.expected(clinical, files))
        flow.check_peer(peer, flow.expected(clinical, files))
        empty(clinical)
        assert len(clinical.instances()) == 2


# Death at any moment


def send_until_taken(clinical: Orthanc, files: list[bytes], ended: threading.Event) -> None:
    """Send by REST as a modality does: again, until it is told of success."""
    for data in files:
        while not ended.is_set():
            try:
                if clinical.request("POST", "/instances", data=data, timeout=20).status_code == 200:
                    break
            except requests.RequestException:
                time.sleep(0.05)


def test_everything_is_killed_while_200_instances_come(tmp_path: Path) -> None:
    files = [data for number in (71, 72, 73, 74) for data in flow.ct_series(number, 1, 1, 50, rows=64)]
    deid = section(KeepResearchCopy=True)
    ended = threading.Event()
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, deid) as clinical,
        concurrent.futures.ThreadPoolExecutor(4) as senders,
    ):
        try:
            sent = [senders.submit(send_until_taken, clinical, files[n::4], ended) for n in range(4)]
            for number in range(3):
                many = 30 + 50 * number
                until(lambda many=many: len(flow.ledger(clinical)) >= many, 120, "instances", every=0.01)
                if number == 1:
                    os.kill(clinical.service_pid, 9)
                else:
                    clinical.kill()
                    clinical.start()
            for one in sent:
                one.result(120)
        finally:
            ended.set()
        clinical.wait_ready()
        rows = flow.settled(clinical, len(files), 180)
        outputs = flow.expected(clinical, files)
        flow.check_ledger(rows, outputs)
        flow.check_peer(peer, outputs)
        empty(clinical)
        copies = {output.orthanc_id for output in outputs}
        assert clinical.instances() == copies
        nothing_identified(flow.identifying((71, 72, 73, 74)), clinical, peer)
