"""Files in Orthanc's storage that are damaged or gone, one by one or all together.

What cannot be read is held with its reason and keeps nothing else waiting; what is only away for a while is waited for.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from orthanc_deid.pipeline.series import MAX_UNREADABLE

from tests import flow
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = pytest.mark.integration

JOB = {"Project": "lung", "Query": {}}


def store_before(folder: Path, files: list[bytes]) -> list[Path]:
    """Let an Orthanc without the plugin store them, and stop it; returns where each file lies in its storage."""
    with clinical_orthanc(folder, plugin=False) as plain:
        names = [plain.store(data)["ID"] for data in files]
        plain.stop(30)
        storage = plain.folder / "storage"
    with closing(sqlite3.connect(storage / "index")) as index:
        query = """SELECT publicId, uuid FROM AttachedFiles JOIN Resources ON internalId = AttachedFiles.id
                   WHERE fileType = 1"""
        uuids = dict(index.execute(query).fetchall())
    return [storage / uuids[name][:2] / uuids[name][2:4] / uuids[name] for name in names]


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[Orthanc]:
    with research_orthanc(tmp_path / "r") as server:
        yield server


def test_damaged_and_missing_files_are_held_and_keep_nothing_waiting(tmp_path: Path, peer: Orthanc) -> None:
    files = flow.ct_series(31, slices=8)
    paths = store_before(tmp_path / "c", files)
    kept = [path.read_bytes() for path in paths]
    paths[0].unlink()
    paths[2].write_bytes(kept[2][:3000])
    paths[4].write_bytes(kept[4][:-5] + bytes([kept[4][-5] ^ 1]) + kept[4][-4:])
    with clinical_orthanc(tmp_path / "c", {"research": peer}) as clinical:
        outputs = flow.expected(clinical, files)
        damaged = {outputs[n].orthanc_id for n in (0, 2, 4)}

        dry = clinical.post("/deid/jobs", JOB | {"DryRun": True})["ID"]
        until(lambda: clinical.get(f"/deid/jobs/{dry}")["State"] == "Success", 60, "the dry run")
        said = clinical.get(f"/deid/jobs/{dry}")["Content"]
        # Without writing anything down there is no content to compare with: only what Orthanc refuses is found.
        assert said["Reasons"].get("source-unreadable", 0) >= 1, said

        clinical.post("/deid/jobs", JOB)
        rows = flow.settled(clinical, len(files))
        assert Counter((row.state, row.reason) for row in rows) == {
            ("confirmed", None): 5,
            ("quarantined", "source-unreadable"): 3,
        }
        assert peer.instances() == {output.orthanc_id for output in outputs} - damaged
        health = until(lambda: (said := clinical.health())["Service"]["State"] == "ok" and said, 30, "no trouble")
        assert health["Status"] == "ok"

        clinical.stop(30)  # its cache may hold the damaged ones
        for path, data in zip(paths, kept, strict=True):
            path.write_bytes(data)
        clinical.start().wait_ready()
        held = clinical.get("/deid/quarantine?reason=source-unreadable")
        assert len(held) == 3
        for item in held:
            assert clinical.request("POST", f"/deid/quarantine/{item['ID']}", json={"Action": "retry"}).ok
        flow.check_ledger(flow.settled(clinical, len(files)), outputs)
        flow.check_peer(peer, outputs)


def test_a_missing_file_is_held_although_nothing_else_is_read(tmp_path: Path, peer: Orthanc) -> None:
    missing, other = (flow.ct_series(number, slices=1)[0] for number in (34, 35))
    path, _ = store_before(tmp_path / "c", [missing, other])
    kept = path.read_bytes()
    path.unlink()
    section = deid_section()
    section["Projects"]["lung"]["Match"] = {"PatientID": re.escape(flow.person(34).patient_id)}
    with clinical_orthanc(tmp_path / "c", {"research": peer}, section) as clinical:
        (output,) = flow.expected(clinical, [missing])
        (row,) = flow.settled(clinical, 1)
        assert (row.state, row.reason) == ("quarantined", "source-unreadable")
        path.write_bytes(kept)
        (held,) = clinical.get("/deid/quarantine?reason=source-unreadable")
        assert clinical.request("POST", f"/deid/quarantine/{held['ID']}", json={"Action": "retry"}).ok
        flow.check_ledger(flow.settled(clinical, 1), [output])
        flow.check_peer(peer, [output])


def test_a_storage_that_is_away_is_waited_for(tmp_path: Path, peer: Orthanc) -> None:
    files = [data for number in (32, 33) for data in flow.ct_series(number, slices=3)]
    paths = store_before(tmp_path / "c", files)
    kept = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    with clinical_orthanc(tmp_path / "c", {"research": peer}) as clinical:
        outputs = flow.expected(clinical, files)
        clinical.post("/deid/jobs", JOB)
        until(lambda: len(flow.ledger(clinical)) == len(files), 60, "all to be taken in")
        until(lambda: "worker-orthanc" in str(clinical.health()["Service"].get("Troubles")), 30, "the state to tell")

        def tries() -> int:
            # By the file that Orthanc names least often: others are asked for to see whether anything can be read.
            text = clinical.log.read_text(errors="replace")
            return min(text.count(path.name) for path in paths)

        until(lambda: tries() > MAX_UNREADABLE, 60, "more tries than a damaged file gets")
        assert {row.state for row in flow.ledger(clinical)} <= {"queued", "working"}
        for path, data in zip(paths, kept, strict=True):
            path.write_bytes(data)
        flow.check_ledger(flow.settled(clinical, len(files)), outputs)
        flow.check_peer(peer, outputs)
