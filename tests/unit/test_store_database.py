"""The database opens safely: made once, migrated once, closed to others; its migrations make what the code expects."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from orthanc_deid.errors import StoreError
from orthanc_deid.store import Store, ledger, meta, studies
from orthanc_deid.store import database as module
from orthanc_deid.store.database import upgrade
from orthanc_deid.store.schema import metadata

from tests.ledgers import add
from tests.postgres import Postgres


def open_and_write(path: str, name: str) -> None:
    store = Store.open(path)
    for number in range(20):
        with store.begin() as conn:
            add(conn, f"{name}-{number}")
    store.close()


def put(store: Store, key: str, value: str) -> None:
    with store.begin() as conn:
        meta.put(conn, key, value)


def test_migrations_make_the_tables_that_the_queries_know(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "deid.sqlite3")
    with store.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        made = {
            row.name: row.sql
            for row in conn.execute(sa.text("SELECT name, sql FROM sqlite_master WHERE type <> 'trigger'"))
        }
    store.close()
    plain = sa.create_engine(f"sqlite:///{tmp_path / 'plain.sqlite3'}")
    metadata.create_all(plain)
    with plain.connect() as conn:
        wanted = {row.name for row in conn.execute(sa.text("SELECT name FROM sqlite_master"))}
    plain.dispose()
    assert {name for name in made if not name.startswith(("alembic", "sqlite_autoindex_alembic"))} == wanted


def test_postgresql_gets_the_same_tables(postgres_server: Postgres) -> None:
    name = postgres_server.new()
    store = Store.open(postgres_server.url(name))
    with store.read() as conn:
        assert compare_metadata(MigrationContext.configure(conn), metadata) == []
        assert conn.execute(sa.text("SHOW transaction_isolation")).scalar() == "repeatable read"
    with store.begin() as conn:
        assert conn.execute(sa.text("SHOW transaction_isolation")).scalar() == "read committed"
        assert conn.execute(sa.text("SHOW lock_timeout")).scalar() == "20s"
    store.close()


def test_postgresql_plans_what_is_asked_now_and_then_for_its_values(postgres_server: Postgres) -> None:
    store = Store.open(postgres_server.url(postgres_server.emptied()))
    for _ in range(15):
        with store.read() as conn:
            studies.due(conn, "lung", 100.0, 60.0)
            studies.next_quiet(conn, "lung", 60.0)
    with store.read() as conn:
        planned = sa.text(
            "SELECT sum(custom_plans), sum(generic_plans) FROM pg_prepared_statements WHERE statement LIKE :what"
        )
        custom, generic = conn.execute(planned, {"what": "%ready%"}).one()
    store.close()
    assert custom > 10 and generic == 0


def test_the_password_comes_from_a_file_each_time(postgres_server: Postgres, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("wrong")
    url = postgres_server.url(postgres_server.new(), password=True)
    with pytest.raises(StoreError, match="OperationalError") as caught:
        Store.open(url, password_file=file)
    assert "wrong" not in str(caught.value)
    file.write_text(postgres_server.password + "\n")
    store = Store.open(url, password_file=file)
    assert store.shared
    assert postgres_server.password not in repr(store.engine)
    store.close()
    file.unlink()
    with pytest.raises(StoreError, match="FileNotFoundError"):
        Store.open(url, password_file=file)


def test_a_service_that_stops_within_a_transaction_does_not_hold_up_the_others(
    postgres_server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 1)
    store = Store.open(postgres_server.url(postgres_server.emptied()))
    with pytest.raises(sa.exc.SQLAlchemyError), store.begin() as stopped:
        meta.put(stopped, "key", "stopped")
        thread = threading.Thread(target=put, args=(store, "key", "other"))
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        meta.put(stopped, "another", "stopped")
    with store.read() as conn:
        assert (meta.get(conn, "key"), meta.get(conn, "another")) == ("other", None)
    store.close()


def test_a_database_of_the_first_version_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "deid.sqlite3"
    old = sa.create_engine(f"sqlite:///{path}")
    with old.begin() as conn:
        upgrade(conn, "0001")
        columns = "project, source_index, source_digest, source_sealed, series_index, series_sealed, study_index, state"
        values = "'lung', 'i', 'd', x'00', 's', x'00', 't', 'confirmed', 1.0, 1.0"
        conn.execute(sa.text(f"INSERT INTO ledger ({columns}, created, updated) VALUES ({values})"))
    old.dispose()
    store = Store.open(path)
    with store.begin() as conn:
        (row,) = ledger.find(conn, "lung", "i")
        assert (row.state, row.source_version) == ("confirmed", None)
        assert ledger.counts(conn) == {"lung": {"confirmed": 1}}
        add(conn, "new")
    store.close()


def test_what_a_job_had_queued_before_there_were_priorities_is_back_fill(tmp_path: Path) -> None:
    path = tmp_path / "deid.sqlite3"
    old = sa.create_engine(f"sqlite:///{path}")
    with old.begin() as conn:
        upgrade(conn, "0003")
        columns = "project, source_digest, source_sealed, series_index, series_sealed, study_index, created, updated"
        values = "'lung', 'd', x'00', 's', x'00', 't', 1.0, 1.0"
        for name, state, job in (("a", "queued", "NULL"), ("b", "queued", "'j'"), ("c", "confirmed", "'j'")):
            values_of = f"{values}, '{name}', '{state}', {job}"
            conn.execute(sa.text(f"INSERT INTO ledger ({columns}, source_index, state, job_id) VALUES ({values_of})"))
    old.dispose()
    store = Store.open(path)
    with store.read() as conn:
        found = conn.execute(sa.text("SELECT priority FROM ledger ORDER BY id")).scalars().all()
        assert found == [0, 10, 0]
    store.close()


def test_the_file_is_its_owners_alone_and_durable(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deid.sqlite3"
    store = Store.open(path)
    with store.begin() as conn:
        meta.put(conn, "key", "value")
        assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert conn.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert conn.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    store.close()
    assert modes == {"deid.sqlite3": 0o600, "deid.sqlite3-wal": 0o600, "deid.sqlite3-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_processes_that_open_a_new_database_at_once_all_can_write(tmp_path: Path) -> None:
    path = str(tmp_path / "deid.sqlite3")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=open_and_write, args=(path, f"p{number}")) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * 3
    store = Store.open(path)
    with store.read() as conn:
        assert ledger.counts(conn) == {"lung": {"queued": 60}}
    store.close()


def test_threads_that_write_wait_for_each_other(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "deid.sqlite3", busy_seconds=0.2)  # waiting is the lock's job, not SQLite's

    def count() -> None:
        for _ in range(25):
            with store.begin() as conn:
                meta.set_cursor(conn, meta.cursor(conn) + 1)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with store.read() as conn:
        assert meta.cursor(conn) == 200
    store.close()


def test_readers_see_one_state_and_never_wait(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "deid.sqlite3")
    with store.begin() as conn:
        meta.put(conn, "key", "old")
    with store.read() as reader:
        assert meta.get(reader, "key") == "old"
        with store.begin() as writer:
            meta.put(writer, "key", "new")
        assert meta.get(reader, "key") == "old"
    with store.read() as reader:
        assert meta.get(reader, "key") == "new"
    store.close()


def test_a_transaction_inside_another_is_an_error_instead_of_a_deadlock(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "deid.sqlite3")
    with store.begin(), pytest.raises(RuntimeError, match="inside"), store.begin():
        pass
    with store.begin() as conn:
        meta.put(conn, "key", "value")
    store.close()


def test_a_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deid.sqlite3"
    Store.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match="newer version"):
        Store.open(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deid.sqlite3"
    path.write_bytes(b"this is no database, but long enough to be looked at as one" * 99)
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(path)


@pytest.mark.parametrize(
    "target", ["sqlite://", "sqlite:///:memory:", "nodatabase://host/name", "sqlite:////dev/null/x"]
)
def test_a_database_without_a_file_is_refused(target: str) -> None:
    with pytest.raises(StoreError):
        Store.open(target)


def test_a_password_in_a_url_is_not_told() -> None:
    with pytest.raises(StoreError) as caught:
        Store.open("postgresql+psycopg://service:s3cret-77@127.0.0.1:1/deid")
    assert "s3cret-77" not in str(caught.value)
