"""Taking back what was sent, sending it again, and putting a newer output in the place of an older one.

    confirmed, refused, conflict, pending ─ recall, replace ─▶ recalling ─ gone ─▶ recalled, or pending once more
                                                               ▲    │
                                                          again│    ▼
                                                               todo: a person has to delete it there ─ gone ─▶

A delivery's `recall` says what is meant: `recall` it for good, or `replace` it, so that it goes again when the old
bytes are gone. `there` holds the UIDs that they have at the destination, where the output's may become others. What is
on its way to a destination is not touched: it lands first. Then `collect` takes it back, and what is to be replaced is
looked at again by `ledger.landed` or, where the new output comes later, by `ledger.deliver`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store import deliveries as sending
from orthanc_deid.store import job_items
from orthanc_deid.store.ledger import requeue
from orthanc_deid.store.rows import (
    CONFIRMED,
    CONFLICT,
    OPEN,
    PENDING,
    RECALL,
    RECALLED,
    RECALLING,
    REFUSED,
    RELEASED,
    REPLACE,
    SENDING,
    TODO,
    WITH_OUTPUT,
    ToSend,
)
from orthanc_deid.store.schema import among, deliveries, ledger, sent, studies
from orthanc_deid.store.sql import EACH, change, chunks, insert_ignore, rows_of, update_in

_IDS = ("out_patient", "out_study", "out_series", "out_sop", "out_orthanc_id")
_its_row = ledger.c.id == deliveries.c.ledger_id
_may_be_there = sa.or_(
    deliveries.c.sent_digest.is_not(None),
    sa.exists().where(
        sent.c.project == deliveries.c.project,
        sent.c.destination == deliveries.c.destination,
        # Of this very delivery: left to itself, SQLAlchemy would ask for that of any.
        sent.c.out_sop == sa.select(ledger.c.out_sop).where(_its_row).correlate(deliveries).scalar_subquery(),
    ),
)
_outstanding = sa.and_(deliveries.c.recall.is_not(None), deliveries.c.recall == RECALL)
_at_rest = deliveries.c.state.not_in([SENDING, RECALLING, TODO])


@dataclass(frozen=True, slots=True)
class Source:
    """A row that could be made again, and where its original is."""

    id: int
    sealed: bytes
    digest: str
    version: str | None
    origin: str
    spool: str | None


@dataclass(frozen=True, slots=True)
class ToDelete:
    """What is to be deleted at a destination; `one` names it there."""

    one: ToSend
    state: str
    reason: str | None
    recall: str
    updated: float


# Which rows


def of_study(conn: Connection, project: str, out_study: str) -> list[int]:
    """Return the rows of a research study by its UID."""
    query = sa.select(ledger.c.id).where(
        ledger.c.project == project,
        ledger.c.study_index.in_(
            sa.select(studies.c.study_index).where(studies.c.project == project, studies.c.out_study == out_study)
        ),
    )
    return [row.id for row in conn.execute(query.order_by(ledger.c.id))]


def page(conn: Connection, project: str, after: int, limit: int) -> list[int]:
    """Return the rows of a project, in pages by id."""
    # In the order of the ids: by an index that begins with the project, SQLite would read all of it for each page.
    query = sa.select(ledger.c.id).where(ledger.c.project + "" == project, ledger.c.id > after)
    return [row.id for row in conn.execute(query.order_by(ledger.c.id).limit(limit))]


def among_other_plans(conn: Connection, ids: Iterable[int], plans: Iterable[str]) -> list[int]:
    """Return those of the rows whose output was made under none of these plans."""
    known = set(plans)
    query = sa.select(ledger.c.id, ledger.c.plan_digest).where(
        ledger.c.id.in_(EACH), ledger.c.state.in_([*WITH_OUTPUT])
    )
    return [row.id for row in rows_of(conn, query, ids) if row.plan_digest not in known]


def sources(conn: Connection, ids: Iterable[int], recalled: bool = False) -> list[Source]:
    """Return those of the rows that have an output (or had one, and were recalled), to see if it can be made again."""
    states = [*WITH_OUTPUT, RECALLED] if recalled else [*WITH_OUTPUT]
    columns = [ledger.c[name] for name in ("id", "source_sealed", "source_digest", "source_version", "origin", "spool")]
    query = sa.select(*columns).where(
        ledger.c.id.in_(EACH), ledger.c.state.in_(states), ledger.c.out_orthanc_id.is_not(None)
    )
    return [Source(*row) for row in rows_of(conn, query, ids)]


# → recalled
def recall(conn: Connection, ids: Iterable[int], now: float) -> list[tuple[int, str | None]]:
    """Take rows back: they do not go out again by themselves, and what was sent of them is to be deleted everywhere.

    Returns (id, digest of the output) of those that are recalled by this. Rows that never had an outcome are recalled,
    too; what was held or left out before anything of it was sent stays as it is.
    """
    left = sa.exists().where(deliveries.c.ledger_id == ledger.c.id, _may_be_there)
    may = sa.or_(ledger.c.state.in_([*OPEN, CONFIRMED, REFUSED, CONFLICT]), sa.and_(ledger.c.state != RECALLED, left))
    statement = sa.update(ledger).where(ledger.c.id.in_(EACH), may)
    statement = statement.values(state=RECALLED, reason=None, owner=None, updated=now)
    taken = rows_of(conn, statement.returning(ledger.c.id, ledger.c.out_digest), ids)
    mine = sorted(row.id for row in taken)
    job_items.unfold(conn, mine)
    about = sa.update(deliveries).where(deliveries.c.state != RECALLED).values(recall=RECALL, updated=now)
    update_in(conn, about, deliveries.c.ledger_id, mine)
    collect(conn, now)
    return [(row.id, row.out_digest) for row in taken]


def uncollected(conn: Connection) -> bool:
    """Whether something is to be recalled that nobody has begun with: it was on its way."""
    query = sa.select(deliveries.c.id).where(deliveries.c.recall.is_not(None), _outstanding, _at_rest)
    return conn.execute(query.limit(1)).first() is not None


# pending | confirmed | refused | conflict → recalling, or recalled at once where nothing is there
def collect(conn: Connection, now: float) -> int:
    """Begin to delete what is to be recalled and is not on its way any more; returns how many deliveries that were."""
    begun = conn.execute(
        sa.update(deliveries)
        .where(_outstanding, _at_rest, _may_be_there)
        .values(state=RECALLING, reason=None, owner=None, next_try=now, updated=now)
    ).rowcount
    return (
        begun
        + conn.execute(sa.update(deliveries).where(_outstanding, _at_rest).values(**_finished(RECALLED, now))).rowcount
    )


def _finished(state: str, now: float) -> dict[str, Any]:
    fresh = {"reason": None, "owner": None, "sent_digest": None, "recall": None, "there": None}
    return {"state": state, **fresh, "next_try": now, "updated": now}


# confirmed | refused | conflict | recalled | ready | released → queued, its deliveries marked
def replace(conn: Connection, ids: Sequence[int], now: float) -> list[tuple[int, str, str]]:
    """Make outputs again; where other bytes come out, what was sent before is deleted and they go in its place.

    Returns (id, project, series index) of those that are queued. Recalled rows stay recalled.
    """
    again = requeue(conn, ids, list(WITH_OUTPUT), now)
    _mark(conn, [row_id for row_id, _, _ in again], now)
    return again


# confirmed | refused | conflict | recalled → queued, the deliveries → pending
def resend(conn: Connection, ids: Sequence[int], destinations: Sequence[str], now: float) -> list[tuple[int, str, str]]:
    """Send outputs again to these destinations, also what was recalled. They are made again for that.

    Returns (id, project, series index) of those that are queued.
    """
    again = requeue(conn, ids, [*WITH_OUTPUT, RECALLED], now)
    mine = [row_id for row_id, _, _ in again]
    _mark(conn, mine, now)
    query = sa.select(ledger.c.id, ledger.c.project, ledger.c.out_study).where(ledger.c.id.in_(EACH))
    for part in chunks(rows_of(conn, query, mine)):
        rows = [
            {"ledger_id": row.id, "project": row.project, "out_study": row.out_study, "destination": name}
            for row in part
            for name in destinations
        ]
        insert_ignore(conn, deliveries, [{**row, "state": PENDING, "next_try": now, "updated": now} for row in rows])
    chosen = deliveries.c.destination.in_(list(destinations))
    statement = sa.update(deliveries).where(chosen, deliveries.c.state.in_([CONFIRMED, REFUSED, CONFLICT, RECALLED]))
    update_in(
        conn, statement.values(state=PENDING, reason=None, next_try=now, updated=now), deliveries.c.ledger_id, mine
    )
    # What is just being deleted goes again when it is gone.
    turned = sa.update(deliveries).where(chosen, deliveries.c.recall == RECALL)
    update_in(conn, turned.values(recall=REPLACE, updated=now), deliveries.c.ledger_id, mine)
    return again


def _mark(conn: Connection, ids: Sequence[int], now: float) -> None:
    """Note under which UIDs destinations hold what may be replaced, or is to be deleted while the row is made anew."""
    query = (
        sa.select(deliveries.c.id, *(ledger.c[name] for name in _IDS))
        .join(ledger, _its_row)
        .where(deliveries.c.ledger_id.in_(EACH), deliveries.c.there.is_(None), _may_be_there)
    )
    marks = [
        {"delivery": row.id, "uids": json.dumps({name: getattr(row, name) for name in _IDS})}
        for row in rows_of(conn, query, ids)
    ]
    if marks:
        this = sa.update(deliveries).where(deliveries.c.id == sa.bindparam("delivery"))
        meant = sa.func.coalesce(deliveries.c.recall, REPLACE)
        conn.execute(this.values(recall=meant, there=sa.bindparam("uids"), updated=now), marks)


# conflict → recalling
def replace_conflicts(conn: Connection, ids: Sequence[int], now: float) -> int:
    """Put our outputs in the place of what destinations hold under their UIDs; returns how many deliveries that are."""
    statement = sa.update(deliveries).where(deliveries.c.state == CONFLICT)
    statement = statement.values(state=RECALLING, recall=REPLACE, reason=None, next_try=now, updated=now)
    begun = update_in(conn, statement, deliveries.c.ledger_id, ids)
    job_items.unfold(conn, ids)
    reopened = sa.update(ledger).where(ledger.c.state == CONFLICT)
    update_in(conn, reopened.values(state=RELEASED, reason=None, updated=now), ledger.c.id, ids)
    return begun


# What is to be deleted


def _wanted(*states: str) -> sa.Select[Any]:
    columns = [deliveries.c[name] for name in ("id", "ledger_id", "project", "destination", "attempts", "state")]
    columns += [deliveries.c[name] for name in ("reason", "recall", "there", "sent_digest", "updated")]
    return (
        sa.select(*columns, *(ledger.c[name] for name in _IDS), ledger.c.out_size)
        .join(ledger, _its_row)
        .where(deliveries.c.recall.is_not(None), among(deliveries.c.state, *states))
        .order_by(deliveries.c.id)
    )


def _to_delete(row: Any) -> ToDelete:
    uids = json.loads(row.there) if row.there else {name: getattr(row, name) for name in _IDS}
    one = ToSend(
        id=row.id,
        ledger_id=row.ledger_id,
        project=row.project,
        destination=row.destination,
        **uids,
        out_digest=row.sent_digest or "",
        out_size=row.out_size or 0,
        attempts=row.attempts,
        history="same",
    )
    return ToDelete(one, row.state, row.reason, row.recall, row.updated)


def due(conn: Connection, now: float, resting: Iterable[str] = (), limit: int = 200) -> list[ToDelete]:
    """Return what can be deleted now, without what is at destinations that are left alone for the moment."""
    query = _wanted(RECALLING).where(deliveries.c.next_try <= now, deliveries.c.destination.not_in(list(resting)))
    return [_to_delete(row) for row in conn.execute(query.limit(limit))]


def still(conn: Connection, delivery: int) -> ToDelete | None:
    """Return what is to be deleted as it stands now; None where that is done, or taken back, by now."""
    row = conn.execute(_wanted(RECALLING).where(deliveries.c.id == delivery)).first()
    return None if row is None else _to_delete(row)


def todos(conn: Connection, after: int = 0, limit: int = 100) -> list[ToDelete]:
    """Return what only a person can delete, in pages by id."""
    query = _wanted(TODO).where(deliveries.c.id > after).limit(limit)
    return [_to_delete(row) for row in conn.execute(query)]


def outstanding(conn: Connection) -> dict[str, int]:
    """Return how many deliveries are being taken back, and how many wait for a person."""
    query = sa.select(deliveries.c.state, sa.func.count()).where(
        deliveries.c.recall.is_not(None), among(deliveries.c.state, RECALLING, TODO)
    )
    return {row[0]: row[1] for row in conn.execute(query.group_by(deliveries.c.state))}


# recalling | todo → recalled, or pending
def gone(conn: Connection, done: Sequence[ToDelete], now: float) -> int:
    """Note that destinations hold these no more; what is to be replaced goes there again."""
    mine = rows_of(conn, _still, [item.one.id for item in done])
    by_id = {item.one.id: item.one for item in done}
    for meant, state in ((RECALL, RECALLED), (REPLACE, PENDING)):
        ids = [row.id for row in mine if row.recall == meant]
        change(conn, sa.update(deliveries).where(deliveries.c.id.in_(EACH)).values(**_finished(state, now)), ids)
    for row in mine:
        one = by_id[row.id]
        sending.forget(conn, one.project, one.destination, [one.out_sop])
    return len(mine)


_still = sa.select(deliveries.c.id, deliveries.c.recall).where(
    deliveries.c.id.in_(EACH), deliveries.c.recall.is_not(None), deliveries.c.state.in_([RECALLING, TODO])
)


# recalling → todo
def give_up(conn: Connection, ids: Iterable[int], reason: str, now: float) -> int:
    """Leave to a person what this service cannot delete."""
    statement = sa.update(deliveries).where(deliveries.c.state == RECALLING)
    return update_in(conn, statement.values(state=TODO, reason=reason, updated=now), deliveries.c.id, ids)


# recalling, later
def wait(conn: Connection, ids: Iterable[int], until: float, now: float) -> int:
    """Let deletions wait: the destination does not answer."""
    statement = sa.update(deliveries).where(deliveries.c.state == RECALLING)
    return update_in(conn, statement.values(next_try=until, updated=now), deliveries.c.id, ids)


# todo → recalling
def again(conn: Connection, delivery: int, now: float) -> bool:
    """Try to delete what was left to a person; False where there is no such thing."""
    statement = sa.update(deliveries).where(deliveries.c.id == delivery, deliveries.c.state == TODO)
    return conn.execute(statement.values(state=RECALLING, next_try=now, reason=None, updated=now)).rowcount == 1


def todo(conn: Connection, delivery: int) -> ToDelete | None:
    """Return one of the things that only a person can delete."""
    row = conn.execute(_wanted(TODO).where(deliveries.c.id == delivery)).first()
    return None if row is None else _to_delete(row)
