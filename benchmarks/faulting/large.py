"""Instances of 1 GB and 2.2 GB from the clinical Orthanc to the peer, and the memory that the service takes for them.

Above 2^31 bytes Orthanc 1.10 announces the right length and sends no body; so this is more than a question of size.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import numpy as np
from orthanc_deid.store.compact import unpack

from benchmarks.faulting.measure import MB, PartFailed, Sweep, database, highest, states, workers
from tests import builders, flow
from tests.objects.base import Origin, person
from tests.objects.multiframe import enhanced_ct
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

SIZES = (1_000_000_000, 2_200_000_000)
ROWS = 1024
FRAME = ROWS * ROWS * 2
MOST_MEMORY = 300 * MB
"""Of the service, and of each worker."""
TRANSFER_SECONDS = 1800
HEAD = 4 * MB


def write(file: BinaryIO, origin: Origin, size: int) -> None:
    """Write a multi-frame CT of about so many bytes, never holding more than a frame of it."""
    frames = size // FRAME
    dataset = enhanced_ct(origin, frames=frames, rows=2)
    dataset.Rows = dataset.Columns = ROWS
    del dataset.PixelData
    file.write(builders.to_bytes(dataset))
    # (7FE0,0010), OW, its length: the last element of the data set.
    file.write(b"\xe0\x7f\x10\x00OW\0\0" + (frames * FRAME).to_bytes(4, "little"))
    # As in a scan: air around a body with noise. Pure noise would keep Orthanc's gzip busy for many minutes.
    noise = np.random.default_rng(1).integers(1000, 1032, (ROWS, ROWS), dtype=np.uint16)
    y, x = np.ogrid[-1 : 1 : ROWS * 1j, -1 : 1 : ROWS * 1j]  # type: ignore[misc]
    frame = np.where(x * x + y * y < 0.6, noise, 0).astype(np.uint16).tobytes()
    for _ in range(frames):
        file.write(frame)


def run(folder: Path) -> bool:
    """One after the other, each until the peer has confirmed it; whether all came and memory stayed small."""
    origins = [Origin(person(1900 + number)) for number in range(len(SIZES))]
    good = True
    with research_orthanc(folder / "research") as peer:
        research = {"research": {"Url": peer.url + "/", "Timeout": TRANSFER_SECONDS}}
        with clinical_orthanc(
            folder / "clinical", deid=deid_section(Workers=2), OrthancPeers=research, HttpTimeout=TRANSFER_SECONDS
        ) as clinical:
            for number, (origin, size) in enumerate(zip(origins, SIZES, strict=True), start=1):
                good = _one(folder, clinical, peer, origin, size, number) and good
            found = Sweep(origins).over(clinical, peer, HEAD)
            for leak in found[:20]:
                print(f"  LEAK: {leak}")
    print(f"large: leaked {len(found)}", flush=True)
    return good and not found


def _one(folder: Path, clinical: Orthanc, peer: Orthanc, origin: Origin, size: int, number: int) -> bool:
    path = folder / "one.dcm"
    with path.open("wb") as file:
        write(file, origin, size)
    size = path.stat().st_size
    began = time.monotonic()
    with path.open("rb") as file:
        answer = clinical.request("POST", "/instances", data=file, timeout=TRANSFER_SECONDS)
    if not answer.ok or answer.json().get("Status") != "Success":
        raise PartFailed(f"the clinical Orthanc did not take it: {answer.status_code}")
    path.unlink()
    stored = time.monotonic()

    def over() -> bool:
        now = states(clinical)
        return sum(now.values()) == number and all(state in flow.TERMINAL for state in now)

    until(over, TRANSFER_SECONDS, f"the outcome; {clinical.health()}", 0.5)
    done = time.monotonic()
    service = clinical.service_pid
    memory = [highest(pid) for pid in (service, *workers(service))]
    with closing(sqlite3.connect(f"file:{database(clinical)}?mode=ro", uri=True)) as connection:
        query = "SELECT state, reason, out_digest FROM ledger ORDER BY id DESC LIMIT 1"
        state, reason, digest = connection.execute(query).fetchone()
    files = [one for one in (peer.folder / "storage").rglob("*") if one.is_file() and one.stat().st_size > size // 2]
    same = digest is not None and unpack(digest) in {_sha256(one) for one in files}
    print(
        f"large: {size / 1e9:.2f} GB: {state} {reason or ''}, {'the' if same else 'NOT THE'} ledger's bytes at "
        f"the peer; sending {stored - began:.0f} s, to the peer's word {done - stored:.0f} s"
    )
    print(
        f"large: highest memory: service {memory[0] // MB} MB, workers {[one // MB for one in memory[1:]]} MB",
        flush=True,
    )
    return state == "confirmed" and same and len(peer.instances()) == number and max(memory) <= MOST_MEMORY


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
