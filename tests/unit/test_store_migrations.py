"""A database of each earlier revision, with rows in every table and every state, comes up to date with all of them."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from orthanc_deid.store import Store, counting, deliveries, knowledge, ledger, studies, subjects
from orthanc_deid.store.compact import Compact, pack, unpack
from orthanc_deid.store.database import alembic_config, upgrade
from orthanc_deid.store.schema import metadata

from tests.postgres import Postgres

STATES = sorted(ledger.STATES)
SENDS = ("pending", "sending", "confirmed", "refused", "conflict")
NOW = 1_700_000_000.0
FIRST = ("jobs", "subjects", "studies", "ledger")
"""What others refer to."""


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A database without any table yet, unlike that of the other tests."""
    if request.param == "sqlite":
        return tmp_path / "deid.sqlite3"
    server: Postgres = request.getfixturevalue("postgres_server")
    return server.url(server.new())


def revisions() -> list[str]:
    """All revisions but the newest, oldest first."""
    scripts = ScriptDirectory.from_config(alembic_config())
    known = [script.revision for script in scripts.walk_revisions()]
    return known[:0:-1]


def name(*parts: object) -> str:
    """A digest that stands for these."""
    return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()


def value(table: str, column: str, number: int) -> Any:
    """What a column of one of these tables held; None for one that came later and has a default."""
    study, orthanc = f"2.25.{int(name('study')[:30], 16)}", name(table, number)[:40]
    words: dict[str, Any] = {
        "project": "lung", "key": "changes-cursor", "value": "17", "key_id": 1, "key_fingerprint": "f" * 16,
        "subject_index": name("subject")[:32], "study_index": name("study")[:32], "series_index": name("series")[:32],
        "source_index": name("source", number)[:32], "source_digest": name("content", number)[:32],
        "source_version": name("file", number)[:16], "value_index": name("value", number)[:32],
        "pseudonym": "ABCDEFGH", "birth_hash": name("birth")[:32], "sex_hash": None,
        "out_patient": "ABCDEFGH", "out_study": study, "out_series": "2.25.7", "out_sop": f"2.25.{10**30 + number}",
        "out_orthanc_id": "-".join(orthanc[at : at + 8] for at in range(0, 40, 8)), "out_digest": name("out", number),
        "plan_digest": name("plan"), "digest": name("out", number), "sent_digest": name("out", number),
        "orthanc_id": "-".join(orthanc[at : at + 8] for at in range(0, 40, 8)), "destination": "peer:research",
        "out_size": 3_000_000_000, "known_revision": 1, "revision": 1, "times": 2, "attempt": 1, "attempts": 1,
        "ledger_id": number + 1, "id": number + 1, "job_id": "12345678-1234-4234-8234-123456789abc", "number": 1,
        "type": "DeidStudy", "total": 1, "completed": None, "error": "", "content": "{}",
        "findings": '[{"rule": "x"}]', "tag": 0x00100010, "owner": "dead", "push": True, "late": None,
        "last_arrival": NOW, "confirmed": NOW, "reason": None, "first_seen": NOW, "next_try": NOW,
        "created": NOW + number, "updated": NOW + number, "origin": "orthanc",
    }  # fmt: skip
    if column == "state":
        states = {"ledger": STATES[number % len(STATES)], "deliveries": SENDS[number % len(SENDS)], "jobs": "Running"}
        return states.get(table, "released")
    if (table, column) == ("jobs", "id"):
        return words["job_id"]
    if (table, column) == ("ledger", "reason"):
        return "unparsable" if STATES[number] in ("quarantined", "rejected") else None
    if column.endswith("sealed"):
        return f"sealed {table} {number}".encode()
    return words.get(column)


def plain(column: sa.Column[Any]) -> Any:
    """Something of a column's type, for columns that nothing below asks for."""
    return {int: 1, float: NOW, str: "x", bytes: b"x", bool: False}[column.type.python_type]


def fill(conn: sa.Connection) -> dict[str, list[dict[str, Any]]]:
    """Put rows into every table as it was then; returns them by table."""
    tables = sa.MetaData()
    tables.reflect(conn)
    made: dict[str, list[dict[str, Any]]] = {}
    skip = {"alembic_version", "instance_counts", "event_counts", "delivery_counts"}
    order = [*FIRST, *sorted(tables.tables.keys() - skip - set(FIRST))]
    for table_name in order:
        table = tables.tables[table_name]
        number = {"ledger": len(STATES), "deliveries": len(SENDS)}.get(table_name, 1)
        rows = []
        for n in range(number):
            row = {}
            for column in table.columns:
                given = value(table_name, column.name, n)
                if given is None and (column.server_default is not None or column.nullable):
                    continue
                given = plain(column) if given is None else given
                if isinstance(column.type, (sa.LargeBinary, sa.BLOB)) and isinstance(given, str):
                    given = pack(given)
                row[column.name] = given
            rows.append(row)
        for row in rows:
            conn.execute(sa.insert(table), row)
        made[table_name] = rows
    if conn.dialect.name == "postgresql":  # as if the rows had been numbered by the database itself
        for table_name in ("ledger", "deliveries"):
            conn.exec_driver_sql(
                f"SELECT setval(pg_get_serial_sequence('{table_name}', 'id'), (SELECT max(id) FROM {table_name}))"
            )
    return made


@pytest.mark.parametrize("revision", revisions())
def test_a_database_of_an_earlier_revision_keeps_its_rows_and_works(database: Path | str, revision: str) -> None:
    url = sa.URL.create("sqlite", database=str(database)) if isinstance(database, Path) else database
    old = sa.create_engine(url)
    with old.begin() as conn:
        upgrade(conn, revision)
        assert conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == revision
        before = fill(conn)
    old.dispose()
    store = Store.open(database)
    with store.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        for table_name, rows in before.items():
            table = metadata.tables[table_name]
            now = [dict(row._mapping) for row in conn.execute(sa.select(table))]
            kept = [{key: said(table, key, given) for key, given in row.items() if key in table.c} for row in rows]
            key = [column.name for column in table.primary_key]
            now.sort(key=lambda row: [str(row[column]) for column in key])
            kept.sort(key=lambda row: [str(row[column]) for column in key])
            same = [{column: row[column] for column in was} for row, was in zip(now, kept, strict=True)]
            assert same == kept, table_name
        assert counting.counted(conn) == counting.recount(conn)
    works(store)
    store.close()


def said(table: sa.Table, column: str, given: Any) -> Any:
    """What Python sees of a value that was put in."""
    return unpack(given) if isinstance(table.c[column].type, Compact) and isinstance(given, bytes) else given


def works(store: Store) -> None:
    """The service's queries find their way, and the states go on."""
    with store.begin() as conn:
        assert ledger.counts(conn) == {"lung": dict.fromkeys(STATES, 1)}
        assert ledger.reasons(conn) == {"lung": {"unparsable": 2}}
        assert deliveries.counts(conn) == {"lung": {"peer:research": dict.fromkeys(SENDS, 1)}}
        assert len(ledger.quarantine(conn, "lung")) == 5
        assert [row.out_patient for row in studies.page(conn, "lung")] == ["ABCDEFGH"]
        assert [row.pseudonym for row in subjects.page(conn, "lung")] == ["ABCDEFGH"]
        known = ledger.known_sources(conn, "lung", [name("source", n)[:32] for n in range(len(STATES))])
        assert sum(map(len, known.values())) == len(STATES)
        assert knowledge.late(conn) == {}
        assert ledger.requeue_orphans(conn, NOW) == 1
        claimed = ledger.claim(conn, "lung", name("series")[:32], 10, "service", NOW)
        assert len(claimed) == 2 and claimed[0].instance_sealed.startswith(b"sealed ledger")
        assert ledger.give_back(conn, [work.id for work in claimed], NOW) == 2
        assert deliveries.requeue_orphans(conn, NOW) == 1
        assert deliveries.was_sent(conn, "lung", f"2.25.{10**30}", "peer:research", name("out", 0))
    with store.read() as conn:
        assert counting.counted(conn) == counting.recount(conn)


def test_there_are_earlier_revisions() -> None:
    assert revisions()[:3] == ["0001", "0002", "0003"]


KILLED = """
import os, sys
import sqlalchemy as sa
from sqlalchemy.engine import Engine
from orthanc_deid.store import Store
left = int(sys.argv[2])
@sa.event.listens_for(Engine, "before_cursor_execute")
def counted(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), 9)
Store.open(sys.argv[1]).close()
print(-left)
"""


def test_an_upgrade_that_is_killed_at_any_statement_is_done_again(database: Path | str) -> None:
    url = sa.URL.create("sqlite", database=str(database)) if isinstance(database, Path) else database
    old = sa.create_engine(url)
    with old.begin() as conn:
        upgrade(conn, revisions()[0])
        before = {table: len(rows) for table, rows in fill(conn).items()}
        states = sorted(row[0] for row in conn.exec_driver_sql("SELECT state FROM ledger"))

    def opened(statements: int) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-c", KILLED, str(database), str(statements)]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120)

    deaths = 0
    statements = 5
    while opened(statements).returncode == -signal.SIGKILL:
        deaths += 1
        with old.connect() as conn:  # of the old revision, or of the new one, and nothing between
            version = conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
            assert version in revisions() and {table: count(conn, table) for table in before} == before
        statements += 25
    assert deaths >= 4, "the upgrade has more statements than that"
    old.dispose()
    store = Store.open(database)
    with store.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        assert sorted(row[0] for row in conn.exec_driver_sql("SELECT state FROM ledger")) == states
        assert counting.counted(conn) == counting.recount(conn)
    works(store)
    store.close()


def count(conn: sa.Connection, table: str) -> int:
    """The number of rows of a table."""
    return int(conn.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())
