"""What the ledger tells: look-ups, counts and lists. Nothing here changes a row."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store import counting
from orthanc_deid.store.rows import (
    HELD,
    OPEN,
    ORTHANC,
    QUEUED,
    READY,
    RELEASED,
    UNFINISHED,
    Backlog,
    KnownSource,
    LedgerRow,
    QuarantineRow,
    Unfinished,
)
from orthanc_deid.store.schema import among, ledger, outputs
from orthanc_deid.store.sql import select_in

_IS_OPEN = among(ledger.c.state, *OPEN)
LOOK, LOOKS = 2000, 50
"""Rows at the head of the queue that are read at a time, and how often."""


def _of(query: sa.Select[Any], project: str | None) -> sa.Select[Any]:
    return query if project is None else query.where(ledger.c.project == project)


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _row(row: Any) -> LedgerRow:
    return LedgerRow(**{**row._mapping, "findings": _json(row.findings)})


def get(conn: Connection, ledger_id: int) -> LedgerRow | None:
    """Return a row by its id."""
    row = conn.execute(sa.select(ledger).where(ledger.c.id == ledger_id)).first()
    return None if row is None else _row(row)


def find(conn: Connection, project: str, instance_index: str) -> list[LedgerRow]:
    """Return the rows of a source instance, one per content that it has had, oldest first."""
    query = sa.select(ledger).where(ledger.c.project == project, ledger.c.source_index == instance_index)
    return [_row(row) for row in conn.execute(query.order_by(ledger.c.id))]


def known_sources(conn: Connection, project: str, instance_indexes: Iterable[str]) -> dict[str, list[KnownSource]]:
    """Return source index → its contents, oldest first, for those that the ledger has, to reconcile with Orthanc."""
    columns = (ledger.c.source_index, ledger.c.source_digest, ledger.c.source_version, ledger.c.state)
    query = sa.select(*columns).where(ledger.c.project == project).order_by(ledger.c.id)
    known: dict[str, list[KnownSource]] = defaultdict(list)
    for row in select_in(conn, query, ledger.c.source_index, instance_indexes):
        known[row.source_index].append(KnownSource(row.source_digest, row.source_version, row.state))
    return dict(known)


_queue = (
    sa.select(ledger.c.id, ledger.c.project, ledger.c.series_index, ledger.c.priority)
    .where(
        among(ledger.c.state, QUEUED),
        sa.tuple_(ledger.c.priority, ledger.c.id) > sa.tuple_(sa.bindparam("after"), sa.bindparam("id")),
    )
    .order_by(ledger.c.priority, ledger.c.id)
    .limit(sa.bindparam("most"))
)


def backlog(conn: Connection, projects: Container[str] | None = None, most: int = 100) -> list[Backlog]:
    """Return series that have queued rows, whose turn it is first: at most so many, of these projects.

    Looks at the head of the queue only, however long that is; so with very long series it may be fewer.
    """
    found: dict[tuple[str, str], Backlog] = {}
    after, last = -1, 0
    for _ in range(LOOKS):
        rows = conn.execute(_queue, {"after": after, "id": last, "most": LOOK}).fetchall()
        for row in rows:
            if projects is None or row.project in projects:
                found.setdefault((row.project, row.series_index), Backlog(row.project, row.series_index, row.priority))
                if len(found) == most:
                    return list(found.values())
        if len(rows) < LOOK:
            break
        after, last = rows[-1].priority, rows[-1].id
    return list(found.values())


def unfinished(conn: Connection, project: str | None = None, after_id: int = 0, limit: int = 1000) -> list[Unfinished]:
    """Return rows whose source is still needed of Orthanc, in pages by id."""
    query = _of(sa.select(ledger.c.id, ledger.c.source_sealed, ledger.c.state), project)
    query = query.where(_IS_OPEN, ledger.c.state.in_(UNFINISHED), ledger.c.id > after_id, ledger.c.origin == ORTHANC)
    query = query.order_by(ledger.c.id).limit(limit)
    return [Unfinished(*row) for row in conn.execute(query)]


def counts(conn: Connection, project: str | None = None) -> dict[str, dict[str, int]]:
    """Return project → state → number of rows."""
    return counting.instances(conn, "state", project)


def reasons(conn: Connection, project: str | None = None) -> dict[str, dict[str, int]]:
    """Return project → reason code → number of rows that did not get through."""
    return counting.instances(conn, "reason", project, HELD)


def oldest_unfinished(conn: Connection, project: str | None = None) -> float | None:
    """Return when the oldest row without an outcome came in: the age of the backlog."""
    query = _of(sa.select(ledger.c.created), project).where(_IS_OPEN).order_by(ledger.c.id).limit(1)
    if project is None:  # the index knows the order within each project
        firsts = [oldest_unfinished(conn, name) for name in counts(conn)]
        return min((first for first in firsts if first is not None), default=None)
    oldest = conn.execute(query).scalar_one_or_none()
    return None if oldest is None else float(oldest)


def _held(query: sa.Select[Any], project: str | None, reason: str | None) -> sa.Select[Any]:
    query = _of(query, project).where(among(ledger.c.state, *HELD))
    return query if reason is None else query.where(ledger.c.reason == reason)


def quarantine(
    conn: Connection, project: str | None = None, *, reason: str | None = None, after: int = 0, limit: int = 100
) -> list[QuarantineRow]:
    """Return what did not pass (held, rejected, refused, in conflict, lost) in pages by id, nothing of its sources."""
    columns = [ledger.c[name] for name in QuarantineRow.__dataclass_fields__]
    query = _held(sa.select(*columns), project, reason).where(ledger.c.id > after)
    rows = conn.execute(query.order_by(ledger.c.id).limit(limit))
    return [QuarantineRow(**{**row._mapping, "findings": _json(row.findings)}) for row in rows]


def quarantine_count(conn: Connection, project: str | None = None, reason: str | None = None) -> int:
    """Return how many instances did not pass."""
    return counting.held(conn, HELD, project, reason)


def live_outputs(conn: Connection, project: str | None = None, outbox: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield (id, output digest) of rows whose file must be in the outbox; with `outbox`, in that one, or perhaps."""
    query = sa.select(ledger.c.id, ledger.c.out_digest).where(_IS_OPEN, ledger.c.state.in_([READY, RELEASED]))
    if outbox is not None:
        query = query.where(sa.or_(ledger.c.outbox.is_(None), ledger.c.outbox == outbox))
    for name in [project] if project is not None else sorted(counts(conn)):
        for row in conn.execute(query.where(ledger.c.project == name).order_by(ledger.c.id)):
            yield row.id, row.out_digest


def knows_output(conn: Connection, project: str, out_sops: Iterable[str]) -> set[str]:
    """Return which of these UIDs are outputs of this project: an own mark on anything else is foreign."""
    query = sa.select(outputs.c.out_sop).where(outputs.c.project == project)
    return {row.out_sop for row in select_in(conn, query, outputs.c.out_sop, out_sops)}
