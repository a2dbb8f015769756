"""Subjects: pseudonymous lists, and contradictions that were held."""

from __future__ import annotations

import json

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.rows import QUARANTINED, Contradiction, SubjectRow
from orthanc_deid.store.schema import ledger, subjects


def page(conn: Connection, project: str, *, after: str = "", limit: int = 100) -> list[SubjectRow]:
    """Return subjects in pages by pseudonym, with the studies and instances that have an output."""
    query = (
        sa.select(
            subjects.c.pseudonym,
            sa.func.count(ledger.c.out_study.distinct()),
            sa.func.count(ledger.c.out_sop.distinct()),
            subjects.c.first_seen,
        )
        .outerjoin(
            ledger,
            sa.and_(ledger.c.project == subjects.c.project, ledger.c.subject_index == subjects.c.subject_index),
        )
        .where(subjects.c.project == project, subjects.c.pseudonym > after)
        .group_by(subjects.c.pseudonym, subjects.c.first_seen)
        .order_by(subjects.c.pseudonym)
        .limit(limit)
    )
    return [SubjectRow(*row) for row in conn.execute(query)]


def contradictions(conn: Connection, project: str | None = None) -> list[Contradiction]:
    """Return the rows that are held because they contradict an earlier object, with what contradicts."""
    query = sa.select(ledger.c.project, ledger.c.id, ledger.c.findings).where(
        ledger.c.state == QUARANTINED, ledger.c.reason == "identity-contradiction"
    )
    if project is not None:
        query = query.where(ledger.c.project == project)
    rows = conn.execute(query.order_by(ledger.c.id))
    return [Contradiction(row.project, row.id, json.loads(row.findings)[0]["contradiction"]) for row in rows]


def exist(conn: Connection) -> bool:
    """Whether any subject is known: from then on the master key file must not be made anew."""
    return conn.execute(sa.select(subjects.c.project).limit(1)).first() is not None
