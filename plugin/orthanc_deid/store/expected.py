"""Our own research copies: their Orthanc ids are written down before they are stored, so that they come in as ours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.rows import Expected
from orthanc_deid.store.schema import expected
from orthanc_deid.store.sql import insert, select_in, update_in


def add_many(conn: Connection, project: str, copies: Sequence[tuple[str, str]], now: float) -> None:
    """Expect (Orthanc id, SHA-256 of the bytes); a newer digest takes the place of an older one."""
    if not copies:
        return
    statement = insert(conn, expected)
    conn.execute(
        statement.on_conflict_do_update(index_elements=["orthanc_id"], set_={"digest": statement.excluded.digest}),
        [{"orthanc_id": name, "project": project, "digest": digest, "created": now} for name, digest in copies],
    )


def find(conn: Connection, orthanc_ids: Iterable[str]) -> dict[str, Expected]:
    """Return which of these Orthanc ids are own copies."""
    query = sa.select(expected.c.orthanc_id, expected.c.project, expected.c.digest)
    rows = select_in(conn, query, expected.c.orthanc_id, orthanc_ids)
    return {row.orthanc_id: Expected(row.project, row.digest) for row in rows}


def remove(conn: Connection, orthanc_ids: Iterable[str]) -> int:
    """Expect these no more."""
    return update_in(conn, sa.delete(expected), expected.c.orthanc_id, orthanc_ids)
