"""Deliveries: one row per (output, destination), and what each destination may hold already.

    add, ledger.release_rows ─▶ pending ─ claim ─▶ sending ─ finish_many ─▶ confirmed | refused | conflict
                                   ▲                  │  └▶ stored ─ finish_many, when it is committed to ─▶
                                   └── requeue_orphans, finish_many(pending), resend

An output's digest is written down in `sent` before its bytes go. Orthanc answers AlreadyStored and keeps the old bytes
when it knows the UID; that confirms only where these very bytes, and no others, may have been sent there before.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store import counting, job_items
from orthanc_deid.store.knowledge import CURRENT
from orthanc_deid.store.ledger import deliver, landed, settle
from orthanc_deid.store.rows import (
    ANY_PRIORITY,
    CONFIRMED,
    CONFLICT,
    LOCAL,
    PENDING,
    READY,
    REFUSED,
    RELEASED,
    REPLACE,
    SENDING,
    STORED,
    Due,
    Sent,
    ToSend,
)
from orthanc_deid.store.schema import among, deliveries, ledger, sent, subjects, variants
from orthanc_deid.store.sql import EACH, change, insert_for, insert_ignore, rows_of, select_in, update_in

__all__ = [
    "LOCAL", "Due", "Sent", "ToSend",
    "add", "begun", "claim", "claimed", "counts", "due", "finish_many", "forget", "give_back", "next_due",
    "note_variant", "peer", "postpone", "requeue_orphans", "resend", "was_sent", "within",
]  # fmt: skip

# A peer gets what is released; the copy in this Orthanc may be made as soon as it is verified.
_open = sa.or_(ledger.c.state == RELEASED, sa.and_(deliveries.c.destination == LOCAL, ledger.c.state == READY))


def peer(name: str) -> str:
    """Return the destination name of an Orthanc peer."""
    return f"peer:{name}"


def within(outbox: Any) -> sa.ColumnElement[bool]:
    """Condition on a row of the ledger: its output is in this outbox, or nobody knows where."""
    return sa.or_(outbox.is_(None), ledger.c.outbox.is_(None), ledger.c.outbox == outbox)


_in_reach = within(sa.bindparam("here", type_=sa.String))


def _subjects(due: sa.Select[Any]) -> sa.Select[Any]:
    """Lock the subjects whose outputs are due against a change."""
    return (
        sa.select(subjects.c.subject_index)
        .where(subjects.c.project == sa.bindparam("of_project"), subjects.c.subject_index.in_(due))
        .order_by(subjects.c.subject_index)
        .limit(sa.bindparam("most"))
        .with_for_update(read=True)
    )


_their_subjects = (
    sa.select(ledger.c.subject_index)
    .join(deliveries, ledger.c.id == deliveries.c.ledger_id)
    .where(deliveries.c.project == sa.bindparam("of_project"), deliveries.c.destination == sa.bindparam("to"))
    .where(among(deliveries.c.state, PENDING), deliveries.c.next_try <= sa.bindparam("now"), _open, _in_reach)
)
_subjects_of_all = _subjects(_their_subjects)
_subjects_of_study = _subjects(_their_subjects.where(deliveries.c.out_study == sa.bindparam("of_study")))
_due_of_all = (
    sa.select(
        deliveries.c.id,
        deliveries.c.ledger_id,
        deliveries.c.attempts,
        deliveries.c.sent_digest,
        deliveries.c.priority,
        *(ledger.c[name] for name in ("out_patient", "out_study", "out_series", "out_sop", "out_orthanc_id")),
        *(ledger.c[name] for name in ("out_digest", "out_size")),
    )
    .join(ledger, ledger.c.id == deliveries.c.ledger_id)
    .where(deliveries.c.project == sa.bindparam("of_project"), deliveries.c.destination == sa.bindparam("to"))
    .where(among(deliveries.c.state, PENDING), deliveries.c.next_try <= sa.bindparam("now"), _open, CURRENT)
    .where(_in_reach)
    .where(deliveries.c.priority <= sa.bindparam("worst"))
    .order_by(deliveries.c.priority, deliveries.c.id)
    .limit(sa.bindparam("most"))
    .with_for_update(of=[deliveries, ledger], skip_locked=True)
)
_due_of_study = _due_of_all.where(deliveries.c.out_study == sa.bindparam("of_study"))
_about = ledger.c.subject_index.in_(sa.bindparam("about", expanding=True))
_begin = (
    sa.update(deliveries)
    .where(deliveries.c.id.in_(EACH))
    .values(
        state=SENDING,
        owner=sa.bindparam("by"),
        attempts=deliveries.c.attempts + 1,
        sent_digest=sa.select(ledger.c.out_digest).where(ledger.c.id == deliveries.c.ledger_id).scalar_subquery(),
        updated=sa.bindparam("now"),
    )
)
_their_rows = (
    sa.select(ledger.c.id)
    .where(ledger.c.id.in_(sa.select(deliveries.c.ledger_id).where(deliveries.c.id.in_(EACH))))
    .order_by(ledger.c.id)
    .with_for_update()
)
_sending = (
    sa.select(deliveries.c.id, deliveries.c.ledger_id, deliveries.c.project, deliveries.c.destination)
    .add_columns(deliveries.c.sent_digest, deliveries.c.recall, ledger.c.out_sop, ledger.c.out_digest)
    .join(ledger, ledger.c.id == deliveries.c.ledger_id)
    .where(deliveries.c.id.in_(EACH), deliveries.c.state.in_([SENDING, STORED]))
    .order_by(deliveries.c.id)
    .with_for_update(of=deliveries)
)
# What is stored is claimed by nobody: its receiver's commitment may come to any service.
_sending_by = _sending.where(sa.or_(deliveries.c.owner == sa.bindparam("by"), deliveries.c.state == STORED))
_end = (
    sa.update(deliveries)
    .where(deliveries.c.id.in_(EACH))
    .values(
        state=sa.bindparam("to_state"),
        reason=sa.bindparam("to_reason"),
        next_try=sa.bindparam("again"),
        owner=None,
        transaction_uid=None,
        updated=sa.bindparam("now"),
    )
)
_sent_there = sa.select(sent.c.out_sop, sent.c.digest).where(
    sent.c.project == sa.bindparam("of_project"), sent.c.destination == sa.bindparam("to"), sent.c.out_sop.in_(EACH)
)


@functools.cache
def _attempted(dialect: str) -> Any:
    """Count an attempt at each destination's bytes."""
    return insert_for(dialect, sent).on_conflict_do_update(
        index_elements=["project", "destination", "out_sop", "digest"], set_={"times": sent.c.times + 1}
    )


# → pending
def add(conn: Connection, ledger_ids: Sequence[int], destination: str, now: float) -> int:
    """Make deliveries to one destination for rows that are ready or released, e.g. to LOCAL."""
    return deliver(conn, ledger_ids, [destination], now)


def begun(conn: Connection, ledger_ids: Sequence[int]) -> set[int]:
    """Return which rows were released before: they have deliveries that leave this Orthanc."""
    query = sa.select(deliveries.c.ledger_id).where(deliveries.c.destination != LOCAL).distinct()
    return {row.ledger_id for row in select_in(conn, query, deliveries.c.ledger_id, ledger_ids)}


# pending → sending
def claim(
    conn: Connection,
    project: str,
    destination: str,
    limit: int,
    owner: str,
    now: float,
    *,
    study: str | None = None,
    outbox: str | None = None,
    worst: int = ANY_PRIORITY,
) -> list[ToSend]:
    """Take deliveries that are due for `owner`, best priority first, and write down that their bytes may leave now.

    With `outbox`, only of outputs that are in it, or of which nobody knows where they are.
    Outputs in which not everything was searched for that is known by now (knowledge.outdated) stay.
    """
    query = _due_of_all if study is None else _due_of_study
    where: dict[str, Any] = {
        "of_project": project,
        "to": destination,
        "now": now,
        "most": limit,
        "of_study": study,
        "here": outbox,
        "worst": worst,
    }
    if conn.dialect.name != "sqlite":
        # Locked first: nothing is learnt of these subjects between the look at what is known and the claim's end.
        lock = _subjects_of_all if study is None else _subjects_of_study
        query, where["about"] = query.where(_about), [row.subject_index for row in conn.execute(lock, where)]
    rows = conn.execute(query, where).fetchall()
    if not rows:
        return []
    history = _history(conn, project, destination, [row.out_sop for row in rows])
    change(conn, _begin, [row.id for row in rows], by=owner, now=now)
    conn.execute(
        _attempted(conn.dialect.name),
        [
            {
                "project": project,
                "destination": destination,
                "out_sop": row.out_sop,
                "digest": row.out_digest,
                "times": 1,
            }
            for row in rows
        ],
    )
    return [
        ToSend(
            id=row.id,
            ledger_id=row.ledger_id,
            project=project,
            destination=destination,
            out_study=row.out_study,
            out_series=row.out_series,
            out_sop=row.out_sop,
            out_orthanc_id=row.out_orthanc_id,
            out_digest=row.out_digest,
            out_size=row.out_size,
            attempts=row.attempts + 1,
            history=_compare(history[row.out_sop], row.out_digest),
            out_patient=row.out_patient or "",
            priority=row.priority,
        )
        for row in rows
    ]


def _history(conn: Connection, project: str, destination: str, out_sops: Iterable[str]) -> dict[str, set[str]]:
    history: dict[str, set[str]] = defaultdict(set)
    for row in rows_of(conn, _sent_there, set(out_sops), of_project=project, to=destination):
        history[row.out_sop].add(row.digest)
    return history


def _compare(digests: set[str], digest: str) -> str:
    if not digests:
        return "never"
    return "same" if digests == {digest} else "other"


# sending | stored → confirmed | stored | pending | refused | conflict
def finish_many(conn: Connection, results: Sequence[Sent], now: float, *, owner: str | None = None) -> list[int]:
    """Record what deliveries of `owner` came to; returns ids of the ledger whose last delivery this was.

    What somebody else has claimed by now is left as it is.
    """
    query, by = (_sending, {}) if owner is None else (_sending_by, {"by": owner})
    ids = sorted(result.id for result in results)
    _hold_rows(conn, ids)
    rows = {row.id: row for row in rows_of(conn, query, ids, **by)}
    groups: dict[tuple[str, str | None, float], list[int]] = defaultdict(list)
    confirmed, stayed, kept_other = [], [], []
    for result in results:
        if result.state not in (CONFIRMED, STORED, PENDING, REFUSED, CONFLICT):
            raise ValueError(f"{result.state} is no outcome of a delivery")
        if result.state == PENDING and result.next_try is None:
            raise ValueError("a delivery that is tried again needs the time of the next try")
        row = rows.get(result.id)
        if row is None:
            continue
        if result.state == CONFIRMED:
            confirmed.append(row)
        elif not result.left:
            stayed.append(row)
        elif result.state == CONFLICT:
            kept_other.append(row)
        groups[result.state, result.reason, now if result.next_try is None else result.next_try].append(row.id)
    for (state, reason, next_try), members in groups.items():
        change(conn, _end, members, to_state=state, to_reason=reason, again=next_try, now=now)
    _only_these(conn, confirmed)
    # In a conflict the destination has kept what it had: offered again, the bytes are no better known there.
    _take_back(conn, kept_other)
    _not_sent(conn, stayed)
    # The row may have been made anew meanwhile: what has just landed then speaks of other bytes than it has now.
    landed(conn, [row.id for row in rows.values() if row.recall or row.sent_digest != row.out_digest], now)
    return settle(conn, sorted({row.ledger_id for row in rows.values()}), now)


def _hold_rows(conn: Connection, ids: Sequence[int]) -> None:
    """Lock the rows of deliveries before these: who lets a row go meanwhile sees what they came to, or they see it."""
    if conn.dialect.name != "sqlite":
        rows_of(conn, _their_rows, ids)


def _keys(rows: Sequence[Any]) -> list[dict[str, str]]:
    return [
        {"b_project": row.project, "b_destination": row.destination, "b_sop": row.out_sop, "b_digest": row.sent_digest}
        for row in rows
    ]


def _place() -> sa.ColumnElement[bool]:
    return sa.and_(
        sent.c.project == sa.bindparam("b_project"),
        sent.c.destination == sa.bindparam("b_destination"),
        sent.c.out_sop == sa.bindparam("b_sop"),
    )


def _only_these(conn: Connection, rows: Sequence[Any]) -> None:
    """Confirmed: the destination holds these bytes and no older ones."""
    places: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in rows:
        places[row.project, row.destination].append(row)
    mixed: list[Any] = []
    for (project, destination), members in places.items():
        history = _history(conn, project, destination, [row.out_sop for row in members])
        mixed += [row for row in members if history[row.out_sop] != {row.sent_digest}]
    if mixed:
        conn.execute(sa.delete(sent).where(_place(), sent.c.digest != sa.bindparam("b_digest")), _keys(mixed))


def _not_sent(conn: Connection, rows: Sequence[Any]) -> None:
    """Take attempts back of which nothing reached the destination."""
    if not rows:
        return
    _take_back(conn, rows)
    # Within the EXISTS, the query of the UID is about the row that is updated only if it is told so.
    its_sop = sa.select(ledger.c.out_sop).where(ledger.c.id == deliveries.c.ledger_id).correlate(deliveries)
    held = sa.exists().where(
        sent.c.project == deliveries.c.project,
        sent.c.destination == deliveries.c.destination,
        sent.c.digest == deliveries.c.sent_digest,
        sent.c.out_sop == its_sop.scalar_subquery(),
    )
    # Nor is there anything to be replaced, then.
    kept = {
        c.name: sa.case((deliveries.c.recall == REPLACE, sa.null()), else_=c)
        for c in (deliveries.c.recall, deliveries.c.there)
    }
    untouched = sa.update(deliveries).where(~held).values(sent_digest=None, **kept)
    update_in(conn, untouched, deliveries.c.id, [row.id for row in rows])


def _take_back(conn: Connection, rows: Sequence[Any]) -> None:
    """Count one attempt less at each row's bytes."""
    if rows:
        this = sa.and_(_place(), sent.c.digest == sa.bindparam("b_digest"))
        conn.execute(sa.update(sent).where(this).values(times=sent.c.times - 1), _keys(rows))
        conn.execute(sa.delete(sent).where(this, sent.c.times <= 0), _keys(rows))


# sending → pending
def requeue_orphans(conn: Connection, now: float, *, owner: str | None = None, destination: str | None = None) -> int:
    """Put deliveries back whose sender is gone. The attempt stays written down: the bytes may have arrived."""
    query = sa.select(deliveries.c.id).where(among(deliveries.c.state, SENDING))
    if owner is not None:
        query = query.where(deliveries.c.owner == owner)
    if destination is not None:
        query = query.where(deliveries.c.destination == destination)
    return _put_back(conn, sorted(row.id for row in conn.execute(query)), now, owner)


def _put_back(conn: Connection, ids: Sequence[int], now: float, owner: str | None) -> int:
    statement = sa.update(deliveries).where(deliveries.c.state == SENDING)
    if owner is not None:
        statement = statement.where(deliveries.c.owner == owner)
    back = update_in(conn, statement.values(state=PENDING, owner=None, next_try=now, updated=now), deliveries.c.id, ids)
    landed(conn, ids, now)
    return back


def claimed(conn: Connection, owner: str, before: float) -> list[int]:
    """Return the deliveries that an owner has claimed before a time and not finished."""
    query = sa.select(deliveries.c.id).where(among(deliveries.c.state, SENDING), deliveries.c.owner == owner)
    return [row.id for row in conn.execute(query.where(deliveries.c.updated < before))]


# sending → pending
def give_back(conn: Connection, ids: Iterable[int], now: float, *, owner: str) -> int:
    """Put deliveries back that an owner still has. The attempt stays written down: the bytes may have arrived."""
    return _put_back(conn, sorted(ids), now, owner)


# refused | conflict → pending
def resend(conn: Connection, ledger_ids: Iterable[int], now: float) -> int:
    """Try again what a destination refused or what was in conflict; the rows of the ledger are released once more."""
    ids = list(ledger_ids)
    statement = sa.update(deliveries).where(deliveries.c.state.in_([REFUSED, CONFLICT]))
    statement = statement.values(state=PENDING, reason=None, next_try=now, updated=now)
    changed = update_in(conn, statement, deliveries.c.ledger_id, ids)
    reopened = sa.update(ledger).where(ledger.c.state.in_([REFUSED, CONFLICT]))
    update_in(conn, reopened.values(state=RELEASED, reason=None, updated=now), ledger.c.id, ids)
    job_items.unfold(conn, ids)
    return changed


# pending, later
def postpone(conn: Connection, destination: str, until: float, now: float) -> int:
    """Let everything for a destination that is down wait until a time."""
    statement = sa.update(deliveries).where(
        deliveries.c.destination == destination, among(deliveries.c.state, PENDING), deliveries.c.next_try < until
    )
    return conn.execute(statement.values(next_try=until, updated=now)).rowcount


def forget(conn: Connection, project: str, destination: str, out_sops: Iterable[str]) -> None:
    """Note that a destination holds nothing under these UIDs any more: they were deleted there."""
    statement = sa.delete(sent).where(sent.c.project == project, sent.c.destination == destination)
    update_in(conn, statement, sent.c.out_sop, out_sops)


def note_variant(conn: Connection, one: ToSend, variant_digest: str, made: str, now: float) -> None:
    """Note that other bytes than the output's own go to a destination, made of it."""
    row = {"project": one.project, "destination": one.destination, "out_sop": one.out_sop, "digest": one.out_digest}
    insert_ignore(conn, variants, [{**row, "variant_digest": variant_digest, "made": made, "created": now}])


def was_sent(conn: Connection, project: str, out_sop: str, destination: str, digest: str) -> bool:
    """Whether these very bytes, and no others, may have been sent to the destination under this UID."""
    return _compare(_history(conn, project, destination, [out_sop])[out_sop], digest) == "same"


def due(conn: Connection, now: float, resting: Iterable[str] = (), outbox: str | None = None) -> list[Due]:
    """Return what can be tried now, by project, destination and study: the best priority, then the longest waiting.

    Destinations that are left alone for the moment (`resting`) are left out, however much waits for them; with
    `outbox`, so is what lies in another one.
    """
    columns = (deliveries.c.project, deliveries.c.destination, deliveries.c.out_study)
    query = (
        sa.select(*columns, sa.func.count(), sa.func.min(deliveries.c.priority))
        .join(ledger, ledger.c.id == deliveries.c.ledger_id)
        .where(among(deliveries.c.state, PENDING), deliveries.c.next_try <= now, _open)
        .where(deliveries.c.destination.not_in(list(resting)), within(sa.literal(outbox, sa.String)))
        .group_by(*columns)
        .order_by(sa.func.min(deliveries.c.priority), sa.func.min(deliveries.c.id))
    )
    return [Due(*row) for row in conn.execute(query)]


def next_due(conn: Connection, now: float, outbox: str | None = None) -> float | None:
    """Return when the next waiting delivery can be tried (`now` where one can already), None where none waits.

    What waits for its row to be made again cannot be tried; with `outbox`, nor can what lies in another one.
    """
    query = (
        sa.select(deliveries.c.next_try)
        .join(ledger, ledger.c.id == deliveries.c.ledger_id)
        .where(among(deliveries.c.state, PENDING), _open, within(sa.literal(outbox, sa.String)))
        .order_by(deliveries.c.next_try)
        .limit(1)
    )
    first = conn.execute(query).scalar_one_or_none()
    return None if first is None else max(float(first), now)


def counts(conn: Connection, project: str | None = None) -> dict[str, dict[str, dict[str, int]]]:
    """Return project → destination → state → number of deliveries."""
    return counting.sends(conn, project)
