"""Disks that are really full (a small file system of its own for each): the service's, Orthanc's and the peer's.

Whatever was acknowledged comes out in the end, once, and the state tells meanwhile which disk it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import flow
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = [pytest.mark.integration, pytest.mark.one_orthanc]


class Disk:
    """A file system of a few megabytes, which a test fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave not a byte, and go on taking what becomes free."""
        file = os.open(self._ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        os.write(file, b"\0" * size)
        finally:
            os.close(file)

    def free(self) -> None:
        """Give room."""
        self._ballast.unlink()


@contextlib.contextmanager
def disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """Mount a file system at a folder, and take it away again."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={megabytes}m,mode=0700"
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def troubles(clinical: Orthanc) -> dict[str, str]:
    """The parts that have trouble, and what it is."""
    told: list[dict[str, Any]] = (clinical.health().get("Service") or {}).get("Troubles", [])
    return {trouble["Part"]: trouble["Reason"] for trouble in told}


def test_the_disk_of_the_service(tmp_path: Path, research: Orthanc) -> None:
    files = flow.ct_series(81, slices=12, rows=128)
    section = deid_section(FreeDisk=0)
    with (
        disk(tmp_path / "clinical" / "orthanc-deid", 48) as small,
        clinical_orthanc(tmp_path / "clinical", {"research": research}, section) as clinical,
    ):
        outputs = flow.expected(clinical, files)
        clinical.store(files[0])
        flow.settled(clinical, 1)
        small.fill()
        for data in files[1:]:
            assert clinical.store(data)["Status"] == "Success", "Orthanc's own disk has room"
        until(lambda: troubles(clinical), 60, "the trouble to be told")
        small.fill()
        small.free()
        flow.check_ledger(flow.settled(clinical, len(files), 120), outputs)
        flow.check_peer(research, outputs)
        until(lambda: not troubles(clinical), 60, "the trouble to be over")
        flow.sweep(flow.identifying((81,)), clinical, research)


def test_the_disk_of_the_service_when_it_dies_and_cannot_start(tmp_path: Path, research: Orthanc) -> None:
    files = flow.ct_series(82, slices=6, rows=128)
    with (
        disk(tmp_path / "clinical" / "orthanc-deid", 48) as small,
        clinical_orthanc(tmp_path / "clinical", {"research": research}, deid_section(FreeDisk=0)) as clinical,
    ):
        outputs = flow.expected(clinical, files)
        pid = clinical.service_pid
        for data in files[:3]:
            clinical.store(data)
        small.fill()
        os.kill(pid, 9)
        for data in files[3:]:
            assert clinical.store(data)["Status"] == "Success"
        small.fill()
        until(lambda: clinical.health().get("Pid") not in (None, pid), 60, "another service to be tried")
        small.free()
        flow.check_ledger(flow.settled(clinical, len(files), 180), outputs)
        flow.check_peer(research, outputs)


def test_the_disk_of_the_peer(tmp_path: Path) -> None:
    files = flow.ct_series(83, slices=12, rows=128)
    with (
        disk(tmp_path / "research" / "storage", 16) as small,
        research_orthanc(tmp_path / "research", IndexDirectory=str(tmp_path / "research" / "index")) as peer,
        clinical_orthanc(tmp_path / "clinical", {"research": peer}) as clinical,
    ):
        outputs = flow.expected(clinical, files)
        small.fill()
        for data in files:
            clinical.store(data)
        until(lambda: troubles(clinical).get("peer:research") == "no-room", 60, "the full peer to be told of")
        assert {row.state for row in flow.ledger(clinical)} <= {"queued", "working", "ready", "released"}
        small.free()
        flow.check_ledger(flow.settled(clinical, len(files), 120), outputs)
        flow.check_peer(peer, outputs)
        until(lambda: not troubles(clinical), 60, "the trouble to be over")


@pytest.mark.parametrize("index", ["together", "apart"])
def test_the_disk_of_orthanc(tmp_path: Path, research: Orthanc, index: str) -> None:
    # What it could not store it has not acknowledged; research copies wait until there is room.
    files = flow.ct_series(84, slices=12, rows=512)
    section = deid_section()
    section["Projects"]["lung"]["KeepResearchCopy"] = True
    more = {} if index == "together" else {"IndexDirectory": str(tmp_path / "clinical" / "index")}
    with (
        disk(tmp_path / "clinical" / "storage", 32) as small,
        clinical_orthanc(tmp_path / "clinical", {"research": research}, section, **more) as clinical,
    ):
        outputs = flow.expected(clinical, files[:8])
        pid = clinical.service_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            for data in files[:8]:
                clinical.store(data)
            small.fill()
            for data in files[8:]:
                assert not clinical.request("POST", "/instances", data=data).ok, "not acknowledged"
            small.fill()  # what it had begun to write is free again
        finally:
            os.kill(pid, signal.SIGCONT)
        until(lambda: troubles(clinical), 90, "the trouble to be told")
        assert {row.state for row in flow.ledger(clinical)} <= {"queued", "working", "ready", "released"}
        small.free()
        flow.check_ledger(flow.settled(clinical, 8, 180), outputs)
        flow.check_peer(research, outputs)
        held = {output.orthanc_id for output in outputs}
        assert {one: clinical.file(one) for one in held} == {output.orthanc_id: output.data for output in outputs}
        until(lambda: not troubles(clinical), 60, "the trouble to be over")
