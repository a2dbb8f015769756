"""What the ledger costs at size: load N million instances, and time what the product asks, against one million.

    benchmarks/ledger.py --millions 50                     two SQLite files in a temporary folder
    benchmarks/ledger.py --millions 10 --database postgresql+psycopg://user@host/scratch

The rows are made in the database itself, before its indexes: 300 instances in a series, 3 series in a study, 2 studies
of a subject, almost all confirmed, one in 500 held, and at the end a backlog of some ten thousand in every other state.
Then every query of the pipeline and of the pages runs many times, each time about other rows. It prints a table, sizes
per instance, and in the last three lines the worst ratio of claim, of lookup and of report; the exit status is 1 if one
of them is above 2. `--keep FOLDER` leaves the databases, and asks the large one again; the small one is made anew,
since pages that many runs have inserted into are half empty. What every arrival goes through (sources, outputs, what
was sent) is read first, as it is in the page cache of a service that has run for a while; with `--cold` it is not. A
database given by URL is emptied first.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(HERE / "plugin"), str(HERE)]

import sqlalchemy as sa  # noqa: E402
from orthanc_deid.store import (  # noqa: E402
    Store,
    counting,
    deliveries,
    job_items,
    jobs,
    knowledge,
    ledger,
    studies,
    subjects,
)
from orthanc_deid.store.rows import JobRow, Sent  # noqa: E402
from orthanc_deid.store.schema import ledger as rows  # noqa: E402
from orthanc_deid.store.schema import outputs  # noqa: E402
from orthanc_deid.store.schema import sent as sent_bytes  # noqa: E402

from tests.ledgers import KEYS, PEER, PROJECT, VAULT, ready, source  # noqa: E402

SERIES, PER_STUDY, PER_SUBJECT = 300, 3, 6
BATCH = 300
ROUNDS = 25
GOAL = 2.0
JOB = "12345678-1234-4234-8234-123456789abc"
GOALS = {
    "claim": ("claim 300 of a series",),
    "lookup": ("add 300 new", "add 300 known", "reconcile a page of 1,000"),
    "report": ("counts, reasons, deliveries, late", "oldest, throughput"),
}


# Loading


class Dialect:
    """How each database makes random bytes, and what is taken away while rows are loaded."""

    def __init__(self, conn: sa.Connection) -> None:
        self.sqlite = conn.dialect.name == "sqlite"

    def random(self, length: int, form: int = 1) -> str:
        """An expression for a packed value of `length` random bytes."""
        if self.sqlite:
            return f"CAST(x'{form:02x}' || randomblob({length}) AS BLOB)"
        pieces = " || ".join(["uuid_send(gen_random_uuid())"] * (-(-length // 16)))
        return f"'\\x{form:02x}'::bytea || substring({pieces} FROM 1 FOR {length})"

    def numbers(self, name: str, count: int) -> str:
        """A query for the numbers 0 to count - 1, as column n."""
        if self.sqlite:
            return f"WITH RECURSIVE {name}(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM {name} WHERE n < {count - 1})"
        return f"WITH {name}(n) AS (SELECT generate_series(0, {count - 1}))"


def load(store: Store, number: int, delivered: int) -> None:
    """Fill an empty ledger with `number` instances; outputs, deliveries and sent have the last `delivered` of them."""
    with store.engine.connect() as conn:
        conn = conn.execution_options(isolation_level="AUTOCOMMIT") if conn.dialect.name != "sqlite" else conn
        dialect = Dialect(conn)
        run = conn.exec_driver_sql
        if dialect.sqlite:
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000", "foreign_keys = OFF"):
                conn.connection.driver_connection.execute(f"PRAGMA {pragma}")
        else:
            run("SET synchronous_commit = off")
            run("SET maintenance_work_mem = '1GB'")
            run("SET work_mem = '256MB'")
        back = _strip(run, dialect)
        _fill(run, dialect, number, number - delivered)
        for statement in back:
            began = time.monotonic()
            run(statement)
            log(f"  {time.monotonic() - began:6.1f} s {' '.join(statement.split())[:90]}")
        if dialect.sqlite:
            conn.commit()
            conn.connection.driver_connection.execute("PRAGMA journal_mode = WAL")
            conn.connection.driver_connection.execute("PRAGMA cache_size = -2000")
            conn.invalidate()  # this connection's settings end with it
        else:
            run("VACUUM ANALYZE")
    began = time.monotonic()
    with store.begin() as conn:
        counting.fill(conn)
    log(f"  {time.monotonic() - began:6.1f} s counters filled, as after a migration")


def _strip(run: Callable[[str], Any], dialect: Dialect) -> list[str]:
    """Take indexes, keys and triggers away; returns the statements that make them again."""
    back = []
    if dialect.sqlite:
        for kind, name, sql in run(
            "SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL"
        ).fetchall():
            if kind == "trigger" or " WHERE " not in sql:  # an index of few rows costs nothing, and a look at all later
                run(f"DROP {kind} {name}")
                back.append(sql)
        # The unique constraint becomes an index by itself, which is the same tree, so that it can be made at the end.
        (made,) = run("SELECT sql FROM sqlite_master WHERE name = 'ledger'").fetchone()
        unique = "CONSTRAINT uq_ledger_project_source_index_source_digest UNIQUE (project, source_index, source_digest)"
        assert unique in made
        small = run("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name = 'ledger'")
        partial = [sql for (sql,) in small.fetchall()]
        run("DROP TABLE ledger")
        run(made.replace(unique, "CHECK (true)"))
        for sql in partial:
            run(sql)
        return ["CREATE UNIQUE INDEX uq_ledger ON ledger (project, source_index, source_digest)", *back]
    for table in ("ledger", "outputs", "deliveries", "sent", "studies", "subjects", "subject_values", "job_items"):
        run(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        back.append(f"ALTER TABLE {table} ENABLE TRIGGER ALL")
    own = "SELECT conindid FROM pg_constraint WHERE conindid <> 0"
    for name, sql in run(
        "SELECT c.relname, pg_get_indexdef(c.oid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " JOIN pg_class t ON t.oid = i.indrelid"
        " WHERE t.relname IN ('ledger', 'deliveries', 'studies', 'job_items') AND i.indpred IS NULL"
        f" AND c.oid NOT IN ({own})"
    ).fetchall():
        run(f"DROP INDEX {name}")
        back.insert(0, sql)
    for table, name, sql in run(
        "SELECT t.relname, n.conname, pg_get_constraintdef(n.oid) FROM pg_constraint n JOIN pg_class t"
        " ON t.oid = n.conrelid WHERE t.relname IN ('ledger', 'outputs', 'sent', 'deliveries')"
        " AND n.contype IN ('p', 'u') AND n.conname NOT IN ('pk_ledger')"
    ).fetchall():
        run(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        back.insert(0, f"ALTER TABLE {table} ADD CONSTRAINT {name} {sql}")
    return back


def _fill(run: Callable[[str], Any], dialect: Dialect, number: int, first: int) -> None:
    series = number // SERIES
    bytes_, text = ("BLOB", "TEXT") if dialect.sqlite else ("bytea", "text")
    made = [
        ("subject", series // PER_SUBJECT + 1, f"k INTEGER PRIMARY KEY, ix {bytes_}, pseudonym {text}"),
        ("study", series // PER_STUDY + 1, f"k INTEGER PRIMARY KEY, ix {bytes_}, uid {bytes_}"),
        ("series", series, f"k INTEGER PRIMARY KEY, ix {bytes_}, uid {bytes_}"),
    ]
    for name, count, columns in made:
        run(f"CREATE TEMP TABLE b_{name} ({columns})")
        third = "'P' || (1000000000 + n)" if name == "subject" else dialect.random(16, 2)
        run(f"INSERT INTO b_{name} {dialect.numbers('c', count)} SELECT n, {dialect.random(16)}, {third} FROM c")
    run("CREATE TEMP TABLE b_instance (i INTEGER PRIMARY KEY)")
    run(f"INSERT INTO b_instance {dialect.numbers('c', SERIES)} SELECT n FROM c")
    project = "CASE WHEN s.k / 3 - s.k / 15 * 5 = 4 THEN 'brain' ELSE 'lung' END"
    of_study = project.replace("s.k / 3 - s.k / 15", "t.k - t.k / 5")
    # The last series are on their way: 12 queued, 1 with a worker, 3 ready, 6 released and not delivered yet.
    last = series - 1
    state = (
        f"CASE WHEN s.k > {last - 12} THEN 'queued' WHEN s.k = {last - 12} THEN 'working'"
        f" WHEN s.k > {last - 16} THEN 'ready' WHEN s.k > {last - 22} THEN 'released'"
        " WHEN i.i = s.k - s.k / 500 * 500 THEN 'quarantined' ELSE 'confirmed' END"
    )
    out = f"s.k <= {last - 13} AND NOT (i.i = s.k - s.k / 500 * 500 AND s.k <= {last - 22})"
    time_ = "1700000000.0 + s.k * 3"

    def given(value: str) -> str:
        return f"CASE WHEN {out} THEN {value} END"

    values = {
        "project": project,
        "source_index": dialect.random(16),
        "source_digest": dialect.random(16),
        "source_version": dialect.random(8),
        "source_sealed": dialect.random(72),
        "series_index": "s.ix",
        "study_index": "t.ix",
        "subject_index": given("p.ix"),
        "state": state,
        "reason": f"CASE WHEN i.i = s.k - s.k / 500 * 500 AND s.k <= {last - 22} THEN 'pixels-not-cleaned' END",
        "out_patient": given("p.pseudonym"),
        "out_study": given("t.uid"),
        "out_series": given("s.uid"),
        "out_sop": given(dialect.random(16, 2)),
        "out_orthanc_id": given(dialect.random(20, 3)),
        "out_digest": given(dialect.random(32)),
        "out_size": given("530000"),
        "plan_digest": given("x'01' || zeroblob(32)" if dialect.sqlite else f"'\\x01{'00' * 32}'::bytea"),
        "known_revision": given("1"),
        "attempt": "1",
        "push": "true",
        "created": time_,
        "updated": f"{time_} + 40",
        "confirmed": f"CASE WHEN s.k <= {last - 22} AND {out} THEN {time_} + 40 END",
    }
    steps = [
        f"INSERT INTO ledger ({', '.join(values)}) SELECT {', '.join(values.values())}"
        " FROM b_series s JOIN b_study t ON t.k = s.k / 3 JOIN b_subject p ON p.k = s.k / 6 CROSS JOIN b_instance i"
        " ORDER BY s.k, i.i",
        "INSERT INTO studies (project, study_index, study_sealed, subject_index, out_patient, out_study, last_arrival,"
        f" state) SELECT {of_study}, t.ix, {dialect.random(90)}, p.ix, p.pseudonym, t.uid,"
        " 1700000000.0 + t.k * 9, 'released' FROM b_study t JOIN b_subject p ON p.k = t.k / 2",
        "INSERT INTO subjects (project, subject_index, pseudonym, sealed, revision, first_seen)"
        f" SELECT j.project, p.ix, p.pseudonym, {dialect.random(60)}, 1, 1700000000.0 + p.k * 18"
        " FROM b_subject p CROSS JOIN (SELECT 'lung' AS project UNION ALL SELECT 'brain') j",
        "INSERT INTO subject_values (project, subject_index, value_index, sealed, revision)"
        f" SELECT 'lung', p.ix, {dialect.random(16)}, {dialect.random(50)}, 1 FROM b_subject p"
        " CROSS JOIN b_instance i WHERE i.i < 30 ORDER BY p.ix",
        "INSERT INTO outputs SELECT project, out_sop, source_index FROM ledger"
        f" WHERE id > {first} AND out_sop IS NOT NULL ORDER BY project, out_sop",
        "INSERT INTO deliveries (ledger_id, destination, project, out_study, state, sent_digest, attempts, next_try,"
        f" updated) SELECT id, '{PEER}', project, out_study, CASE WHEN state = 'released' THEN 'pending' ELSE"
        " 'confirmed' END, CASE WHEN state = 'confirmed' THEN out_digest END, 1, updated, updated FROM ledger"
        f" WHERE id > {first} AND state IN ('confirmed', 'released') ORDER BY id",
        f"INSERT INTO sent SELECT project, '{PEER}', out_sop, out_digest, 1 FROM ledger"
        f" WHERE id > {first} AND state = 'confirmed' ORDER BY project, out_sop",
        f"INSERT INTO job_items (job_id, ledger_id) SELECT '{JOB}', id FROM ledger WHERE id > {number - 900_000}"
        " AND project = 'lung'",
    ]
    for statement in steps:
        began = time.monotonic()
        run(statement)
        log(f"  {time.monotonic() - began:6.1f} s {' '.join(statement.split())[:60]}")


# Asking


class Asked:
    """Times of each question, by its name."""

    def __init__(self, store: Store, number: int) -> None:
        self.store = store
        self.number = number
        self.times: dict[str, list[float]] = {}
        self.random = random.Random(7)

    def time(self, name: str, work: Callable[[Any], Any], *, write: bool = False) -> Any:
        """Run one question in a transaction of its own."""
        began = time.perf_counter()
        with (self.store.begin if write else self.store.read)() as conn:
            answer = work(conn)
        self.times.setdefault(name, []).append(time.perf_counter() - began)
        return answer

    def some_series(self) -> list[Any]:
        """The rows of a series somewhere in the ledger."""
        first = self.random.randrange(self.number // SERIES - 40) * SERIES + 1
        with self.store.read() as conn:
            columns = (rows.c.project, rows.c.source_index, rows.c.source_digest, rows.c.subject_index)
            query = sa.select(*columns).where(rows.c.id >= first, rows.c.id < first + SERIES)
            return list(conn.execute(query))

    def arrivals(self, lap: int) -> None:
        """Take a new series of 300 through the whole way."""
        name = f"{self.number}-{lap}-{os.getpid()}"
        now = time.time()
        new = [source(f"{name}-{n}", series=f"s{name}", study=f"1.{lap}") for n in range(BATCH)]
        index = VAULT.index("series", f"s{name}")
        self.time("add 300 new", lambda conn: ledger.add_many(conn, PROJECT, new, now), write=True)
        work = self.time(
            "claim 300 of a series", lambda conn: ledger.claim(conn, PROJECT, index, BATCH, "b", now), write=True
        )
        done = [ready(one.id, f"{name}-{n}", study=f"1.{lap}") for n, one in enumerate(work)]
        self.time("finish 300", lambda conn: ledger.finish_many(conn, PROJECT, done, now), write=True)
        ids = [one.id for one in work]
        self.time("release 300", lambda conn: ledger.release_rows(conn, ids, [PEER], now), write=True)
        study = done[0].output.study if done[0].output else ""
        sends = self.time(
            "claim 300 deliveries",
            lambda conn: deliveries.claim(conn, PROJECT, PEER, BATCH, "b", now, study=study),
            write=True,
        )
        sents = [Sent(one.id, "confirmed") for one in sends]
        closed = self.time("confirm 300 deliveries", lambda conn: deliveries.finish_many(conn, sents, now), write=True)
        assert len(closed) == BATCH, "the ledger lost rows"

    def known(self) -> None:
        """Look sources up that the ledger has: they arrive again, or are compared with Orthanc."""
        series = self.some_series()
        project = series[0].project
        again = [source("x", series="s", study="1") for _ in series]
        again = [
            replace(one, instance=replace(one.instance, index=row.source_index), digest=row.source_digest)
            for one, row in zip(again, series, strict=True)
        ]
        now = time.time()
        added = self.time("add 300 known", lambda conn: ledger.add_many(conn, project, again, now), write=True)
        assert not any(row.new for row in added)
        page = [row.source_index for _ in range(4) for row in self.some_series()][:1000]
        self.time("reconcile a page of 1,000", lambda conn: ledger.known_sources(conn, project, page))
        subject = next(row.subject_index for row in series if row.subject_index)
        self.time("mark a subject's outputs late", lambda conn: knowledge.mark_late(conn, project, [subject], now))

    def reports(self) -> None:
        """What health, metrics and the pages ask."""
        now = time.time()

        def numbers(conn: Any) -> Any:
            return ledger.counts(conn), ledger.reasons(conn), deliveries.counts(conn), knowledge.late(conn)

        def ages(conn: Any) -> Any:
            return ledger.oldest_unfinished(conn), ledger.confirmed_since(conn, PROJECT, now - 300)

        after = f"2.25.{self.random.getrandbits(120)}"
        held = self.random.randrange(self.number // 2)
        self.time("counts, reasons, deliveries, late", numbers)
        self.time("oldest, throughput", ages)
        self.time("page of 100 studies", lambda conn: studies.page(conn, PROJECT, after=after))
        self.time(
            "page of 100 subjects", lambda conn: subjects.page(conn, PROJECT, after=f"P{1000000000 + held // 1800}")
        )
        self.time("page of 100 held", lambda conn: ledger.quarantine(conn, PROJECT, after=held))
        self.time(
            "page of 100 held for a reason",
            lambda conn: ledger.quarantine(conn, PROJECT, reason="pixels-not-cleaned", after=held),
        )
        self.time("number of held", lambda conn: ledger.quarantine_count(conn, PROJECT, "pixels-not-cleaned"))
        self.time(
            "studies due", lambda conn: (studies.due(conn, PROJECT, now, 60), studies.next_quiet(conn, PROJECT, 60))
        )
        self.time("deliveries due", lambda conn: (deliveries.due(conn, now), deliveries.next_due(conn, now)))
        self.time("backlog", lambda conn: ledger.backlog(conn))
        self.time("page of 1,000 unfinished", lambda conn: ledger.unfinished(conn, PROJECT))
        self.time("outputs that must be in the outbox", lambda conn: list(ledger.live_outputs(conn)))
        self.time("orphans at a start", lambda conn: ledger.requeue_orphans(conn, now, owner="nobody"))
        self.time("a job's outcomes", lambda conn: job_items.outcomes(conn, JOB))


def ask(store: Store, number: int) -> dict[str, float]:
    """Return the median milliseconds of each question."""
    asked = Asked(store, number)
    with store.begin() as conn:
        if jobs.get(conn, JOB) is None:
            jobs.create(conn, JobRow(JOB, "DeidStudy", PROJECT, "Running", 0, 1.0, None, "", {}))
    for lap in range(ROUNDS):
        asked.arrivals(lap)
        asked.known()
        asked.reports()
    # The first of each finds statements that are not compiled yet.
    return {name: statistics.median(times[2:]) * 1000 for name, times in asked.times.items()}


def sizes(store: Store, number: int) -> dict[str, float]:
    """Return the bytes per instance of each table with its indexes."""
    with store.read() as conn:
        if conn.dialect.name == "sqlite":
            total = conn.exec_driver_sql("PRAGMA page_count").scalar_one() * 4096
            try:
                query = (
                    "SELECT m.tbl_name, sum(s.pgsize) FROM dbstat s JOIN sqlite_master m ON m.name = s.name GROUP BY 1"
                )
                found = {row[0]: float(row[1]) for row in conn.exec_driver_sql(query)}
            except sa.exc.OperationalError:  # built without dbstat
                found = {}
        else:
            total = conn.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()
            query = (
                "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relkind = 'r'"
                " AND relnamespace = 'public'::regnamespace"
            )
            found = {row[0]: float(row[1]) for row in conn.exec_driver_sql(query)}
    parts = {name: size / number for name, size in sorted(found.items(), key=lambda item: -item[1])[:6]}
    return {"all": total / number, **parts}


def log(text: str) -> None:
    """Say what is being done, apart from the figures."""
    print(text, file=sys.stderr, flush=True)


def _read_what_is_asked_at_random(store: Store) -> None:
    """Have in the page cache what a service that has run for a while has there: what every arrival goes through."""
    began = time.monotonic()
    with store.read() as conn:
        if conn.dialect.name != "sqlite":  # the indexes, which are asked, and not the tables, which do not fit
            conn.exec_driver_sql("SET LOCAL enable_seqscan = off")
        conn.execute(sa.select(sa.func.count()).select_from(rows).where(rows.c.source_digest != "")).scalar_one()
        for table in (outputs, sent_bytes):
            conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    log(f"  sources, outputs and what was sent read in {time.monotonic() - began:.0f} s")


def one(
    target: Path | str, number: int, delivered: int, warm: bool = True
) -> tuple[dict[str, float], dict[str, float]]:
    """Make a ledger of `number` instances and ask it everything."""
    number = number // (SERIES * PER_SUBJECT * 5) * SERIES * PER_SUBJECT * 5
    log(f"{number:,} instances")
    store = Store.open(target)
    try:
        with store.read() as conn:
            loaded = conn.execute(sa.select(sa.func.max(rows.c.id))).scalar_one() is not None
        if not loaded:
            began = time.monotonic()
            load(store, number, min(number, delivered))
            log(f"  loaded in {time.monotonic() - began:.0f} s")
        size = sizes(store, number)
        if warm:
            _read_what_is_asked_at_random(store)
        return ask(store, number), size
    finally:
        store.close()


def _emptied(url: str) -> str:
    engine = sa.create_engine(url)
    with engine.begin() as conn:
        conn.exec_driver_sql("DROP SCHEMA public CASCADE")
        conn.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()
    return url


def main() -> int:
    """Load, ask, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--millions", type=float, default=5.0, help="instances of the large ledger (%(default)s)")
    parser.add_argument(
        "--delivered", type=float, default=1e9, metavar="MILLIONS",
        help="only the newest have outputs, deliveries and sent, to spare disk (all)",
    )  # fmt: skip
    parser.add_argument("--database", help="URL of an empty PostgreSQL database, in the place of SQLite")
    parser.add_argument(
        "--keep", type=Path, help="folder for the SQLite files, which stay; the large one there is asked again"
    )
    parser.add_argument("--cold", action="store_true", help="do not read the indexes of arrivals first")
    args = parser.parse_args()
    assert KEYS
    with tempfile.TemporaryDirectory(prefix="ledger-") as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        os.environ["SQLITE_TMPDIR"] = str(folder)
        results = []
        for path in folder.glob("1000000.sqlite3*"):
            path.unlink()
        for number in (1_000_000, int(args.millions * 1_000_000)):
            target = _emptied(args.database) if args.database else folder / f"{number}.sqlite3"
            results.append(one(target, number, int(args.delivered * 1_000_000), not args.cold))
    (small, size_small), (large, size_large) = results
    print(f"{'':36} {'1 million':>12} {args.millions:>8g} million   ratio")
    ratios = {}
    for name in small:
        ratios[name] = large[name] / small[name]
        print(f"{name:36} {small[name]:>9.2f} ms {large[name]:>12.2f} ms {ratios[name]:>7.2f}")
    print("bytes an instance, tables with their indexes:")
    for name in size_large:
        print(f"  {name:34} {size_small.get(name, 0):>12.0f} {size_large[name]:>15.0f}")
    missed = False
    for goal, names in GOALS.items():
        worst = max(names, key=lambda name: ratios[name])
        missed = missed or ratios[worst] > GOAL
        print(f"{goal}: {ratios[worst]:.2f} times the time at one million ({worst}); at most {GOAL:g}")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
