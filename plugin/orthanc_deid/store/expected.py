"""Our own research copies: their Orthanc ids are written down before they are stored, so that they come in as ours."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.rows import Expected
from orthanc_deid.store.schema import expected
from orthanc_deid.store.sql import EACH, insert_for, rows_of, update_in

_found = sa.select(expected.c.orthanc_id, expected.c.project, expected.c.digest).where(expected.c.orthanc_id.in_(EACH))


@functools.cache
def _add(dialect: str) -> Any:
    statement = insert_for(dialect, expected)
    return statement.on_conflict_do_update(index_elements=["orthanc_id"], set_={"digest": statement.excluded.digest})


def add_many(conn: Connection, project: str, copies: Sequence[tuple[str, str]], now: float) -> None:
    """Expect (Orthanc id, SHA-256 of the bytes); a newer digest takes the place of an older one."""
    if not copies:
        return
    conn.execute(
        _add(conn.dialect.name),
        [{"orthanc_id": name, "project": project, "digest": digest, "created": now} for name, digest in copies],
    )


def find(conn: Connection, orthanc_ids: Iterable[str]) -> dict[str, Expected]:
    """Return which of these Orthanc ids are own copies."""
    return {row.orthanc_id: Expected(row.project, row.digest) for row in rows_of(conn, _found, orthanc_ids)}


def remove(conn: Connection, orthanc_ids: Iterable[str]) -> int:
    """Expect these no more."""
    return update_in(conn, sa.delete(expected), expected.c.orthanc_id, orthanc_ids)
