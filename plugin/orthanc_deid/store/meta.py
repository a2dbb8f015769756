"""Single facts about this database, above all how far Orthanc's change log has been read."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.schema import meta
from orthanc_deid.store.sql import insert

_CURSOR = "changes-cursor"


def get(conn: Connection, key: str) -> str | None:
    """Return a fact, None where it was never put."""
    return conn.execute(sa.select(meta.c.value).where(meta.c.key == key)).scalar_one_or_none()


def put(conn: Connection, key: str, value: str) -> None:
    """Put a fact in the place of the one before."""
    statement = insert(conn, meta).values(key=key, value=value)
    conn.execute(statement.on_conflict_do_update(index_elements=["key"], set_={"value": value}))


def remove(conn: Connection, key: str) -> None:
    """Forget a fact."""
    conn.execute(sa.delete(meta).where(meta.c.key == key))


def cursor(conn: Connection) -> int:
    """Return the sequence number up to which Orthanc's change log has been read; 0 at first."""
    return int(get(conn, _CURSOR) or 0)


def set_cursor(conn: Connection, sequence: int) -> None:
    """Note how far the change log has been read, in the transaction that queued what it told."""
    put(conn, _CURSOR, str(sequence))
