"""What the ledger tells: look-ups, counts and lists. Nothing here changes a row."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.rows import (
    CONFIRMED,
    CONFLICT,
    ORTHANC,
    QUARANTINED,
    QUEUED,
    READY,
    REFUSED,
    REJECTED,
    RELEASED,
    SOURCE_LOST,
    TERMINAL,
    UNFINISHED,
    Backlog,
    KnownSource,
    LedgerRow,
    QuarantineRow,
    Unfinished,
)
from orthanc_deid.store.schema import ledger, outputs
from orthanc_deid.store.sql import select_in

_HELD = (QUARANTINED, REJECTED, REFUSED, CONFLICT, SOURCE_LOST)


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


def backlog(conn: Connection, project: str | None = None) -> list[Backlog]:
    """Return the series that have queued rows, oldest first."""
    query = _of(sa.select(ledger.c.project, ledger.c.series_index, sa.func.count()), project)
    query = query.where(ledger.c.state == QUEUED).group_by(ledger.c.project, ledger.c.series_index)
    return [Backlog(*row) for row in conn.execute(query.order_by(sa.func.min(ledger.c.id)))]


def unfinished(conn: Connection, project: str | None = None, after_id: int = 0, limit: int = 1000) -> list[Unfinished]:
    """Return rows whose source is still needed of Orthanc, in pages by id."""
    query = _of(sa.select(ledger.c.id, ledger.c.source_sealed, ledger.c.state), project)
    query = query.where(ledger.c.state.in_(UNFINISHED), ledger.c.id > after_id, ledger.c.origin == ORTHANC)
    query = query.order_by(ledger.c.id).limit(limit)
    return [Unfinished(*row) for row in conn.execute(query)]


def counts(conn: Connection, project: str | None = None) -> dict[str, dict[str, int]]:
    """Return project → state → number of rows."""
    query = _of(sa.select(ledger.c.project, ledger.c.state, sa.func.count()), project)
    return _nested(conn.execute(query.group_by(ledger.c.project, ledger.c.state)))


def reasons(conn: Connection, project: str | None = None) -> dict[str, dict[str, int]]:
    """Return project → reason code → number of rows that did not get through."""
    query = _of(sa.select(ledger.c.project, ledger.c.reason, sa.func.count()), project)
    query = query.where(ledger.c.state.in_(_HELD), ledger.c.reason.is_not(None))
    return _nested(conn.execute(query.group_by(ledger.c.project, ledger.c.reason)))


def _nested(rows: Iterable[Any]) -> dict[str, dict[str, int]]:
    nested: dict[str, dict[str, int]] = defaultdict(dict)
    for outer, inner, number in rows:
        nested[outer][inner] = number
    return dict(nested)


def confirmed_since(conn: Connection, project: str | None, since: float) -> int:
    """Return how many rows were confirmed since a time: the throughput."""
    query = _of(sa.select(sa.func.count()).select_from(ledger), project)
    return int(conn.execute(query.where(ledger.c.state == CONFIRMED, ledger.c.confirmed >= since)).scalar_one())


def oldest_unfinished(conn: Connection, project: str | None = None) -> float | None:
    """Return when the oldest row without an outcome came in: the age of the backlog."""
    query = _of(sa.select(sa.func.min(ledger.c.created)), project)
    oldest = conn.execute(query.where(ledger.c.state.in_([*UNFINISHED, READY, RELEASED]))).scalar_one()
    return None if oldest is None else float(oldest)


def _held(query: sa.Select[Any], project: str | None, reason: str | None) -> sa.Select[Any]:
    query = _of(query, project).where(ledger.c.state.in_(_HELD))
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
    return int(conn.execute(_held(sa.select(sa.func.count()).select_from(ledger), project, reason)).scalar_one())


def finished_outputs(conn: Connection, after_id: int = 0, limit: int = 1000) -> list[tuple[int, str]]:
    """Return (id, output digest) of rows that need their file in the outbox no more, in pages by id."""
    query = sa.select(ledger.c.id, ledger.c.out_digest).where(
        ledger.c.state.in_(TERMINAL), ledger.c.out_digest.is_not(None), ledger.c.id > after_id
    )
    return [(row.id, row.out_digest) for row in conn.execute(query.order_by(ledger.c.id).limit(limit))]


def live_outputs(conn: Connection, project: str | None = None) -> Iterator[tuple[int, str]]:
    """Yield (id, output digest) of rows whose file must be in the outbox."""
    query = _of(sa.select(ledger.c.id, ledger.c.out_digest), project).where(ledger.c.state.in_([READY, RELEASED]))
    for row in conn.execute(query.order_by(ledger.c.id)):
        yield row.id, row.out_digest


def knows_output(conn: Connection, project: str, out_sops: Iterable[str]) -> set[str]:
    """Return which of these UIDs are outputs of this project: an own mark on anything else is foreign."""
    query = sa.select(outputs.c.out_sop).where(outputs.c.project == project)
    return {row.out_sop for row in select_in(conn, query, outputs.c.out_sop, out_sops)}
