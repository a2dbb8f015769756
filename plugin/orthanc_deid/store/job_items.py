"""What became of the instances of jobs: links to the ledger, and counts.

A row of the ledger that has come to an outcome is counted once (`fold`) and then looked at no more, so a look at a job
costs as much as what it has in hand. Whoever takes a row out of its outcome again says so (`unfold`), in the same
transaction: then the job has it in hand once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.rows import CONFIRMED, TERMINAL
from orthanc_deid.store.schema import job_counts, job_items, jobs, ledger
from orthanc_deid.store.sql import EACH, change, chunks, insert, insert_ignore, rows_of

_mine = job_items.c.job_id == sa.bindparam("of_job")
_open = sa.and_(_mine, job_items.c.outcome.is_(None))
_joined = job_items.join(ledger, ledger.c.id == job_items.c.ledger_id)
_states = (
    sa.select(ledger.c.state, ledger.c.reason, sa.func.count())
    .select_from(_joined)
    .where(_open)
    .group_by(ledger.c.state, ledger.c.reason)
)
_counted = sa.select(job_counts.c.state, job_counts.c.reason, job_counts.c.number).where(
    job_counts.c.job_id == sa.bindparam("of_job")
)
_ended = (
    sa.select(ledger.c.id, ledger.c.state, ledger.c.reason, ledger.c.out_patient, ledger.c.out_study)
    .select_from(_joined)
    .where(_open, ledger.c.state.in_(sa.bindparam("states", expanding=True)))
    .limit(sa.bindparam("most"))
)
_note = (
    sa.update(job_items)
    .where(_mine, job_items.c.ledger_id == sa.bindparam("of_row"))
    .values(outcome=sa.bindparam("to_outcome"), reason=sa.bindparam("to_reason"))
)
_noted = sa.select(job_items.c.job_id, job_items.c.outcome, job_items.c.reason, sa.func.count()).where(
    job_items.c.ledger_id.in_(EACH), job_items.c.outcome.is_not(None)
)
_noted = _noted.group_by(job_items.c.job_id, job_items.c.outcome, job_items.c.reason)
_forget_note = sa.update(job_items).where(job_items.c.ledger_id.in_(EACH), job_items.c.outcome.is_not(None))
_forget_note = _forget_note.values(outcome=None, reason=None)
_untidy = sa.update(jobs).where(jobs.c.id.in_(EACH)).values(tidied=False)


def link(conn: Connection, job_id: str, ledger_ids: Iterable[int]) -> None:
    """Link rows of the ledger to a job; what it has already stays as it is."""
    insert_ignore(conn, job_items, [{"job_id": job_id, "ledger_id": row} for row in sorted(set(ledger_ids))])


def linked(conn: Connection, job_id: str, project: str, instance_indexes: Iterable[str]) -> set[str]:
    """Return which source instances of a project the job already has."""
    rows = sa.select(ledger.c.id, ledger.c.source_index).where(
        ledger.c.project == project, ledger.c.source_index.in_(EACH)
    )
    known = {row.id: row.source_index for row in rows_of(conn, rows, instance_indexes)}
    has = sa.select(job_items.c.ledger_id).where(_mine, job_items.c.ledger_id.in_(EACH))
    return {known[row.ledger_id] for row in rows_of(conn, has, known, of_job=job_id)}


def in_hand(conn: Connection, job_id: str) -> dict[str, int]:
    """Return state → number of the rows that are not counted yet."""
    states: Counter[str] = Counter()
    for state, _, number in conn.execute(_states, {"of_job": job_id}):
        states[state] += number
    return dict(states)


def outcomes(conn: Connection, job_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return (state → number, reason code → number of those that did not get through) of all of the job's rows."""
    states: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for statement in (_states, _counted):
        for state, reason, number in conn.execute(statement, {"of_job": job_id}):
            states[state] += int(number)
            if reason and state in TERMINAL:
                reasons[reason] += int(number)
    # A count that went back to nothing is none.
    return {key: count for key, count in states.items() if count}, {key: n for key, n in reasons.items() if n}


def fold(conn: Connection, job_id: str, limit: int, also: Collection[str] = ()) -> tuple[int, list[tuple[str, str]]]:
    """Count rows that have come to an outcome (`also`: or to these states), at most `limit` at a time.

    Returns how many, and the (pseudonym, research study) that they belong to.
    """
    states = sorted({*TERMINAL, *also})
    rows = conn.execute(_ended, {"of_job": job_id, "states": states, "most": limit}).fetchall()
    if not rows:
        return 0, []
    conn.execute(
        _note,
        [{"of_job": job_id, "of_row": row.id, "to_outcome": row.state, "to_reason": row.reason} for row in rows],
    )
    _count(conn, Counter((job_id, row.state, row.reason or "") for row in rows))
    return len(rows), sorted({(row.out_patient, row.out_study) for row in rows if row.out_study})


def unfold(conn: Connection, ledger_ids: Iterable[int]) -> None:
    """Take rows that leave their outcome back out of the counts of the jobs that have them."""
    ids = list(ledger_ids)
    back: Counter[tuple[str, str, str]] = Counter()
    for job_id, outcome, reason, number in rows_of(conn, _noted, ids):
        back[job_id, outcome, reason or ""] -= number
    if back:
        _count(conn, back)
        change(conn, _forget_note, ids)
        change(conn, _untidy, sorted({job_id for job_id, _, _ in back}))


def _count(conn: Connection, counts: Counter[tuple[str, str, str]]) -> None:
    statement = insert(conn, job_counts)
    statement = statement.on_conflict_do_update(
        index_elements=["job_id", "state", "reason"],
        set_={"number": job_counts.c.number + statement.excluded.number},
    )
    rows = [
        {"job_id": job_id, "state": state, "reason": reason, "number": number}
        for (job_id, state, reason), number in sorted(counts.items())
    ]
    conn.execute(statement, rows)


def counted(conn: Connection, job_id: str, states: Sequence[str], after: int, limit: int) -> list[int]:
    """Return ledger ids, in order, of rows that were counted in these states."""
    query = sa.select(job_items.c.ledger_id).where(
        _mine, job_items.c.outcome.in_(list(states)), job_items.c.ledger_id > after
    )
    query = query.order_by(job_items.c.ledger_id).limit(limit)
    return [row.ledger_id for row in conn.execute(query, {"of_job": job_id})]


def tidy(conn: Connection, job_id: str, limit: int) -> int:
    """Forget links to what was confirmed: it is counted, and nothing is to be done with it any more. Returns how
    many."""
    query = sa.select(job_items.c.ledger_id).where(_mine, job_items.c.outcome == CONFIRMED, ~job_items.c.fetched)
    ids = [row.ledger_id for row in conn.execute(query.limit(limit), {"of_job": job_id})]
    for chunk in chunks(ids):
        conn.execute(
            sa.delete(job_items).where(_mine, job_items.c.ledger_id.in_(EACH)), {"of_job": job_id, "each": chunk}
        )
    return len(ids)


# Originals that a job fetched itself


def note_fetched(conn: Connection, job_id: str, ledger_ids: Iterable[int]) -> None:
    """Note that the job itself fetched the originals of these rows."""
    change(
        conn,
        sa.update(job_items).where(_mine, job_items.c.ledger_id.in_(EACH)).values(fetched=True),
        ledger_ids,
        of_job=job_id,
    )


def rows_by_source(conn: Connection, project: str, instance_indexes: Iterable[str]) -> list[int]:
    """Return the ledger ids of source instances of a project."""
    query = sa.select(ledger.c.id).where(ledger.c.project == project, ledger.c.source_index.in_(EACH))
    return [row.id for row in rows_of(conn, query, instance_indexes)]


def with_fetched(conn: Connection) -> list[str]:
    """Return the jobs that have originals which they fetched themselves, and which are still there."""
    query = sa.select(job_items.c.job_id).where(job_items.c.fetched).distinct()
    return [row.job_id for row in conn.execute(query)]


def fetched(conn: Connection, job_id: str, after: int, limit: int) -> list[Any]:
    """Return (id, source_sealed, source_digest) of confirmed rows whose original the job fetched, in pages by id."""
    columns = (ledger.c.id, ledger.c.source_sealed, ledger.c.source_digest)
    query = sa.select(*columns).select_from(_joined).where(_mine, job_items.c.fetched, ledger.c.state == CONFIRMED)
    query = query.where(ledger.c.id > after).order_by(ledger.c.id)
    return list(conn.execute(query.limit(limit), {"of_job": job_id}))


def keep_originals(conn: Connection, job_id: str, ledger_ids: Iterable[int]) -> None:
    """Forget that the job fetched these: they were deleted, or are kept for a reason."""
    statement = sa.update(job_items).where(_mine, job_items.c.ledger_id.in_(EACH)).values(fetched=False)
    change(conn, statement, ledger_ids, of_job=job_id)
