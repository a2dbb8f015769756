"""Whether ingest suffers while a backlog is worked off: 200 CT slices over 4 connections, into Orthanc with the plugin
and a back-fill under way, and into an equal Orthanc without the plugin.

    .venv/bin/python benchmarks/ingest.py [--rounds N] [--slices N] [--off]

Interleaved; the median of the rounds' ratios counts, since other things on the machine disturb a round and its
counterpart alike. Exits 1 when the ratio is below 0.97. `--off`: without the latency budget and niceness, to see what
they do. The peer that the back-fill goes to is on the same machine, and takes its share of the processors as well.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugin")]

from benchmarks.pipeline import CONNECTIONS, WORKERS, Slices, send  # noqa: E402
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until  # noqa: E402

LIMIT = 0.97
BACKLOG_STUDIES = 3
WARM_SECONDS = 4.0


def section(off: bool) -> dict[str, Any]:
    """A project that takes nothing as it arrives: the back-fill comes by jobs."""
    project = {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "instance"}
    quiet = {"LatencyBudget": 0, "Niceness": 0} if off else {}
    return deid_section(Workers=WORKERS, Projects={"lung": project}, **quiet)


def seconds(server: Orthanc, files: list[bytes]) -> float:
    """Send a study; return how long that took."""
    began = time.monotonic()
    send(server, files)
    return time.monotonic() - began


def left(clinical: Orthanc) -> int:
    """Return how many instances of the back-fill are not at the peer yet."""
    states = clinical.health()["Service"]["States"]
    return sum(states.get(state, 0) for state in ("queued", "working", "ready", "released"))


def main() -> int:
    """Run the rounds and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--off", action="store_true", help="without LatencyBudget and Niceness")
    args = parser.parse_args()
    slices = Slices(args.slices)
    ratios, plains, withs, worked = [], [], [], 0
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deid-benchmark-")))
        peer = stack.enter_context(research_orthanc(folder / "r"))
        plain = stack.enter_context(clinical_orthanc(folder / "p", plugin=False))
        clinical = stack.enter_context(clinical_orthanc(folder / "c", {"research": peer}, section(args.off)))
        print(f"{args.slices} CT slices of {slices.size / 1000:.0f} KB, {CONNECTIONS} connections, {WORKERS} workers")
        for number in range(1, args.rounds + 1):
            # Everything at rest, then the back-fill, then the ingest; the plain one before or after it, in turn.
            studies = [send(clinical, slices.study("backlg")) for _ in range(BACKLOG_STUDIES)]
            time.sleep(WARM_SECONDS)
            first = seconds(plain, slices.study("ingest")) if number % 2 else 0.0
            clinical.post("/deid/jobs", {"Project": "lung", "Resources": studies})
            until(lambda: clinical.health()["Service"]["Workers"]["Busy"], 30, "a back-fill under way")
            before = left(clinical)
            busy = seconds(clinical, slices.study("ingest"))
            after = left(clinical)
            stage = clinical.health()["Service"]["Flow"]["Stage"]
            until(lambda: not left(clinical), 300, "the end of the back-fill")
            time.sleep(WARM_SECONDS)
            first = first or seconds(plain, slices.study("ingest"))
            plains.append(args.slices / first)
            withs.append(args.slices / busy)
            ratios.append(withs[-1] / plains[-1])
            worked += after > 0
            print(
                f"round {number}  plain {plains[-1]:6.1f}/s  with back-fill {withs[-1]:6.1f}/s  ratio {ratios[-1]:.3f}"
                f"  (left {before} to {after}, stage {stage})",
                flush=True,
            )
    ratio = statistics.median(ratios)
    print(f"ingest: {statistics.median(plains):.1f}/s without the plugin, {statistics.median(withs):.1f}/s with it")
    print(f"the back-fill outlasted the ingest in {worked} of {args.rounds} rounds")
    print(f"clinical ingest while a back-fill is worked off: {ratio:.3f} of a plain Orthanc's (at least {LIMIT})")
    return 0 if ratio >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
