"""Small helpers for statements that SQLite and PostgreSQL share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

T = TypeVar("T")
CHUNK = 500  # values of one IN list: far below SQLite's limit on bound values


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Cut into lists of at most `size`."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


def insert(conn: Connection, table: sa.Table) -> Any:
    """Return the dialect's INSERT, the one that knows ON CONFLICT."""
    return (sqlite if conn.dialect.name == "sqlite" else postgresql).insert(table)


def insert_ignore(conn: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows that are not there yet."""
    if rows:
        conn.execute(insert(conn, table).on_conflict_do_nothing(), rows)


def select_in(
    conn: Connection, query: sa.Select[Any], column: sa.ColumnElement[Any], values: Iterable[Any]
) -> list[Any]:
    """Run a query for the rows whose column is one of the values, however many."""
    found: list[Any] = []
    for chunk in chunks(values):
        found.extend(conn.execute(query.where(column.in_(chunk))))
    return found


def update_in(
    conn: Connection, statement: sa.Update | sa.Delete, column: sa.ColumnElement[Any], values: Iterable[Any]
) -> int:
    """Run an UPDATE or DELETE on the rows whose column is one of the values; return how many there were."""
    return sum(conn.execute(statement.where(column.in_(chunk))).rowcount for chunk in chunks(values))
