"""Jobs as rows, and what became of the instances that belong to them. The life of a job is in pipeline.jobs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.deliveries import resend
from orthanc_deid.store.ledger import retry
from orthanc_deid.store.rows import (
    CANCELLED,
    CONFLICT,
    PAUSED,
    QUARANTINED,
    QUEUED,
    READY,
    REFUSED,
    REJECTED,
    SOURCE_LOST,
    TERMINAL,
    JobRow,
)
from orthanc_deid.store.schema import among, job_items, jobs, ledger
from orthanc_deid.store.schema import studies as study_table
from orthanc_deid.store.sql import insert_ignore, select_in
from orthanc_deid.store.studies import HELD

__all__ = [
    "JobRow",
    "add_items", "cancel", "create", "get", "linked", "outcomes", "page", "pause", "reasons", "resubmit", "resume",
    "running", "studies", "unfinished", "update", "waiting",
]  # fmt: skip


def create(conn: Connection, job: JobRow) -> None:
    """Write a new job."""
    names = JobRow.__dataclass_fields__
    conn.execute(sa.insert(jobs), {name: getattr(job, name) for name in names} | {"content": json.dumps(job.content)})


def _job(row: Any) -> JobRow:
    return JobRow(**{**row._mapping, "content": json.loads(row.content)})


def get(conn: Connection, job_id: str) -> JobRow | None:
    """Return a job by its id."""
    row = conn.execute(sa.select(jobs).where(jobs.c.id == job_id)).first()
    return None if row is None else _job(row)


def page(conn: Connection, *, project: str | None = None, offset: int = 0, limit: int = 100) -> list[JobRow]:
    """Return jobs, the newest first."""
    query = sa.select(jobs).order_by(jobs.c.created.desc(), jobs.c.id).offset(offset).limit(limit)
    if project is not None:
        query = query.where(jobs.c.project == project)
    return [_job(row) for row in conn.execute(query)]


def running(conn: Connection) -> list[JobRow]:
    """Return the jobs that have not ended, the oldest first."""
    query = sa.select(jobs).where(jobs.c.state.in_(["Pending", "Running", "Paused"]))
    return [_job(row) for row in conn.execute(query.order_by(jobs.c.created, jobs.c.id))]


def update(conn: Connection, job_id: str, **fields: Any) -> bool:
    """Change state, total, completed, error or content; False for an unknown job."""
    if unknown := fields.keys() - {"state", "total", "completed", "error", "content"}:
        raise ValueError(f"a job has no field that can be changed named {', '.join(sorted(unknown))}")
    if "content" in fields:
        fields["content"] = json.dumps(fields["content"])
    return conn.execute(sa.update(jobs).where(jobs.c.id == job_id).values(**fields)).rowcount == 1


def add_items(conn: Connection, job_id: str, ledger_ids: Sequence[int]) -> int:
    """Link rows of the ledger to a job; returns how many the job then has."""
    insert_ignore(conn, job_items, [{"job_id": job_id, "ledger_id": ledger_id} for ledger_id in ledger_ids])
    query = sa.select(sa.func.count()).select_from(job_items).where(job_items.c.job_id == job_id)
    return int(conn.execute(query).scalar_one())


def _items(job_id: str, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    return (
        sa.select(*columns)
        .select_from(job_items.join(ledger, ledger.c.id == job_items.c.ledger_id))
        .where(job_items.c.job_id == job_id)
    )


def _numbers(conn: Connection, query: sa.Select[Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in conn.execute(query)}


def outcomes(conn: Connection, job_id: str) -> dict[str, int]:
    """Return state → number of the job's rows."""
    query = _items(job_id, ledger.c.state, sa.func.count()).group_by(ledger.c.state)
    return _numbers(conn, query)


def reasons(conn: Connection, job_id: str) -> dict[str, int]:
    """Return reason code → number of the job's rows that did not get through."""
    query = _items(job_id, ledger.c.reason, sa.func.count()).where(
        ledger.c.reason.is_not(None), ledger.c.state.in_(TERMINAL)
    )
    return _numbers(conn, query.group_by(ledger.c.reason))


def unfinished(conn: Connection, job_id: str) -> int:
    """Return how many of the job's rows have no outcome yet."""
    return int(conn.execute(_items(job_id, sa.func.count()).where(ledger.c.state.not_in(TERMINAL))).scalar_one())


def waiting(conn: Connection, job_id: str, incomplete_hold: bool) -> int:
    """Return how many of the job's rows are ready but wait for a person: their study is held or incomplete."""
    mine = sa.and_(study_table.c.project == ledger.c.project, study_table.c.study_index == ledger.c.study_index)
    held: sa.ColumnElement[bool] = sa.exists().where(mine, study_table.c.state == HELD)
    if incomplete_hold:
        other = ledger.alias()
        parked = sa.exists().where(
            other.c.project == ledger.c.project,
            other.c.study_index == ledger.c.study_index,
            other.c.state == QUARANTINED,
        )
        held = sa.or_(held, parked)
    query = _items(job_id, sa.func.count()).where(ledger.c.state == READY, held)
    return int(conn.execute(query).scalar_one())


def studies(conn: Connection, job_id: str, limit: int = 100) -> list[tuple[str, str]]:
    """Return (pseudonym, output study UID) of what the job made."""
    query = _items(job_id, ledger.c.out_patient, ledger.c.out_study).where(ledger.c.out_study.is_not(None)).distinct()
    rows = conn.execute(query.order_by(ledger.c.out_patient, ledger.c.out_study).limit(limit))
    return [(row.out_patient, row.out_study) for row in rows]


def linked(conn: Connection, job_id: str, instance_indexes: Iterable[str]) -> set[str]:
    """Return which source instances the job already has."""
    query = _items(job_id, ledger.c.source_index)
    return {row.source_index for row in select_in(conn, query, ledger.c.source_index, instance_indexes)}


# queued | paused → cancelled
def cancel(conn: Connection, job_id: str, now: float) -> int:
    """Cancel the rows that this job brought in and that nobody has begun."""
    statement = sa.update(ledger).where(ledger.c.job_id == job_id, among(ledger.c.state, QUEUED, PAUSED))
    return conn.execute(statement.values(state=CANCELLED, reason=CANCELLED, updated=now)).rowcount


# queued → paused
def pause(conn: Connection, job_id: str, now: float) -> int:
    """Let the rows that this job brought in wait."""
    waits = among(ledger.c.state, QUEUED, PAUSED)
    statement = sa.update(ledger).where(ledger.c.job_id == job_id, waits, ledger.c.state == QUEUED)
    return conn.execute(statement.values(state=PAUSED, updated=now)).rowcount


# paused → queued
def resume(conn: Connection, job_id: str, now: float) -> list[tuple[str, str]]:
    """Let them go on; returns the (project, series_index) that need tasks."""
    waits = among(ledger.c.state, QUEUED, PAUSED)
    statement = sa.update(ledger).where(ledger.c.job_id == job_id, waits, ledger.c.state == PAUSED)
    statement = statement.values(state=QUEUED, updated=now)
    rows = conn.execute(statement.returning(ledger.c.project, ledger.c.series_index))
    return sorted({(row.project, row.series_index) for row in rows})


# cancelled | quarantined | rejected | source-lost → queued; refused | conflict → released
def resubmit(conn: Connection, job_id: str, now: float) -> list[tuple[str, str]]:
    """Try again what did not get through; returns the (project, series_index) that need tasks."""
    states = [CANCELLED, QUARANTINED, REJECTED, SOURCE_LOST]
    ids = [row.id for row in conn.execute(_items(job_id, ledger.c.id).where(ledger.c.state.in_(states)))]
    queued = retry(conn, ids, now)
    again = _items(job_id, ledger.c.id).where(ledger.c.state.in_([REFUSED, CONFLICT]))
    resend(conn, [row.id for row in conn.execute(again)], now)
    return sorted({(project, series) for _, project, series in queued})
