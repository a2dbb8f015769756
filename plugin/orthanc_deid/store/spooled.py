"""Which files of the spool the ledger still needs. A file may be the source of rows of several projects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.rows import SOURCE_LOST, SPENT, SUPERSEDED
from orthanc_deid.store.schema import SPOOLED, ledger
from orthanc_deid.store.sql import EACH, change, rows_of

_in_the_spool = sa.text(f"ledger.{SPOOLED}")  # as the partial indexes say it
_other = ledger.alias()
_free = (
    sa.select(ledger.c.spool)
    .where(_in_the_spool, ledger.c.state.in_(sorted(SPENT)))
    .where(~sa.exists().where(_other.c.spool == ledger.c.spool, _other.c.state.not_in(sorted(SPENT))))
    .distinct()
)
_done = _free.limit(sa.bindparam("most"))
_still_done = _free.where(ledger.c.spool.in_(EACH))
_named = sa.select(ledger.c.spool).where(_in_the_spool, ledger.c.spool.in_(EACH)).distinct()
_lost = sa.select(ledger.c.spool).where(_in_the_spool, ledger.c.state == SOURCE_LOST)
_forget = sa.update(ledger).where(_in_the_spool, ledger.c.spool.in_(EACH)).values(spool=None)
_let_go = (
    sa.update(ledger)
    .where(_in_the_spool, ledger.c.spool.in_(EACH), ledger.c.state.in_(sorted(SPENT - {SUPERSEDED})))
    .values(spool=None)
)
_another = sa.update(ledger).where(_in_the_spool, ledger.c.spool.in_(EACH)).values(spool=sa.bindparam("to"))
_row = sa.select(ledger.c.spool, ledger.c.state).where(
    ledger.c.project == sa.bindparam("of_project"),
    ledger.c.source_index == sa.bindparam("of_source"),
    ledger.c.source_digest == sa.bindparam("of_digest"),
)


def done(conn: Connection, limit: int) -> list[str]:
    """Return files that no row needs any more: each of their rows has its outcome, for good."""
    return [row.spool for row in conn.execute(_done, {"most": limit})]


def named(conn: Connection, names: Iterable[str]) -> set[str]:
    """Return which of these files are the source of a row."""
    return {row.spool for row in rows_of(conn, _named, names)}


def lost(conn: Connection) -> set[str]:
    """Return files of rows that ended because they were not there."""
    return {row.spool for row in conn.execute(_lost)}


def let_go(conn: Connection, names: Iterable[str]) -> list[str]:
    """Have no row be made again from these files, and return those that may be deleted now; then `forget` them.

    What somebody has asked for again since `done` keeps its file. A superseded row keeps the name until the file is
    gone: were it taken in again after a crash, the older content would come back in the place of the newer.
    """
    free = sorted({row.spool for row in rows_of(conn, _still_done, names)})
    change(conn, _let_go, free)
    return free


def forget(conn: Connection, names: Iterable[str]) -> int:
    """Note that these files are gone."""
    return change(conn, _forget, names)


def knows(conn: Connection, project: str, instance_index: str, digest: str) -> bool:
    """Whether the ledger has a row for this content of a source."""
    return _of(conn, project, instance_index, digest) is not None


def holder(conn: Connection, project: str, instance_index: str, digest: str) -> str | None:
    """Return the file that is the source of this content's row; none where none is, or is needed any more."""
    row = _of(conn, project, instance_index, digest)
    return None if row is None or row.state in SPENT else row.spool


def rename(conn: Connection, old: str, new: str) -> int:
    """Let another file of the same content take the place of one that is gone."""
    return change(conn, _another, [old], to=new)


def _of(conn: Connection, project: str, instance_index: str, digest: str) -> Any:
    return conn.execute(_row, {"of_project": project, "of_source": instance_index, "of_digest": digest}).first()


def counts(conn: Connection) -> dict[str, int]:
    """Return how many rows whose source is in the spool there are by state."""
    query = sa.select(ledger.c.state, sa.func.count()).where(_in_the_spool).group_by(ledger.c.state)
    return {row[0]: int(row[1]) for row in conn.execute(query)}
