"""How much of the time of a batch the ledger takes: queue, claim and finish 10,000 instances in batches of 300.

Beside it, in the same run and on the same disk, sqlite3 itself writing as many rows in as many transactions: the floor
of what any ledger with these guarantees (WAL, synchronous=FULL) costs. Nothing is asserted: it prints rates and the
ratio, the summary in the last three lines.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "plugin"), str(HERE)]

from orthanc_deid.store import Store, deliveries, ledger  # noqa: E402
from orthanc_deid.store.rows import Sent  # noqa: E402

from tests.ledgers import PEER, PROJECT, VAULT, ready, source  # noqa: E402

ROWS = 10_000
BATCH = 300
ROUNDS = 3


def batches() -> list[range]:
    """Cut the instances into batches, as a CT series brings them."""
    return [range(first, min(first + BATCH, ROWS)) for first in range(0, ROWS, BATCH)]


def ours(path: Path) -> dict[str, float]:
    """Take the instances through the ledger; return the seconds of each step."""
    store = Store.open(path)
    sources = [
        source(f"i{number}", series=f"s{number // BATCH}", study=f"1.{number // BATCH}") for number in range(ROWS)
    ]
    seconds = dict.fromkeys(("add", "claim", "finish", "release", "send"), 0.0)
    for now, batch in enumerate(batches()):
        with timed(seconds, "add"), store.begin() as conn:
            ledger.add_many(conn, PROJECT, [sources[number] for number in batch], now)
        with timed(seconds, "claim"), store.begin() as conn:
            work = ledger.claim(conn, PROJECT, VAULT.index("series", f"s{now}"), BATCH, "benchmark", now)
        outcomes = [ready(item.id, f"i{number}", study=f"1.{now}") for item, number in zip(work, batch, strict=True)]
        with timed(seconds, "finish"), store.begin() as conn:
            ledger.finish_many(conn, PROJECT, outcomes, now)
        with timed(seconds, "release"), store.begin() as conn:
            ledger.release_rows(conn, [item.id for item in work], [PEER], now)
        with timed(seconds, "send"):
            with store.begin() as conn:
                sends = deliveries.claim(conn, PROJECT, PEER, BATCH, "benchmark", now)
            with store.begin() as conn:
                closed = deliveries.finish_many(conn, [Sent(item.id, "confirmed") for item in sends], now)
        if len(closed) != len(batch):
            raise SystemExit("the ledger lost rows")
    store.close()
    return seconds


class timed:
    """Adds the wall time of a block to an entry."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self.seconds, self.name = seconds, name

    def __enter__(self) -> None:
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self.name] += time.perf_counter() - self.start


def floor(path: Path) -> float:
    """Insert and update as many rows with sqlite3 alone, one transaction for each of add, claim and finish."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE ledger (id INTEGER PRIMARY KEY, source TEXT, sealed BLOB, state TEXT, out TEXT)")
    connection.execute("CREATE UNIQUE INDEX by_source ON ledger (source)")
    connection.execute("CREATE INDEX by_state ON ledger (state)")
    start = time.perf_counter()
    for batch in batches():
        for statement, rows in (
            ("INSERT INTO ledger VALUES (?, ?, ?, 'queued', NULL)", [(n + 1, f"{n:032}", bytes(400)) for n in batch]),
            ("UPDATE ledger SET state = 'working' WHERE id = ?", [(n + 1,) for n in batch]),
            ("UPDATE ledger SET state = 'ready', out = ? WHERE id = ?", [("x" * 500, n + 1) for n in batch]),
        ):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, rows)
            connection.execute("COMMIT")
    seconds = time.perf_counter() - start
    connection.close()
    return seconds


def main() -> None:
    """Interleave the rounds and print the best of each."""
    best: dict[str, float] = {}
    lowest = float("inf")
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            seconds = ours(Path(folder) / "deid.sqlite3")
            lowest = min(lowest, floor(Path(folder) / "floor.sqlite3"))
        best = {name: min(best.get(name, value), value) for name, value in seconds.items()}
        print(f"round {number + 1}: " + ", ".join(f"{name} {ROWS / value:,.0f}/s" for name, value in seconds.items()))
    core = best["add"] + best["claim"] + best["finish"]
    whole = sum(best.values())
    print(f"add, claim and finish: {ROWS / core:,.0f} instances/s, {core / ROWS * 1e6:.0f} µs each")
    print(f"with release and delivery: {ROWS / whole:,.0f} instances/s, {whole / ROWS * 1e6:.0f} µs each")
    print(f"sqlite3 alone, add, claim and finish: {ROWS / lowest:,.0f} instances/s; ratio {core / lowest:.1f}")


if __name__ == "__main__":
    main()
