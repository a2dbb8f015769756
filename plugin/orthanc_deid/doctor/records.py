"""The doctor's look at the database and the key: sound, of this version, of this key, and what waits in it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from orthanc_deid.doctor.found import ERROR, OK, WARNING, Finding, Patient
from orthanc_deid.errors import KeyFileError
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.store import counting, deliveries, ledger
from orthanc_deid.store.database import alembic_config, postgres_engine
from orthanc_deid.store.schema import ledger as rows
from orthanc_deid.store.schema import projects

QUICK_BYTES = 2 << 30
"""A larger file is read whole only when asked for."""
OLD_SECONDS = 86400.0
AHEAD_SECONDS = 60.0
NEWEST = 1000


def database(patient: Patient) -> Iterator[Finding]:
    """Look at the database, without writing a byte."""
    target = patient.config.database
    path = target if isinstance(target, Path) else None
    if path is not None and not path.exists():
        yield Finding(WARNING, "database", f"{path} is not there yet: the first start makes it")
        return
    name = str(path) if path is not None else "the PostgreSQL database"
    engine = _engine(target, patient.config.database_password_file)
    try:
        with engine.connect() as conn:
            yield from _tables(patient, conn, name, path)
    except (sa.exc.SQLAlchemyError, ImportError, OSError) as error:
        yield Finding(ERROR, "database", f"{name} cannot be read ({type(error).__name__})")
    finally:
        engine.dispose()


def _engine(target: Path | str, password_file: Path | None) -> sa.Engine:
    if isinstance(target, Path):
        uri = f"{target.absolute().as_uri()}?mode=ro"
        return sa.create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(uri, uri=True, timeout=15), poolclass=sa.pool.NullPool
        )
    return postgres_engine(sa.make_url(target), password_file, connections=1)


def _tables(patient: Patient, conn: Connection, name: str, path: Path | None) -> Iterator[Finding]:
    revision = MigrationContext.configure(conn).get_current_revision()
    scripts = ScriptDirectory.from_config(alembic_config())
    if path is not None:
        large = path.stat().st_size > QUICK_BYTES and not patient.thorough
        sound = large or conn.exec_driver_sql("PRAGMA quick_check(1)").scalar_one() == "ok"
        if not sound:
            yield Finding(ERROR, "database", f"{path} is damaged; restore it from the backup")
            return
        how = "not read whole (--thorough does)" if large else "sound"
    else:
        how = "reachable"
    if revision == scripts.get_current_head():
        yield Finding(OK, "database", f"{name}, {how}, tables up to date (revision {revision})")
    elif revision in {script.revision for script in scripts.walk_revisions()}:
        detail = "the tables are those of an older version; the next start brings them up to date"
        yield Finding(WARNING, "database", detail)
        return
    else:
        yield Finding(ERROR, "database", "a newer version of orthanc-deid made the tables; install that one")
        return
    newest = sa.select(rows.c.updated).order_by(rows.c.id.desc()).limit(NEWEST).subquery()
    last = conn.execute(sa.select(sa.func.max(newest.c.updated))).scalar_one()
    if last is not None and last > time.time() + AHEAD_SECONDS:
        yield Finding(ERROR, "clock", "the last entry of the ledger lies in the future: the machine's clock went back")
    yield from _key(patient, conn)
    yield from _waiting(patient, conn)
    if patient.thorough:
        if counting.counted(conn) == counting.recount(conn):
            yield Finding(OK, "counters", "what the counters say is what the rows say")
        else:
            detail = "the counters differ from the rows: metrics and lists are wrong, the work is not; report it"
            yield Finding(ERROR, "counters", detail)


def _key(patient: Patient, conn: Connection) -> Iterator[Finding]:
    """Compare the key file with the one that each project was begun with."""
    try:
        master = MasterKey.open(patient.config.key_file, create=False)
    except KeyFileError:
        return  # told by the check of the file
    wrong = []
    for row in conn.execute(sa.select(projects).order_by(projects.c.project)):
        try:
            same = master.fingerprint(row.key_id) == row.key_fingerprint
        except KeyFileError:
            same = False
        if not same:
            wrong.append(row.project)
    if wrong:
        detail = f"is not the one that {', '.join(wrong)} began with: the service will not start; restore the backup"
        yield Finding(ERROR, "key of the database", detail)
    else:
        yield Finding(OK, "key of the database", "the key file is the one that the database was made with")


def _waiting(patient: Patient, conn: Connection) -> Iterator[Finding]:
    """Say how old the backlog is, what is held for which reason, and what no destination took."""
    now = time.time()
    counts, reasons, sends = ledger.counts(conn), ledger.reasons(conn), deliveries.counts(conn)
    for project in sorted(counts.keys() | patient.config.projects.keys()):
        states = counts.get(project, {})
        waiting = sum(number for state, number in states.items() if state not in ledger.TERMINAL)
        oldest = ledger.oldest_unfinished(conn, project)
        age = 0.0 if oldest is None else now - oldest
        detail = f"{sum(states.values())} instances, {waiting} on their way"
        if waiting:
            detail += f", the oldest for {age / 3600:.1f} h"
        if project not in patient.config.projects:
            level = WARNING if waiting else OK
            detail += "; the project is not configured any more" + (", so nobody works on them" if waiting else "")
        else:
            level = WARNING if age > OLD_SECONDS else OK
        yield Finding(level, f"ledger of {project}", detail)
        if parked := reasons.get(project):
            listed = ", ".join(f"{number} {reason}" for reason, number in sorted(parked.items()))
            yield Finding(WARNING, f"held of {project}", f"{listed}: see /deid/quarantine")
        for destination, fates in sorted(sends.get(project, {}).items()):
            stuck = {state: fates[state] for state in ("refused", "conflict") if fates.get(state)}
            if stuck:
                listed = ", ".join(f"{number} {state}" for state, number in stuck.items())
                yield Finding(WARNING, f"{destination} of {project}", f"{listed}: see docs/operations.md")
