"""Services that no plugin starts: several of them on one PostgreSQL, each in a folder of its own, stopped by pid."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import requests
import sqlalchemy as sa
from orthanc_deid.store import Store
from orthanc_deid.store.rows import TERMINAL, WORKING
from orthanc_deid.store.schema import deliveries, ledger, services

from tests.flow import Row
from tests.orthancs import CHECKOUT, Orthanc, deid_section, free_port, source, until
from tests.postgres import Postgres

# The service with its own idea of the time of day.
_SHIFTED = """
import sys, time
told = time.time
time.time = lambda: told() + {shift}
from orthanc_deid.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Running:
    """One service: started, killed, paused and started again by the test."""

    def __init__(self, folder: Path, name: str, configuration: Mapping[str, Any], token: str, shift: float) -> None:
        self.folder = folder / name
        self.folder.mkdir(parents=True, mode=0o700)
        self.name = name
        self.port = free_port()
        self.log = self.folder / "service.log"
        self.token = token
        self._shift = shift
        section = {**configuration["Deid"], "DataDirectory": str(self.folder / "data")}
        section["Listen"] = {"Address": f"127.0.0.1:{self.port}", **configuration["Deid"].get("Listen", {})}
        self.configuration = self.folder / "service.json"
        self.configuration.write_text(json.dumps({**configuration, "Deid": section}))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, wait: bool = True) -> Running:
        """Start the process; with `wait` until it answers."""
        python = [source().python if source().name == "machine" else os.sys.executable]  # type: ignore[attr-defined]
        program = ["-m", "orthanc_deid"] if not self._shift else ["-c", _SHIFTED.format(shift=self._shift)]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT / "plugin")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*python, *program, "serve", "--config", str(self.configuration)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        if wait:
            until(lambda: self.health() or self.ended, 90, f"the service {self.name}")
            assert not self.ended, self.tail()
        return self

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self.process is not None and self.process.poll() is not None

    def health(self) -> dict[str, Any]:
        """What it says of itself; {} while it does not answer."""
        try:
            answer = requests.get(
                f"http://127.0.0.1:{self.port}/deid/health", headers={"X-Deid-Secret": self.token}, timeout=5
            )
        except requests.RequestException:
            return {}
        return dict(answer.json()) if answer.ok else {}

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the service and its workers."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL, its workers too, as the end of its machine would."""
        assert self.process is not None
        self.signal(signal.SIGKILL)
        self.process.wait(20)

    def stop(self) -> None:
        """Stop it as an administrator would."""
        if self.process is None:
            return
        if not self.ended:
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        self.signal(signal.SIGCONT)
        self.kill()

    def tail(self, lines: int = 30) -> str:
        """The end of what it has logged."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Cluster:
    """Services on one PostgreSQL, beside one clinical Orthanc without the plugin, with a research peer."""

    def __init__(self, folder: Path, postgres: Postgres, clinical: Orthanc, peer: Orthanc) -> None:
        self.folder = folder
        self.postgres = postgres
        self.clinical = clinical
        self.peer = peer
        self.database = postgres.new()
        self.token = secrets.token_hex(32)
        self.services: list[Running] = []
        for name, word in (("token", self.token), ("password", postgres.password)):
            (folder / name).write_text(word)
            (folder / name).chmod(0o600)
        self.key = clinical.folder / "orthanc-deid" / "master.key"
        self._store: Store | None = None

    def add(self, name: str, *, shift: float = 0.0, clinical: Orthanc | None = None, **section: Any) -> Running:
        """Make a service, not started; `shift` seconds off the others' time of day."""
        deid = {key: value for key, value in deid_section(**section).items() if key != "Python"}
        deid |= {
            "Database": self.postgres.url(self.database, password=True),
            "DatabasePasswordFile": str(self.folder / "password"),
            "KeyFile": str(self.key),
            "ServiceTokenFile": str(self.folder / "token"),
            **{key: section[key] for key in ("ServiceTokenFile",) if key in section},
            "Orthanc": {"Url": (clinical or self.clinical).url},
        }
        configuration = {"OrthancPeers": {"research": [self.peer.url + "/"]}, "Deid": deid}
        self.services.append(Running(self.folder, name, configuration, self.token, shift))
        return self.services[-1]

    def close(self) -> None:
        """Stop all services."""
        for service in self.services:
            service.stop()
        if self._store is not None:
            self._store.close()

    @property
    def store(self) -> Store:
        """The services' database, as the test reads it."""
        if self._store is None:
            self._store = Store.open(self.postgres.url(self.database))
        return self._store

    def rows(self) -> list[Row]:
        """All rows of the ledger."""
        columns = [ledger.c[name] for name in Row.__dataclass_fields__]
        with self.store.read() as conn:
            return [Row(*row) for row in conn.execute(sa.select(*columns).order_by(ledger.c.id))]

    def states(self) -> dict[str, int]:
        """State → number of rows, and of deliveries with their state in brackets."""
        found: dict[str, int] = {}
        with self.store.read() as conn:
            for table, form in ((ledger, "{}"), (deliveries, "({})")):
                query = sa.select(table.c.state, sa.func.count()).group_by(table.c.state)
                found |= {form.format(state): number for state, number in conn.execute(query)}
        return found

    def in_hand(self, one: Running) -> int:
        """How many instances a service has claimed and not finished."""
        outbox = (one.folder / "data" / "outbox" / "name").read_text().strip()
        query = sa.select(sa.func.count()).select_from(ledger.join(services, services.c.owner == ledger.c.owner))
        with self.store.read() as conn:
            count = conn.execute(query.where(services.c.outbox == outbox, ledger.c.state == WORKING)).scalar_one()
        return int(count)

    def leader(self) -> Running | None:
        """The service that says that it leads."""
        return next((one for one in self.services if not one.ended and one.health().get("Leads")), None)

    def settled(self, number: int, seconds: float = 120) -> list[Row]:
        """Wait until the ledger has exactly so many rows and each has its outcome; return them."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(sa.exc.SQLAlchemyError):  # the test has PostgreSQL stopped
                rows = self.rows()
                assert len(rows) <= number, f"{len(rows)} rows for {number} sources"
                if len(rows) == number and all(row.state in TERMINAL for row in rows):
                    return rows
            if time.monotonic() > deadline:
                tails = "\n".join(f"== {one.name}\n{one.tail(15)}" for one in self.services)
                raise AssertionError(f"waited {seconds:g} s in vain for {number} outcomes: {self.states()}\n{tails}")
            time.sleep(0.1)


@contextlib.contextmanager
def cluster(folder: Path, postgres: Postgres, clinical: Orthanc, peer: Orthanc) -> Iterator[Cluster]:
    """A cluster without services yet."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Cluster(folder, postgres, clinical, peer)
    try:
        yield made
    finally:
        made.close()
