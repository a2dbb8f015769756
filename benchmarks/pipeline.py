"""What the pipeline carries: 300 CT slices over 4 connections, until the peer has confirmed them all.

    .venv/bin/python benchmarks/pipeline.py [--rounds N] [--slices N] [--cpu]

Against (a) a plain client of two processes that copies each instance across as it arrives, without any
de-identification, (a2) the same client when it stores each instance once more where it came from, as a research copy
is, and (b) Orthanc's own /studies/{id}/anonymize followed by /peers/{id}/store; all from an equal Orthanc without the
plugin, to the same peer. All in one run, interleaved, the best round of each. The goals are 0.9 × (a) and 0.9 × (a2),
twice (b), and 3 % of the ingest; the exit status is 1 below what two cores have reached: 0.7 × (a), 1.2 × (b) with a
research copy, 5 % of the ingest. `--cpu` also tells the milliseconds of processor that each process spent per slice,
which a busy machine disturbs less than the clock.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from multiprocessing.queues import Queue as ProcessQueue
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugin")]

from tests import builders  # noqa: E402
from tests.objects.base import origin  # noqa: E402
from tests.objects.images import ct  # noqa: E402
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc  # noqa: E402

CONNECTIONS = 4
COPIERS = 2
WORKERS = 2
WITHOUT_COPY, WITH_COPY, INGEST = 0.7, 1.2, 0.05
GOAL, GOAL_ORTHANC, GOAL_INGEST = 0.9, 2.0, 0.03
MADE, AGAIN = builders.ROOT.encode()[:-4] + b"8", builders.ROOT.encode()[:-4] + b"7"
"""How the UIDs of a study begin, and those of what is stored once more."""
TWICE = "+"
SECONDS = 300.0


class Slices:
    """Files of one study, made anew for each round by patching the UIDs of ready bytes."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._files = []
        for instance in range(1, number + 1):
            dataset = ct(origin(1, 1, 1, instance))
            dataset.StudyDescription = "benchmark @@@@@@"
            self._files.append(builders.to_bytes(dataset))
        self._old = builders.ROOT.encode() + b"."
        self._round = 0

    @property
    def size(self) -> int:
        """Bytes of one file."""
        return len(self._files[0])

    def study(self, kind: str) -> list[bytes]:
        """A study that nobody has seen; `kind` (6 letters) selects the project by its Study Description."""
        self._round += 1
        # The same length: another digit of the root makes every UID of the study another one.
        new = self._old[:-5] + f"{self._round + 8000:04}.".encode()
        return [f.replace(self._old, new).replace(b"@@@@@@", kind.encode()) for f in self._files]


def send(server: Orthanc, files: list[bytes], stored: Callable[[str], None] = lambda _: None) -> str:
    """Send files over 4 connections; `stored` is told each id. Returns Orthanc's id of the study."""
    studies: set[str] = set()
    errors: list[str] = []

    def one(part: list[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.http_port)
        for data in part:
            connection.request("POST", "/instances", data, {"Content-Type": "application/dicom"})
            answer = json.loads(connection.getresponse().read())
            if answer.get("Status") != "Success":
                errors.append(str(answer.get("Status")))
                return
            studies.add(answer["ParentStudy"])
            stored(answer["ID"])
        connection.close()

    threads = [threading.Thread(target=one, args=(files[n::CONNECTIONS],)) for n in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors or len(studies) != 1:
        raise SystemExit(f"sending failed: {errors[:3]}")
    return studies.pop()


def copier(source: int, target: int, ids: ProcessQueue[str], done: ProcessQueue[str]) -> None:
    """One process of the plain client: GET from one server, POST to the other."""
    while True:
        instance = ids.get()
        read = http.client.HTTPConnection("127.0.0.1", source)
        write = http.client.HTTPConnection("127.0.0.1", target)
        # Connections live as long as there is work: Orthanc closes them after a second without.
        while instance is not None:
            twice, instance = instance.startswith(TWICE), instance.removeprefix(TWICE)
            read.request("GET", f"/instances/{instance}/file", headers={"Accept-Encoding": "identity"})
            data = read.getresponse().read()
            if twice:
                again = data.replace(MADE, AGAIN)
                read.request("POST", "/instances", again, {"Content-Type": "application/dicom"})
                read.getresponse().read()
            write.request("POST", "/instances", data, {"Content-Type": "application/dicom"})
            answer = write.getresponse()
            answer.read()
            done.put(str(answer.status))
            try:
                instance = ids.get(timeout=0.5)
            except Exception:  # queue.Empty
                break
        read.close()
        write.close()


class Copiers:
    """The plain client."""

    def __init__(self, source: Orthanc, target: Orthanc) -> None:
        context = multiprocessing.get_context("spawn")
        self.ids: ProcessQueue[str] = context.Queue()
        self.done: ProcessQueue[str] = context.Queue()
        self.processes = [
            context.Process(target=copier, args=(source.http_port, target.http_port, self.ids, self.done), daemon=True)
            for _ in range(COPIERS)
        ]
        for process in self.processes:
            process.start()

    def stop(self) -> None:
        """End its processes."""
        for process in self.processes:
            process.terminate()
            process.join()


class Bench:
    """The servers, and one round of each way across."""

    def __init__(self, plain: Orthanc, clinical: Orthanc, peer: Orthanc, slices: Slices) -> None:
        self.plain, self.clinical, self.peer, self.slices = plain, clinical, peer, slices
        self.copiers = Copiers(plain, peer)
        self.ingest_busy = 0.0

    def ingest_plain(self) -> float:
        """Only sending, to the Orthanc without the plugin."""
        files = self.slices.study("ingest")
        began = time.monotonic()
        send(self.plain, files)
        return time.monotonic() - began

    def ingest_plugin(self) -> float:
        """Only sending, to the Orthanc with the plugin: a study that no project wants."""
        files = self.slices.study("ingest")
        began = time.monotonic()
        send(self.clinical, files)
        return time.monotonic() - began

    def copy(self, how: str = "") -> float:
        """(a): the plain client copies each instance as soon as it is stored."""
        files = self.slices.study("nobody")
        began = time.monotonic()
        send(self.plain, files, lambda instance: self.copiers.ids.put(how + instance))
        for _ in files:
            if self.copiers.done.get(timeout=SECONDS) != "200":
                raise SystemExit("the plain client failed")
        return time.monotonic() - began

    def copy_and_store(self) -> float:
        """(a2): and stores it once more where it came from."""
        return self.copy(TWICE)

    def anonymize(self) -> float:
        """(b): Orthanc's own anonymisation of the study, then its own push."""
        files = self.slices.study("nobody")
        began = time.monotonic()
        study = send(self.plain, files)
        made = self.plain.post(f"/studies/{study}/anonymize", {})["ID"]
        self.plain.request("POST", "/peers/research/store", data=made, timeout=SECONDS).raise_for_status()
        return time.monotonic() - began

    def ours(self, project: str) -> float:
        """Ours: until the ledger says that the peer has confirmed every instance."""
        files = self.slices.study(project)
        database = self.clinical.folder / "orthanc-deid" / "deid.sqlite3"
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            sql = f"SELECT count(*) FROM ledger WHERE project = '{project}' AND state = 'confirmed'"
            (before,) = connection.execute(sql).fetchone()
            began = time.monotonic()
            send(self.clinical, files)
            self.ingest_busy = time.monotonic() - began
            while connection.execute(sql).fetchone()[0] < before + len(files):
                if time.monotonic() > began + SECONDS:
                    raise SystemExit(f"not confirmed within {SECONDS:g} s: {self.clinical.health()}")
                time.sleep(0.02)
            return time.monotonic() - began

    def without_copy(self) -> float:
        """Ours, Release `instance`, no research copy."""
        return self.ours("pushed")

    def with_copy(self) -> float:
        """Ours, Release `instance`, with the research copy."""
        return self.ours("copied")


def section() -> dict[str, Any]:
    """Two projects, selected by Study Description."""
    project = deid_section()["Projects"]["lung"]
    return deid_section(
        Workers=WORKERS,
        Projects={
            "pushed": {**project, "Match": {"StudyDescription": ".*pushed"}},
            "copied": {**project, "Match": {"StudyDescription": ".*copied"}, "KeepResearchCopy": True},
        },
    )


TICKS = os.sysconf("SC_CLK_TCK")


def cpu(bench: Bench) -> dict[str, float]:
    """Return the seconds of processor that each part has spent by now."""
    service = bench.clinical.service_pid
    parts = {
        bench.plain.pid: "plain",
        bench.clinical.pid: "clinical",
        bench.peer.pid: "peer",
        os.getpid(): "sender",
        service: "service",
        **{process.pid: "copiers" for process in bench.copiers.processes},
    }
    spent: dict[str, float] = dict.fromkeys(["plain", "clinical", "peer", "service", "workers", "copiers", "sender"], 0)
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        # Workers are in the service's process group.
        part = parts.get(int(folder.name), "workers" if int(stat[2]) == service else None)
        if part is not None:
            spent[part] += (int(stat[11]) + int(stat[12])) / TICKS
    return spent


def memory(pid: int) -> tuple[int, list[int]]:
    """Return the resident megabytes of the service and of each of its workers."""
    sizes, parents = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text().rpartition(")")[2].split()
                sizes[int(folder.name)] = int(stat[21]) * 4096 >> 20
                parents[int(folder.name)] = int(stat[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    helpers = {one for one, parent in parents.items() if parent == pid}
    return sizes[pid], [sizes[one] for one, parent in parents.items() if parent in helpers]


def main() -> int:
    """Run the rounds and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--only", action="append", help="run only these ways (by name)")
    parser.add_argument("--cpu", action="store_true", help="print the processor time of each process per slice")
    args = parser.parse_args()
    slices = Slices(args.slices)
    best: dict[str, float] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deid-benchmark-")))
        peer = stack.enter_context(research_orthanc(folder / "r"))
        plain = stack.enter_context(clinical_orthanc(folder / "p", {"research": peer}, plugin=False))
        clinical = stack.enter_context(clinical_orthanc(folder / "c", {"research": peer}, section()))
        bench = Bench(plain, clinical, peer, slices)
        stack.callback(bench.copiers.stop)
        ways = [
            bench.ingest_plain,
            bench.ingest_plugin,
            bench.copy,
            bench.copy_and_store,
            bench.without_copy,
            bench.anonymize,
            bench.with_copy,
        ]
        ways = [way for way in ways if not args.only or way.__name__ in args.only]
        print(f"{args.slices} CT slices of {slices.size / 1000:.0f} KB, {CONNECTIONS} connections, {WORKERS} workers")
        for number in range(args.rounds):
            for way in ways:
                before = cpu(bench) if args.cpu else {}
                seconds = way()
                after = cpu(bench) if args.cpu else {}
                name = way.__name__
                best[name] = min(best.get(name, seconds), seconds)
                busy = f"   (sending took {bench.ingest_busy:.2f} s)" if name.startswith("with") else ""
                print(
                    f"round {number + 1}  {name:14}{seconds:7.2f} s  {args.slices / seconds:6.1f}/s{busy}", flush=True
                )
                each = {part: (after[part] - before[part]) * 1000 / args.slices for part in after}
                if each:
                    shown = "  ".join(f"{part} {spent:.2f}" for part, spent in each.items() if spent >= 0.005)
                    print(f"  CPU ms per slice: {shown}  together {sum(each.values()):.2f}", flush=True)
        service, workers = memory(clinical.service_pid)
        print(f"memory: service {service} MB, workers {workers} MB")
    if args.only:
        return 0
    first = best["copy"] / best["without_copy"]
    second = best["anonymize"] / best["with_copy"]
    loss = 1 - best["ingest_plain"] / best["ingest_plugin"]
    more = best["copy_and_store"] / best["with_copy"]
    alone = best["anonymize"] / best["without_copy"]
    print(f"without research copy: {first:.2f} x a plain copy (goal {GOAL}), {alone:.2f} x (b)")
    print(f"with research copy: {more:.2f} x a copy that stores once more (goal {GOAL}), {second:.2f} x (b)")
    print(f"(b) is Orthanc's anonymize and store (goal {GOAL_ORTHANC:g}); ingest: {loss:+.1%} (goal {GOAL_INGEST:.0%})")
    return 0 if first >= WITHOUT_COPY and second >= WITH_COPY and loss < INGEST else 1


if __name__ == "__main__":
    sys.exit(main())
