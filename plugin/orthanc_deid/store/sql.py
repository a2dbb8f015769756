"""Small helpers for statements that SQLite and PostgreSQL share.

Putting a statement together costs more than running it. Those that run for every few instances are put together once,
with EACH in the place of the values that they are about: `rows_of` and `change` run them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

T = TypeVar("T")
CHUNK = 500  # values of one IN list: far below SQLite's limit on bound values


EACH: sa.BindParameter[Any] = sa.bindparam("each", expanding=True)
"""The values that a statement is run for, as in `column.in_(EACH)`."""


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Cut into lists of at most `size`."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


def insert(conn: Connection, table: sa.Table) -> Any:
    """Return the dialect's INSERT, the one that knows ON CONFLICT."""
    return insert_for(conn.dialect.name, table)


def insert_for(dialect: str, table: sa.Table) -> Any:
    """Return the INSERT of a dialect by its name."""
    return (sqlite if dialect == "sqlite" else postgresql).insert(table)


def insert_ignore(conn: Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert the rows that are not there yet."""
    if rows:
        conn.execute(_ignoring(conn.dialect.name, table), rows)


@functools.cache
def _ignoring(dialect: str, table: sa.Table) -> Any:
    return insert_for(dialect, table).on_conflict_do_nothing()


def rows_of(conn: Connection, statement: Any, values: Iterable[Any], **more: Any) -> list[Any]:
    """Run a statement that returns rows for EACH of the values, however many; `more` are its other parameters."""
    return [row for chunk in chunks(values) for row in conn.execute(statement, {"each": chunk, **more})]


def change(conn: Connection, statement: Any, values: Iterable[Any], **more: Any) -> int:
    """Run an UPDATE or DELETE for EACH of the values; return how many rows there were."""
    return sum(conn.execute(statement, {"each": chunk, **more}).rowcount for chunk in chunks(values))


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
