"""How fast gateway mode takes instances, beside an Orthanc that stores them: four clients each, in turns.

    .venv/bin/python -m benchmarks.gateway [ROUNDS]

Prints instances per second of both and, in the last lines, the ratio of their sums; C-STORE with AE titles costs a
placeholder for each instance, and has a line of its own. No ratio is demanded: ingest is the disk's and the network's.
"""

from __future__ import annotations

import concurrent.futures
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import requests

from tests import flow
from tests.orthancs import Orthanc, clinical_orthanc, deid_section

CLIENTS, SLICES = 4, 25


def by_rest(server: Orthanc, files: list[bytes]) -> None:
    """Send by REST on one connection."""
    with requests.Session() as session:
        for data in files:
            session.post(f"{server.url}/instances", data=data, timeout=60).raise_for_status()


def by_dicom(server: Orthanc, files: list[bytes]) -> None:
    """Send over one association."""
    assert set(server.c_store(files, called="NOBODY")) == {0}


def seconds(send: Callable[[Orthanc, list[bytes]], None], server: Orthanc, number: int) -> float:
    """How long four clients take to send a series each."""
    series = [flow.ct_series(number + client, 1, 1, SLICES, rows=512) for client in range(CLIENTS)]
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as clients:
        began = time.perf_counter()
        list(clients.map(lambda files: send(server, files), series))
        return time.perf_counter() - began


def main() -> None:
    """Measure."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    deid = deid_section(Gateway={})
    deid["Projects"]["lung"]["Match"] = {"Modality": "NONE"}
    titles = deid_section(Gateway={})
    titles["Projects"]["lung"]["Match"] = {"CalledAET": "SOMEBODY"}
    deid["Projects"]["lung"]["Destinations"] = titles["Projects"]["lung"]["Destinations"] = []
    for section in (deid, titles):
        section["Projects"]["lung"]["KeepResearchCopy"] = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            clinical_orthanc(folder / "plain", plugin=False) as plain,
            clinical_orthanc(folder / "gateway", deid=deid) as gateway,
            clinical_orthanc(folder / "titles", deid=titles) as asking,
        ):
            contests = {
                "REST": (by_rest, gateway),
                "C-STORE": (by_dicom, gateway),
                "C-STORE with AE titles": (by_dicom, asking),
            }
            spent = {what: [0.0, 0.0] for what in contests}
            for number in range(rounds):
                for place, (what, (send, server)) in enumerate(contests.items()):
                    first = 1000 + (number * len(contests) + place) * CLIENTS
                    spent[what][0] += seconds(send, plain, first)
                    spent[what][1] += seconds(send, server, first)
    sent = rounds * CLIENTS * SLICES
    for what, (stored, spooled) in spent.items():
        print(f"{what}: stored {sent / stored:.0f}/s, spooled {sent / spooled:.0f}/s, ratio {stored / spooled:.2f}")


if __name__ == "__main__":
    main()
