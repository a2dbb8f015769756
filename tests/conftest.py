"""Fixtures for all tests: real Orthanc servers, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis  # noqa: F401  (before anything freezes the collector: what hooks into it then looks at referrers)
import pytest
from orthanc_deid.store import Store
from sqlalchemy.engine import Connection

from tests.orthancs import Orthanc, clinical_orthanc, research_orthanc
from tests.postgres import Postgres, postgres


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests of this process; each takes a database of its own."""
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """An empty database for `Store.open`: the test runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        yield tmp_path / "deid.sqlite3"
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    yield server.url(server.emptied())


@pytest.fixture
def store(database: Path | str) -> Iterator[Store]:
    """An empty ledger."""
    store = Store.open(database)
    yield store
    store.close()


@pytest.fixture
def conn(store: Store) -> Iterator[Connection]:
    """A transaction on an empty ledger."""
    with store.begin() as conn:
        yield conn


@pytest.fixture
def research(tmp_path: Path) -> Iterator[Orthanc]:
    """A running research peer."""
    with research_orthanc(tmp_path / "research") as server:
        yield server


@pytest.fixture
def clinical(tmp_path: Path, research: Orthanc) -> Iterator[Orthanc]:
    """A running clinical Orthanc with the plugin, its service ready, with the peer `research`; see `deid_section`."""
    with clinical_orthanc(tmp_path / "clinical", {"research": research}) as server:
        yield server
