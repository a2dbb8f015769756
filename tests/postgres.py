"""A PostgreSQL server of the tests' own: in a temporary folder, on a socket and a loopback port, stopped by its pid.

PostgreSQL refuses to run as root; started by root, it runs as `nobody`, in a folder that is his.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import sqlalchemy as sa

from tests.orthancs import free_port, until

_numbers = itertools.count(1)


def programs() -> Path:
    """The folder of PostgreSQL's programs, the newest version's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parent.parent.name))
    beside = shutil.which("postgres")
    if not found and not beside:
        raise AssertionError("no PostgreSQL on this machine; ./test, run as root, installs it")
    return found[-1].parent if found else Path(str(beside)).resolve().parent


class Postgres:
    """One server: started, stopped, killed and restarted by the test."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self.settings = settings
        self.log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._emptied = ""
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as_user = [
                *("/usr/bin/setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
            ]

    def make(self) -> Postgres:
        """Make the cluster: over the socket everybody on this machine is let in, over TCP with the password only."""
        word = self.folder / "password"
        word.write_text(self.password)
        word.chmod(0o644)  # the folder is closed to others
        subprocess.run(
            [
                *self._as_user,
                str(programs() / "initdb"),
                *("--pgdata", str(self.data), "--username", "deid", "--pwfile", str(word), "--no-sync"),
                *("--auth-local", "trust", "--auth-host", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8"),
            ],
            check=True,
            capture_output=True,
            cwd=self.folder,
        )
        return self

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def start(self, seconds: float = 60) -> Postgres:
        """Start and wait until it lets clients in."""
        settings = {
            "unix_socket_directories": str(self.folder),
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "max_connections": "200",
            **self.settings,
        }
        # If this process dies without any clean-up, the kernel ends the server too.
        argv = [*self._as_user, "/usr/bin/setpriv", "--pdeathsig", "QUIT", str(programs() / "postgres")]
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*argv, "-D", str(self.data), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        until(self._answers, seconds, "PostgreSQL to answer")
        return self

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"PostgreSQL ended:\n{self.log.read_text(errors='replace')[-2000:]}")
        try:
            psycopg.connect(host=str(self.folder), port=self.port, user="deid", dbname="postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it at once (SIGINT), as a crash would (SIGQUIT), or when all clients have gone (SIGTERM)."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(60)

    def kill(self) -> None:
        """End the server and whatever serves its clients with SIGKILL."""
        assert self._process is not None
        children = [
            int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == self._process.pid
        ]
        self._process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(60)
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 20, "its processes to end")

    def url(self, name: str, password: bool = False) -> str:
        """The URL of a database: over the socket, or with `password` (to be given elsewhere) over TCP."""
        if password:
            return f"postgresql://deid@127.0.0.1:{self.port}/{name}"
        return f"postgresql://deid@/{name}?host={self.folder}&port={self.port}"

    def emptied(self) -> str:
        """Return a database with all tables and nothing in them: always the same one, which is quick."""
        from orthanc_deid.store import Store
        from orthanc_deid.store.schema import metadata

        if not self._emptied:
            self._emptied = self.new()
            Store.open(self.url(self._emptied)).close()
        tables = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
        self.execute(f"TRUNCATE {tables} RESTART IDENTITY", self._emptied)
        return self._emptied

    def new(self) -> str:
        """Make a database with nothing in it; returns its name."""
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run a statement outside of a transaction."""
        engine = sa.create_engine(
            sa.make_url(self.url(database)).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
        )
        try:
            with engine.connect() as connection:
                connection.execute(sa.text(statement))
        finally:
            engine.dispose()


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


@contextlib.contextmanager
def postgres(durable: bool = False) -> Iterator[Postgres]:
    """A running server; `durable` when a crash of the machine counts, which is slower."""
    # Directly below /tmp: the path of a socket may have 107 bytes, and `nobody` may not enter root's folders.
    folder = Path(tempfile.mkdtemp(prefix="deid-pg-", dir="/tmp"))
    fast = {} if durable else {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    server = Postgres(folder, {"shared_buffers": "32MB", **fast})
    try:
        yield server.make().start()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
