"""Jobs as rows: written, listed, changed; and what a person's decision on a job does to its instances.

The instances of a job are counted in job_items; the life of a job is in pipeline.jobs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.rows import CANCELLED, PAUSED, QUARANTINED, QUEUED, READY, JobRow
from orthanc_deid.store.schema import job_items, job_parts, job_studies, jobs, ledger
from orthanc_deid.store.schema import studies as study_table
from orthanc_deid.store.sql import EACH, chunks, insert, rows_of
from orthanc_deid.store.studies import HELD

__all__ = [
    "JobRow",
    "add_parts", "add_studies", "cancel", "create", "forget_request", "forget_studies", "get", "page", "part", "pause",
    "resume", "running", "studies", "untidied", "update", "waiting",
]  # fmt: skip

_OF_REQUEST = ("Request", "Cursor")
"""What of a job's content is sealed, since it names resources, and serves no end but to go on with the job."""
_CHANGEABLE = {"state", "total", "completed", "error", "content", "tidied"}
_in_hand = sa.select(job_items.c.ledger_id).where(
    job_items.c.job_id == sa.bindparam("of_job"), job_items.c.outcome.is_(None)
)
_to_state = (
    sa.update(ledger)
    .where(ledger.c.id.in_(EACH), ledger.c.job_id == sa.bindparam("of_job"))
    .where(ledger.c.state.in_(sa.bindparam("from_states", expanding=True)))
    .values(state=sa.bindparam("to_state"), reason=sa.bindparam("why"), updated=sa.bindparam("now"))
    .returning(ledger.c.project, ledger.c.series_index)
)


def create(conn: Connection, job: JobRow) -> None:
    """Write a new job."""
    names = JobRow.__dataclass_fields__
    conn.execute(sa.insert(jobs), {name: getattr(job, name) for name in names} | {"content": json.dumps(job.content)})


def _job(row: Any) -> JobRow:
    return JobRow(**{**row._mapping, "content": json.loads(row.content)})


def get(conn: Connection, job_id: str, *, lock: bool = False) -> JobRow | None:
    """Return a job by its id; with `lock` nobody else changes it until this transaction ends."""
    query = sa.select(jobs).where(jobs.c.id == job_id)
    row = conn.execute(query.with_for_update() if lock else query).first()
    return None if row is None else _job(row)


def page(conn: Connection, *, project: str | None = None, offset: int = 0, limit: int = 100) -> list[JobRow]:
    """Return jobs, the newest first."""
    query = sa.select(jobs).order_by(jobs.c.created.desc(), jobs.c.id).offset(offset).limit(limit)
    if project is not None:
        query = query.where(jobs.c.project == project)
    return [_job(row) for row in conn.execute(query)]


def running(conn: Connection) -> list[JobRow]:
    """Return the jobs that have not ended: those of a higher priority first, then the oldest."""
    query = sa.select(jobs).where(jobs.c.state.in_(["Pending", "Running", "Paused"]))
    return [_job(row) for row in conn.execute(query.order_by(jobs.c.priority.desc(), jobs.c.created, jobs.c.id))]


def untidied(conn: Connection) -> list[JobRow]:
    """Return the jobs that have ended and whose links to the ledger were not looked through since, or that succeeded
    and still know what they were asked for."""
    knows = sa.and_(jobs.c.state == "Success", jobs.c.content.contains(f'"{_OF_REQUEST[0]}":'))
    query = sa.select(jobs).where(jobs.c.state.in_(["Success", "Failure"]), ~jobs.c.tidied | knows)
    return [_job(row) for row in conn.execute(query.order_by(jobs.c.created, jobs.c.id))]


def update(conn: Connection, job_id: str, **fields: Any) -> bool:
    """Change state, total, completed, error, content or tidied; False for an unknown job."""
    if unknown := fields.keys() - _CHANGEABLE:
        raise ValueError(f"a job has no field that can be changed named {', '.join(sorted(unknown))}")
    if "content" in fields:
        fields["content"] = json.dumps(fields["content"])
    return conn.execute(sa.update(jobs).where(jobs.c.id == job_id).values(**fields)).rowcount == 1


# What a job is over


def add_parts(conn: Connection, job_id: str, parts: Iterable[bytes]) -> int:
    """Write the parts of a job's list of resources, from number 0 on; returns how many."""
    number = 0
    for number, sealed in enumerate(parts, start=1):
        conn.execute(sa.insert(job_parts), {"job_id": job_id, "number": number - 1, "sealed": sealed})
    return number


def part(conn: Connection, job_id: str, number: int) -> bytes | None:
    """Return one part of a job's list of resources."""
    query = sa.select(job_parts.c.sealed).where(job_parts.c.job_id == job_id, job_parts.c.number == number)
    return conn.execute(query).scalar_one_or_none()


def forget_request(conn: Connection, job_id: str) -> None:
    """Forget the resources or the query that a job is over, and how far it was; its counts stay."""
    conn.execute(sa.delete(job_parts).where(job_parts.c.job_id == job_id))
    job = get(conn, job_id, lock=True)
    if job is not None:
        update(conn, job_id, content={name: one for name, one in job.content.items() if name not in _OF_REQUEST})


# What a person decides


def _change(conn: Connection, job_id: str, states: Sequence[str], state: str, now: float) -> list[tuple[str, str]]:
    """Change the state of what this job brought in and still has in hand; returns their (project, series_index)."""
    ids = [row.ledger_id for row in conn.execute(_in_hand, {"of_job": job_id})]
    why = state if state == CANCELLED else None
    values = {"of_job": job_id, "from_states": list(states), "to_state": state, "why": why, "now": now}
    return [(row.project, row.series_index) for row in rows_of(conn, _to_state, ids, **values)]


# queued | paused → cancelled
def cancel(conn: Connection, job_id: str, now: float) -> int:
    """Cancel the rows that this job brought in and that nobody has begun."""
    return len(_change(conn, job_id, [QUEUED, PAUSED], CANCELLED, now))


# queued → paused
def pause(conn: Connection, job_id: str, now: float) -> int:
    """Let the rows that this job brought in wait."""
    return len(_change(conn, job_id, [QUEUED], PAUSED, now))


# paused → queued
def resume(conn: Connection, job_id: str, now: float) -> list[tuple[str, str]]:
    """Let them go on; returns the (project, series_index) that need tasks."""
    return sorted(set(_change(conn, job_id, [PAUSED], QUEUED, now)))


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
    query = sa.select(sa.func.count()).select_from(job_items.join(ledger, ledger.c.id == job_items.c.ledger_id))
    query = query.where(job_items.c.job_id == job_id, job_items.c.outcome.is_(None), ledger.c.state == READY, held)
    return int(conn.execute(query).scalar_one())


# What a dry run says of each research study


def add_studies(conn: Connection, job_id: str, counts: dict[tuple[str, str, str, str], int]) -> None:
    """Add to the counts of (research study, pseudonym, outcome, reason)."""
    names = ("out_study", "out_patient", "outcome", "reason")
    for chunk in chunks(sorted(counts.items())):
        statement = insert(conn, job_studies)
        statement = statement.on_conflict_do_update(
            index_elements=["job_id", *names], set_={"number": job_studies.c.number + statement.excluded.number}
        )
        rows = [{"job_id": job_id, **dict(zip(names, key, strict=True)), "number": number} for key, number in chunk]
        conn.execute(statement, rows)


def studies(conn: Connection, job_id: str) -> Iterator[tuple[str, str, str, str, int]]:
    """Yield (pseudonym, research study, outcome, reason, number) of a dry run."""
    columns = (job_studies.c.out_patient, job_studies.c.out_study, job_studies.c.outcome, job_studies.c.reason)
    query = sa.select(*columns, job_studies.c.number).where(job_studies.c.job_id == job_id).order_by(*columns)
    for row in conn.execute(query):
        yield row.out_patient, row.out_study, row.outcome, row.reason, int(row.number)


def forget_studies(conn: Connection, job_id: str) -> None:
    """Let a dry run begin anew."""
    conn.execute(sa.delete(job_studies).where(job_studies.c.job_id == job_id))
