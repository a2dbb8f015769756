"""What 1, 2 and 4 services on one PostgreSQL carry on this machine, and where the time goes.

    .venv/bin/python benchmarks/scale.py [--slices N] [--services N,N,…] [--workers N]

One clinical Orthanc, one research Orthanc, one PostgreSQL that is durable (fsync), and so many services with a worker
each, all on this machine. A study of CT slices is stored over four connections; the clock runs from the first slice
until the ledger has all of them confirmed. Beside the rate it tells the milliseconds of processor that each part spent
per slice, which say what becomes the bound once the parts have machines of their own, and what a slice costs the
database: commits and bytes of its log. Nothing is asserted; the summary is in the last three lines.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "plugin")]

from tests import builders  # noqa: E402
from tests.objects.base import origin  # noqa: E402
from tests.objects.images import ct  # noqa: E402
from tests.orthancs import clinical_orthanc, research_orthanc, until  # noqa: E402
from tests.postgres import Postgres, postgres  # noqa: E402
from tests.services import Cluster, cluster  # noqa: E402

CONNECTIONS = 4
SERIES = 8
TICK = os.sysconf("SC_CLK_TCK")
PARTS = ("services", "workers", "PostgreSQL", "clinical", "research")


def processes() -> dict[int, tuple[int, float]]:
    """Process id → its parent and the seconds of processor that it has spent, its dead children's too."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[int(path.parent.name)] = (int(words[1]), sum(int(word) for word in words[11:15]) / TICK)
    return found


def spent(root: int, table: dict[int, tuple[int, float]], below: bool = True) -> float:
    """Seconds that a process has spent; with `below` those of its descendants too."""
    seconds = table[root][1] if root in table else 0.0
    if below:
        seconds += sum(spent(pid, table) for pid, (parent, _) in table.items() if parent == root)
    return seconds


def processor(made: Cluster, server: Postgres) -> dict[str, float]:
    """Seconds of processor that each part has spent by now."""
    table = processes()
    services = [one.process.pid for one in made.services if one.process is not None]
    mains = sum(spent(pid, table, below=False) for pid in services)
    return {
        "services": mains,
        "workers": sum(spent(pid, table) for pid in services) - mains,
        "PostgreSQL": spent(server.pid, table),
        "clinical": spent(made.clinical.pid, table),
        "research": spent(made.peer.pid, table),
    }


def database(made: Cluster) -> tuple[int, int]:
    """How many transactions PostgreSQL has committed, and how many bytes of log it has written."""
    with made.store.engine.connect() as conn:
        commits = conn.execute(
            sa.text("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        ).scalar_one()
        return int(commits), int(conn.execute(sa.text("SELECT pg_current_wal_lsn() - '0/0'")).scalar_one())


def slices(number: int, patient: int) -> list[bytes]:
    """Files of one study in some series."""
    return [
        builders.to_bytes(ct(origin(patient, 1, 1 + place % SERIES, 1 + place // SERIES))) for place in range(number)
    ]


def measure(folder: Path, server: Postgres, number: int, count: int, workers: int) -> dict[str, float]:
    """One round with so many services."""
    with (
        research_orthanc(folder / "r") as peer,
        clinical_orthanc(folder / "c", {"research": peer}, plugin=False) as clinical,
        cluster(folder / "s", server, clinical, peer) as made,
    ):
        files = slices(count, number)
        for place in range(number):
            made.add(f"s{place}", Workers=workers).start()
        until(lambda: all(one.health()["Workers"]["Alive"] == workers for one in made.services), 60, "the workers")
        before, wrote = processor(made, server), database(made)
        began = time.monotonic()
        with ThreadPoolExecutor(CONNECTIONS) as senders:
            list(senders.map(clinical.store, files))
        stored = time.monotonic() - began
        made.settled(count, 600)
        seconds = time.monotonic() - began
        after, written = processor(made, server), database(made)
        assert made.states()["confirmed"] == count
        cost = {part: 1000 * (after[part] - before[part]) / count for part in PARTS}
        return {
            "seconds": seconds,
            "stored": stored,
            "rate": count / seconds,
            **cost,
            "commits": (written[0] - wrote[0]) / count,
            "log": (written[1] - wrote[1]) / count,
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--slices", type=int, default=400, metavar="N", help="instances of a round (%(default)s)")
    parser.add_argument("--services", default="1,2,4", metavar="N,N", help="services of each round (%(default)s)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="workers of each service (%(default)s)")
    args = parser.parse_args()
    numbers = [int(word) for word in args.services.split(",")]
    results: dict[int, dict[str, float]] = {}
    columns = ("seconds", "rate", *PARTS, "commits", "log")
    titles = ("seconds", "slices/s", *(f"{part} ms" for part in PARTS), "commits", "log bytes")
    print(f"{args.slices} CT slices, {args.workers} worker(s) a service, {os.cpu_count()} cores; per slice:")
    print(f"{'services':>9}" + "".join(f"{title:>15}" for title in titles))
    with tempfile.TemporaryDirectory(prefix="deid-scale-") as folder, postgres(durable=True) as server:
        for number in numbers:
            one = results[number] = measure(Path(folder) / str(number), server, number, args.slices, args.workers)
            print(f"{number:>9}" + "".join(f"{one[name]:>15.2f}" for name in columns), flush=True)
    first, last = results[numbers[0]], results[numbers[-1]]
    whole = sum(last[part] for part in PARTS)
    shared = {part: last[part] for part in ("PostgreSQL", "clinical", "research")}
    bound = max(shared, key=lambda part: shared[part])
    more = whole / sum(first[part] for part in PARTS)
    print(
        f"from {numbers[0]} to {numbers[-1]} services on the same {os.cpu_count()} cores: "
        f"{last['rate'] / first['rate']:.2f} × the rate, {more:.2f} × the processor for a slice"
    )
    print(
        "processor of a slice: "
        + ", ".join(f"{part} {last[part]:.1f} ms ({100 * last[part] / whole:.0f} %)" for part in PARTS)
    )
    print(
        f"with machines enough for services and workers, {bound} is the first bound: {1000 / shared[bound]:.0f} "
        f"slices/s for each of its cores; PostgreSQL {1000 / max(shared['PostgreSQL'], 0.01):.0f}"
    )


if __name__ == "__main__":
    main()
