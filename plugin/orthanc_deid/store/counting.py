"""How many there are of what, without counting: triggers keep the numbers in the transactions that change the rows.

So no statement can forget to, a transaction that is rolled back has counted nothing, and the numbers cost the same
however many rows there are. `recount` is the truth, read from the rows themselves: for tests, and for tools that load
rows with the triggers off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.rows import CONFIRMED
from orthanc_deid.store.schema import (
    deliveries,
    delivery_counts,
    event_counts,
    instance_counts,
    ledger,
)

MINUTES_KEPT = 60
"""For how long events are known by the minute."""
_REASON = sa.func.coalesce(ledger.c.reason, "")


def instances(
    conn: Connection, by: str, project: str | None = None, states: Iterable[str] | None = None
) -> dict[str, dict[str, int]]:
    """Return project → state or reason (`by`) → number of rows, of all states or of these."""
    table = instance_counts.c
    query = sa.select(table.project, table[by], sa.func.sum(table.number)).group_by(table.project, table[by])
    if project is not None:
        query = query.where(table.project == project)
    if states is not None:
        query = query.where(table.state.in_(list(states)))
    if by == "reason":
        query = query.where(table.reason != "")
    nested: dict[str, dict[str, int]] = defaultdict(dict)
    for outer, inner, number in conn.execute(query):
        if number:
            nested[outer][inner] = int(number)
    return dict(nested)


def held(conn: Connection, states: Iterable[str], project: str | None = None, reason: str | None = None) -> int:
    """Return the number of rows in these states, of one project and one reason if they are given."""
    table = instance_counts.c
    query = sa.select(sa.func.coalesce(sa.func.sum(table.number), 0)).where(table.state.in_(list(states)))
    for column, value in ((table.project, project), (table.reason, reason)):
        if value is not None:
            query = query.where(column == value)
    return int(conn.execute(query).scalar_one())


def late(conn: Connection) -> dict[str, int]:
    """Return project → number of rows that are late."""
    table = instance_counts.c
    query = sa.select(table.project, sa.func.sum(table.number)).where(table.late).group_by(table.project)
    return {row[0]: int(row[1]) for row in conn.execute(query) if row[1]}


def events(conn: Connection, since: float = 0.0) -> dict[str, dict[str, int]]:
    """Return project → state → how often rows came into it, ever or (to the minute, for an hour) since a time."""
    table = event_counts.c
    query = sa.select(table.project, table.state, sa.func.sum(table.number)).group_by(table.project, table.state)
    if since:
        query = query.where(table.minute >= int(since // 60))
    nested: dict[str, dict[str, int]] = defaultdict(dict)
    for project, state, number in conn.execute(query):
        nested[project][state] = int(number)
    return dict(nested)


def confirmed_since(conn: Connection, project: str | None, since: float) -> int:
    """Return how many rows were confirmed since the minute of a time: the throughput."""
    found = events(conn, since)
    return sum(states.get(CONFIRMED, 0) for name, states in found.items() if project in (None, name))


def sends(conn: Connection, project: str | None = None) -> dict[str, dict[str, dict[str, int]]]:
    """Return project → destination → state → number of deliveries."""
    table = delivery_counts.c
    columns = (table.project, table.destination, table.state)
    query = sa.select(*columns, sa.func.sum(table.number)).group_by(*columns)
    if project is not None:
        query = query.where(table.project == project)
    nested: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for name, destination, state, number in conn.execute(query):
        if number:
            nested[name][destination][state] = int(number)
    return {name: dict(destinations) for name, destinations in nested.items()}


def tidy(conn: Connection, now: float) -> int:
    """Put the slots of sessions and the minutes of past hours together; returns how many rows that were."""
    return sum(_together(conn, table, now) for table in (instance_counts, event_counts, delivery_counts))


def _together(conn: Connection, table: sa.Table, now: float) -> int:
    """Rows in the slots of other sessions are taken as they stand: what is locked there waits for another time."""
    key = [column.name for column in table.primary_key if column.name != "slot"]
    query = sa.select(table).with_for_update(skip_locked=True)
    old: sa.ColumnElement[bool] = table.c.slot != 0
    if table is event_counts:
        passed = sa.and_(table.c.minute > 0, table.c.minute < int(now // 60) - MINUTES_KEPT)
        old = sa.or_(old, passed)
    rows = conn.execute(query.where(old)).fetchall()
    numbers: dict[tuple[Any, ...], int] = defaultdict(int)
    for row in rows:
        values = row._mapping
        place = {name: values[name] for name in key}
        if table is event_counts and values["minute"] < int(now // 60) - MINUTES_KEPT:
            place["minute"] = 0
        numbers[tuple(place.values())] += values["number"]
        this = sa.and_(*(table.c[name] == values[name] for name in ("slot", *key)))
        conn.execute(sa.delete(table).where(this))
    for found, number in numbers.items():
        _add(conn, table, dict(zip(key, found, strict=True)), number)
    return len(rows)


def _add(conn: Connection, table: sa.Table, place: dict[str, Any], number: int) -> None:
    this = sa.and_(table.c.slot == 0, *(table.c[name] == value for name, value in place.items()))
    if not conn.execute(sa.update(table).where(this).values(number=table.c.number + number)).rowcount:
        conn.execute(sa.insert(table).values(slot=0, number=number, **place))


def recount(conn: Connection) -> dict[sa.Table, dict[tuple[Any, ...], int]]:
    """Count all rows: what the counters must say, by table, without slots. Reads everything."""
    is_late = ledger.c.late.is_not(None)
    sent = (deliveries.c.project, deliveries.c.destination, deliveries.c.state)
    queries = {
        instance_counts: sa.select(ledger.c.project, ledger.c.state, _REASON, is_late, sa.func.count()).group_by(
            ledger.c.project, ledger.c.state, _REASON, is_late
        ),
        delivery_counts: sa.select(*sent, sa.func.count()).group_by(*sent),
    }
    return {table: {tuple(row[:-1]): row[-1] for row in conn.execute(query)} for table, query in queries.items()}


def counted(conn: Connection) -> dict[sa.Table, dict[tuple[Any, ...], int]]:
    """Return what the counters say, in the form of `recount`."""
    found: dict[sa.Table, dict[tuple[Any, ...], int]] = {}
    for table in (instance_counts, delivery_counts):
        key = [column for column in table.primary_key if column.name != "slot"]
        rows = conn.execute(sa.select(*key, sa.func.sum(table.c.number)).group_by(*key))
        found[table] = {tuple(row[:-1]): int(row[-1]) for row in rows if row[-1]}
    return found


def fill(conn: Connection) -> None:
    """Set the counters to the truth, after rows were loaded with the triggers off."""
    for table in (instance_counts, event_counts, delivery_counts):
        conn.execute(sa.delete(table))
    for table, numbers in recount(conn).items():
        key = [column.name for column in table.primary_key if column.name != "slot"]
        for place, number in numbers.items():
            conn.execute(sa.insert(table).values(slot=0, number=number, **dict(zip(key, place, strict=True))))
            if table is instance_counts:
                _add(conn, event_counts, {"project": place[0], "state": place[1], "minute": 0}, number)
