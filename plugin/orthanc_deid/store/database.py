"""Opens the database: one engine, explicit transactions, migrations that two processes may start at once.

SQLite runs in WAL mode with synchronous=FULL (a commit survives a power cut); readers see a snapshot and never wait.
On PostgreSQL, several services write at the same time: a transaction that writes sees with each statement what has been
committed by then (READ COMMITTED), so what it decides upon it locks first.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection, Engine

from orthanc_deid.errors import StoreError

MIGRATIONS = Path(__file__).parent / "migrations"
_migrating = threading.Lock()  # Alembic keeps its context in globals
IDLE_SECONDS = 10
"""PostgreSQL ends a session that is idle in a transaction for so long: its locks would hold all services up."""
LOCK_SECONDS = 20
"""How long a statement waits for a lock on PostgreSQL before it fails, and is tried again by whoever needs it."""
_ADVISORY_LOCK = 0x6465_6964  # "deid": one number for all services of one PostgreSQL
_WRITERS = _ADVISORY_LOCK + 1
_ALONE = sa.text("SELECT pg_advisory_xact_lock(:n)")
_TOGETHER = sa.text("SELECT pg_advisory_xact_lock_shared(:n)")
_PLANNED = sa.text("SET LOCAL plan_cache_mode = force_custom_plan")
"""For what is asked now and then. A plan for any values, which PostgreSQL makes once a statement has run ten times, may
take a state that few rows are in for a frequent one, and read all of a large ledger. What runs for every few instances
is known to be planned well either way (benchmarks/ledger.py), and planning each row of it would cost a quarter more."""


class DatabaseGone(sa.exc.SQLAlchemyError):
    """The database's file is not there, or another one is."""


class Store:
    """The service's own tables. Thread-safe; one per process and database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._path = Path(engine.url.database) if self._sqlite and engine.url.database else None
        self._file = _identity(self._path) if self._path else None
        # SQLite lets one writer in at a time, and those that wait poll; threads of one process queue here instead.
        self._writer = threading.Lock()
        self._local = threading.local()

    @classmethod
    def open(cls, target: Path | str, busy_seconds: float = 30.0, password_file: Path | None = None) -> Store:
        """Open a database by its path (SQLite) or URL, make it if need be, and bring its tables up to date.

        `password_file` holds PostgreSQL's password; it is read again for each new connection.
        Raises StoreError: cannot be opened, damaged, or made by a newer version of this program.
        """
        url = sa.make_url(target) if isinstance(target, str) and "://" in target else None
        if url is None:
            url = sa.URL.create("sqlite", database=str(target))
        try:
            if url.get_backend_name() == "sqlite":
                engine = _sqlite_engine(url, busy_seconds)
            else:
                engine = postgres_engine(url, password_file)
            store = cls(engine)
            store._migrate()
        except (sa.exc.SQLAlchemyError, sqlite3.Error, OSError, ImportError) as error:
            # The text of a driver's error may show the password of the URL: name the kind of error only.
            raise StoreError(f"the database {_name(url)} cannot be opened ({type(error).__name__})") from None
        return store

    @property
    def engine(self) -> Engine:
        """The engine below, for tools; queries go through `begin` and `read`."""
        return self._engine

    @property
    def shared(self) -> bool:
        """Whether other services may work on the same database at the same time (PostgreSQL)."""
        return not self._sqlite

    @contextmanager
    def begin(self, *, together: bool = False) -> Iterator[Connection]:
        """Open a transaction that writes: it commits at the end, or rolls back on an exception.

        It is the only one: on PostgreSQL too, where a lock of all services sees to that. Those that come for every few
        instances may run `together`, beside each other, but not beside the others: they lock the rows that they decide
        upon themselves. Not to be nested within a thread: the inner one would wait for the outer one for ever.
        """
        if getattr(self._local, "writing", False):
            raise RuntimeError("a write transaction inside a write transaction of the same thread")
        self._local.writing = True
        try:
            if not self._sqlite:
                with self._engine.begin() as connection:
                    connection.execute(_TOGETHER if together else _ALONE, {"n": _WRITERS})
                    yield connection
                return
            # At once, not at the first write: a transaction that begins reading cannot always become a writer.
            with (
                self._writer,
                self._engine.connect() as connection,
                connection.execution_options(deid_begin="BEGIN IMMEDIATE").begin(),
            ):
                yield connection
        finally:
            self._local.writing = False

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a transaction that only reads, on one consistent state of the database."""
        with self._engine.connect() as connection:
            if not self._sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                if not self._sqlite:
                    connection.execute(_PLANNED)
                yield connection

    def size(self) -> int:
        """Return the bytes that the database takes on its disk."""
        with self.read() as conn:
            if not self._sqlite:
                return int(conn.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
            pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
            return int(pages * conn.exec_driver_sql("PRAGMA page_size").scalar_one())

    @contextmanager
    def aside(self) -> Iterator[Connection]:
        """Open a transaction on the table of the services, which waits for no other."""
        if self._sqlite:
            with self.begin() as connection:
                yield connection
            return
        with self._engine.begin() as connection:
            yield connection

    def replaced(self) -> bool:
        """Whether another file stands where the database was opened: this one is not written to any more."""
        return self._path is not None and _identity(self._path) not in (None, self._file)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _migrate(self) -> None:
        scripts = ScriptDirectory.from_config(alembic_config())
        head = scripts.get_current_head()
        with self._engine.connect() as connection:
            options = connection.execution_options(deid_begin="BEGIN IMMEDIATE")
            with options.begin():
                # Whoever comes second waits here, and then finds nothing left to do.
                if not self._sqlite:
                    connection.execute(sa.text("SET LOCAL lock_timeout = 0"))
                    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:n)"), {"n": _ADVISORY_LOCK})
                current = MigrationContext.configure(connection).get_current_revision()
                if current == head:
                    return
                known = {script.revision for script in scripts.walk_revisions()}
                if current is not None and current not in known:
                    raise StoreError(f"the database {_name(self._engine.url)} was made by a newer version")
                upgrade(connection)


def alembic_config() -> AlembicConfig:
    """Return Alembic's configuration: the scripts inside the package, no ini file."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to a revision, within the transaction that the connection is in."""
    config = alembic_config()
    config.attributes["connection"] = connection
    with _migrating:
        command.upgrade(config, revision)


def _name(url: sa.URL) -> str:
    return url.database or "" if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)


def postgres_engine(
    url: sa.URL, password_file: Path | None = None, connections: int = 12, *, bounded: bool = True
) -> Engine:
    """Return an engine for PostgreSQL with at most so many connections. Raises StoreError for another database.

    Nothing waits for ever: not for a server that is gone, not for a lock, and no lock is held by a service that was
    stopped in the middle of a transaction.
    """
    if url.get_backend_name() != "postgresql":
        raise StoreError(f"the database is neither SQLite nor PostgreSQL but {url.get_backend_name()}")
    settings = {"idle_in_transaction_session_timeout": IDLE_SECONDS * 1000, "lock_timeout": LOCK_SECONDS * 1000}
    engine = sa.create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        pool_size=max(1, connections // 3),
        max_overflow=connections - max(1, connections // 3),
        connect_args={
            "connect_timeout": 5,
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 15000,
            "application_name": "orthanc-deid",
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items() if bounded),
        },
        hide_parameters=True,
    )
    if password_file is not None:

        @sa.event.listens_for(engine, "do_connect")
        def give_password(_dialect: Any, _record: Any, _arguments: Any, parameters: dict[str, Any]) -> None:
            parameters["password"] = password_file.read_text(encoding="utf-8").strip()

    return engine


def tasks_engine(url: str, password_file: Path | None) -> Engine:
    """Return the engine of the task database in the same PostgreSQL; DBOS bounds its waits itself."""
    return postgres_engine(sa.make_url(url), password_file, connections=8, bounded=False)


def _sqlite_engine(url: sa.URL, busy_seconds: float) -> Engine:
    if sqlite3.sqlite_version_info < (3, 35):
        raise StoreError(f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed")
    if not url.database or url.database == ":memory:":
        raise StoreError("the database needs a file")
    path = Path(url.database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Made here with its mode; SQLite's own files beside it get the same one.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    engine = sa.create_engine(url, connect_args={"timeout": busy_seconds, "isolation_level": None})

    mine = _identity(path)

    # A file that was moved away can still be written to, and SQLite would make a new one in its place: what is written
    # to either is lost with the next start.
    @sa.event.listens_for(engine, "do_connect")
    def before_opening(*_: Any) -> None:
        if _identity(path) != mine:
            raise DatabaseGone

    @sa.event.listens_for(engine, "checkout")
    def before_use(*_: Any) -> None:
        if _identity(path) != mine:
            raise DatabaseGone

    @sa.event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, _record: Any) -> None:
        connection.execute(f"PRAGMA busy_timeout = {int(busy_seconds * 1000)}")
        _use_wal(connection, busy_seconds)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @sa.event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("deid_begin", "BEGIN"))

    return engine


def _identity(path: Path) -> tuple[int, int] | None:
    """Return which file stands at a path, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _use_wal(connection: sqlite3.Connection, busy_seconds: float) -> None:
    """Switch to WAL. Two processes that switch a new file at once get "locked" without SQLite's own waiting."""
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
            continue
        if mode != "wal":
            raise StoreError("the database's file system does not support SQLite's WAL mode")
        return
