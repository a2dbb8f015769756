"""The lines of cohorts that jobs fetch from elsewhere: what is asked for is sealed, beside it how far each is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.schema import job_lines
from orthanc_deid.store.sql import chunks

WAITING, FETCHING = "waiting", "fetching"
"""States of a line that is not done."""
FETCHED, FOUND, NOT_FOUND, SEVERAL, FAILED = "fetched", "found", "not-found", "several", "failed"
"""States of a line that is: `found` in a dry run only, which fetches nothing."""
OPEN = (WAITING, FETCHING)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a cohort."""

    line: int
    sealed: bytes
    progress: bytes | None
    state: str
    reason: str | None
    studies: int
    fetched: int
    handed: int
    tries: int
    next_try: float


def add(conn: Connection, job_id: str, sealed: Iterable[bytes]) -> None:
    """Write the lines of a new job, from number 1 on."""
    rows = ({"job_id": job_id, "line": n, "sealed": one, "state": WAITING} for n, one in enumerate(sealed, start=1))
    for chunk in chunks(rows):
        conn.execute(sa.insert(job_lines), chunk)


def due(conn: Connection, job_id: str, now: float, limit: int) -> list[Line]:
    """Return lines that are to be worked on now; those that were begun first."""
    columns = [job_lines.c[name] for name in Line.__dataclass_fields__]
    query = sa.select(*columns).where(
        job_lines.c.job_id == job_id, job_lines.c.state.in_(OPEN), job_lines.c.next_try <= now
    )
    query = query.order_by(job_lines.c.state, job_lines.c.next_try, job_lines.c.line).limit(limit)
    return [Line(*row) for row in conn.execute(query)]


def update(conn: Connection, job_id: str, line: int, **fields: Any) -> None:
    """Change how far a line is; one that was forgotten stays as it is."""
    known = sa.and_(job_lines.c.job_id == job_id, job_lines.c.line == line, job_lines.c.sealed != b"")
    conn.execute(sa.update(job_lines).where(known).values(**fields))


def forget(conn: Connection, job_id: str) -> None:
    """Forget what was asked for and found; states and counts of the lines stay."""
    conn.execute(sa.update(job_lines).where(job_lines.c.job_id == job_id).values(sealed=b"", progress=None))


def counts(conn: Connection, job_id: str) -> dict[str, int]:
    """Return state → number of lines."""
    query = sa.select(job_lines.c.state, sa.func.count()).where(job_lines.c.job_id == job_id)
    return {row[0]: row[1] for row in conn.execute(query.group_by(job_lines.c.state))}


def report(conn: Connection, job_id: str) -> Iterator[tuple[int, str, str, int, int, int]]:
    """Yield (line, state, reason, studies found, instances fetched, instances handed over)."""
    names = ("line", "state", "reason", "studies", "fetched", "handed")
    query = sa.select(*(job_lines.c[name] for name in names)).where(job_lines.c.job_id == job_id)
    for row in conn.execute(query.order_by(job_lines.c.line)):
        yield row.line, row.state, row.reason or "", row.studies, row.fetched, row.handed


# failed | several | not-found → waiting
def again(conn: Connection, job_id: str) -> int:
    """Ask again for what did not come."""
    lost = sa.update(job_lines).where(job_lines.c.job_id == job_id, job_lines.c.state.in_([FAILED, SEVERAL, NOT_FOUND]))
    return conn.execute(lost.values(state=WAITING, reason=None, tries=0, next_try=0.0)).rowcount
