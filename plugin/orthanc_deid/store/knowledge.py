"""What is known of a subject grows with each of its objects; outputs that were made before it grew must not leave so.

A subject's values carry the revision at which they were learnt, an output the revision up to which all of them were
searched for in it. An output that is behind is not claimed for sending: it is queued again, made with what is known by
then, and goes on when it is ready, as the same bytes where nothing is found. What had left before is noted as late.
Claims and what is learnt are transactions on the same rows: an output either was on its way before a value was known,
and is noted, or it is not sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store import counting
from orthanc_deid.store.rows import LOCAL, PENDING, READY, RELEASED, SENDING, Outcome
from orthanc_deid.store.schema import among, deliveries, ledger, studies, subject_values, subjects
from orthanc_deid.store.sql import insert_ignore, select_in, update_in

_its_subject = sa.and_(subjects.c.project == ledger.c.project, subjects.c.subject_index == ledger.c.subject_index)
_known = sa.func.coalesce(ledger.c.known_revision, -1)

CURRENT = sa.exists().where(_its_subject, subjects.c.revision <= _known)
"""Condition on a row of the ledger: nothing was learnt of its subject that was not searched for in its output."""


def learn(conn: Connection, project: str, outcomes: Sequence[Outcome], revisions: Mapping[str, int]) -> dict[int, int]:
    """Add what ready outcomes tell of their subjects; return ledger id → the revision that its output is good for.

    That is the subject's newest one, unless somebody else has learnt something meanwhile that was not searched for.
    `revisions` are those of the subjects, which are locked.
    """
    about = defaultdict(list)
    for outcome in outcomes:
        if outcome.subject is not None:
            about[outcome.subject.index].append(outcome)
    good: dict[int, int] = {}
    for index, its in about.items():
        before = revisions[index]
        newest = _add(conn, project, index, before, its)
        learnt = _since(conn, project, index, its, newest)
        for outcome in its:
            missed = {value for value, revision in learnt.items() if revision > outcome.revision} - set(outcome.knew)
            good[outcome.id] = outcome.revision if missed else newest
    return good


def _add(conn: Connection, project: str, subject: str, revision: int, outcomes: Iterable[Outcome]) -> int:
    """Insert values that are new; return the revision of the subject after that."""
    values = {ref.index: ref.sealed for outcome in outcomes for ref in outcome.known}
    if not values:
        return revision
    query = _values(project, subject, subject_values.c.value_index)
    for row in select_in(conn, query, subject_values.c.value_index, list(values)):
        del values[row.value_index]
    if not values:
        return revision
    here = {"project": project, "subject_index": subject, "revision": revision + 1}
    insert_ignore(
        conn, subject_values, [{**here, "value_index": index, "sealed": values[index]} for index in sorted(values)]
    )
    row = sa.and_(subjects.c.project == project, subjects.c.subject_index == subject)
    conn.execute(sa.update(subjects).where(row).values(revision=revision + 1))
    return revision + 1


def _since(conn: Connection, project: str, subject: str, outcomes: Sequence[Outcome], newest: int) -> dict[str, int]:
    """Return value index → revision of what was learnt since the oldest of the outcomes was begun."""
    oldest = min(outcome.revision for outcome in outcomes)
    if oldest >= newest:
        return {}
    query = _values(project, subject, subject_values.c.value_index, subject_values.c.revision)
    rows = conn.execute(query.where(subject_values.c.revision > oldest))
    return {row.value_index: row.revision for row in rows}


def _values(project: str, subject: str, *columns: Any) -> sa.Select[Any]:
    return sa.select(*columns).where(subject_values.c.project == project, subject_values.c.subject_index == subject)


def since(conn: Connection, project: str, subject: str, revision: int) -> tuple[int, list[bytes]]:
    """Return the subject's revision now, and its sealed values (identity.vault kind "known") that came after one.

    Revision -1 gives all of them; a subject that is not known yet has revision 0 and no values.
    """
    row = sa.and_(subjects.c.project == project, subjects.c.subject_index == subject)
    newest = conn.execute(sa.select(subjects.c.revision).where(row)).scalar_one_or_none()
    if newest is None or newest <= revision:
        return newest or 0, []
    query = _values(project, subject, subject_values.c.sealed).where(subject_values.c.revision > revision)
    return newest, [found.sealed for found in conn.execute(query.order_by(subject_values.c.value_index))]


_behind = (
    sa.select(ledger.c.id)
    .where(ledger.c.state.in_([READY, RELEASED]), ~CURRENT)
    .where(~sa.exists().where(deliveries.c.ledger_id == ledger.c.id, deliveries.c.state == SENDING))
    .order_by(ledger.c.id)
)
_due_and_behind = _behind.where(
    ledger.c.id.in_(
        sa.select(deliveries.c.ledger_id).where(
            deliveries.c.project == sa.bindparam("of_project"),
            deliveries.c.destination == sa.bindparam("to"),
            among(deliveries.c.state, PENDING),
            deliveries.c.next_try <= sa.bindparam("now"),
            deliveries.c.out_study == sa.bindparam("of_study"),
        )
    )
)
_ready_and_behind = _behind.where(
    ledger.c.project == sa.bindparam("of_project"),
    ledger.c.study_index == sa.bindparam("of_study"),
    among(ledger.c.state, READY),
)


def outdated(conn: Connection, project: str, destination: str, now: float, study: str) -> list[int]:
    """Return the ledger ids of a study's deliveries (by output UID) that are due and must not go as they are.

    While another destination is taking the same output, it waits: its file is in use.
    """
    where = {"of_project": project, "to": destination, "now": now, "of_study": study}
    return [row.id for row in conn.execute(_due_and_behind, where)]


def outdated_in_study(conn: Connection, project: str, study_index: str) -> list[int]:
    """Return the ledger ids of what is ready in a study and must not be released as it is."""
    return [row.id for row in conn.execute(_ready_and_behind, {"of_project": project, "of_study": study_index})]


def mark_late(conn: Connection, project: str, subject_indexes: Iterable[str], now: float) -> int:
    """Note which outputs of these subjects may have left before something was learnt; returns how many are new."""
    left = sa.exists().where(
        deliveries.c.ledger_id == ledger.c.id, deliveries.c.destination != LOCAL, deliveries.c.sent_digest.is_not(None)
    )
    # By way of the studies, of which a subject has few: outputs stand under the subject of their study alone.
    its = sa.select(studies.c.study_index).where(studies.c.project == project)
    found = [row.study_index for row in select_in(conn, its, studies.c.subject_index, subject_indexes)]
    statement = sa.update(ledger).where(ledger.c.project == project, ledger.c.late.is_(None), ~CURRENT, left)
    return update_in(conn, statement.values(late=now), ledger.c.study_index, found)


def late(conn: Connection) -> dict[str, int]:
    """Return project → number of outputs that had left when something was learnt of their subjects."""
    return counting.late(conn)
