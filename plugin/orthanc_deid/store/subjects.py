"""Subjects: pseudonymous lists, and contradictions that were held."""

from __future__ import annotations

import json

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.rows import HELD, QUARANTINED, WITH_OUTPUT, Contradiction, SubjectRow
from orthanc_deid.store.schema import among, ledger, studies, subjects
from orthanc_deid.store.sql import select_in


def page(conn: Connection, project: str, *, after: str = "", limit: int = 100) -> list[SubjectRow]:
    """Return subjects in pages by pseudonym, with the studies and instances that have an output."""
    query = (
        sa.select(subjects.c.subject_index, subjects.c.pseudonym, subjects.c.first_seen)
        .where(subjects.c.project == project, subjects.c.pseudonym > after)
        .order_by(subjects.c.pseudonym)
        .limit(limit)
    )
    rows = conn.execute(query).fetchall()
    # By way of the studies: outputs stand under the subject of their study alone. Both looks need indexes only.
    of = sa.select(studies.c.study_index, studies.c.subject_index).where(studies.c.project == project)
    owners = dict(
        tuple(row) for row in select_in(conn, of, studies.c.subject_index, [row.subject_index for row in rows])
    )
    made = sa.select(ledger.c.study_index, sa.func.count()).where(
        ledger.c.project == project, ledger.c.state.in_(WITH_OUTPUT)
    )
    numbers: dict[str, tuple[int, int]] = {}
    for study, instances in select_in(conn, made.group_by(ledger.c.study_index), ledger.c.study_index, owners):
        had = numbers.get(owners[study], (0, 0))
        numbers[owners[study]] = (had[0] + 1, had[1] + instances)
    return [SubjectRow(row.pseudonym, *numbers.get(row.subject_index, (0, 0)), row.first_seen) for row in rows]


def contradictions(conn: Connection, project: str | None = None) -> list[Contradiction]:
    """Return the rows that are held because they contradict an earlier object, with what contradicts."""
    query = sa.select(ledger.c.project, ledger.c.id, ledger.c.findings).where(
        among(ledger.c.state, *HELD), ledger.c.state == QUARANTINED, ledger.c.reason == "identity-contradiction"
    )
    if project is not None:
        query = query.where(ledger.c.project == project)
    rows = conn.execute(query.order_by(ledger.c.id))
    return [Contradiction(row.project, row.id, json.loads(row.findings)[0]["contradiction"]) for row in rows]


def exist(conn: Connection) -> bool:
    """Whether any subject is known: from then on the master key file must not be made anew."""
    return conn.execute(sa.select(subjects.c.project).limit(1)).first() is not None
