"""Storage commitments: what was asked of a receiver that has stored outputs, and when it is asked again.

    deliveries: stored ─ begin ─▶ stored, with a transaction ─ answered ─▶ finish_many
                  ▲                        │
                  └── overdue, put_off ────┘

A transaction is written down before it is asked for, so its answer is known whenever it comes, after a restart too.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.deliveries import within
from orthanc_deid.store.rows import OPEN, PENDING, RELEASED, SENDING, STORED, ToCommit
from orthanc_deid.store.schema import among, commitments, deliveries, ledger
from orthanc_deid.store.sql import EACH, rows_of, select_in, update_in

_stored = among(deliveries.c.state, STORED)
_other = deliveries.alias("other")
_on_its_way = sa.exists().where(
    _other.c.project == deliveries.c.project,
    _other.c.destination == deliveries.c.destination,
    _other.c.out_study == deliveries.c.out_study,
    sa.or_(among(_other.c.state, PENDING), among(_other.c.state, SENDING)),
)


def to_ask(
    conn: Connection, destination: str, now: float, patience: float, most: int, outbox: str | None = None
) -> list[ToCommit]:
    """Return outputs of one study that nobody has asked about yet (or not lately), the longest waiting first.

    A study is asked about as a whole: while others of it are on their way, `patience` seconds are waited. What is made
    again comes when it is there, and may be sent anew before; what was held or lost on that way has come to its end.
    With `outbox`, only outputs that are in it, or of which nobody knows where they are.
    """
    columns = (deliveries.c.id, deliveries.c.ledger_id, ledger.c.out_sop, ledger.c.out_digest)
    mine = (
        sa.select(*columns, deliveries.c.project, deliveries.c.out_study)
        .join(ledger, ledger.c.id == deliveries.c.ledger_id)
        .where(_stored, deliveries.c.destination == destination, ledger.c.state == RELEASED)
        .where(deliveries.c.transaction_uid.is_(None), deliveries.c.next_try <= now)
        .where(within(sa.literal(outbox, sa.String)))
    )
    quiet = sa.or_(~_on_its_way, deliveries.c.updated <= now - patience)
    # Not by id: what could not be asked about would come first for ever, and nothing else of its receiver would.
    first = conn.execute(mine.where(quiet).order_by(deliveries.c.next_try, deliveries.c.id).limit(1)).first()
    if first is None:
        return []
    study = mine.where(deliveries.c.project == first.project, deliveries.c.out_study == first.out_study)
    return [ToCommit(*row[:4]) for row in conn.execute(study.order_by(deliveries.c.id).limit(most))]


def begin(conn: Connection, transaction_uid: str, destination: str, ids: Sequence[int], now: float, due: float) -> None:
    """Write down that a receiver is asked to commit to these deliveries' outputs, unless others have asked by now."""
    conn.execute(
        sa.insert(commitments).values(transaction_uid=transaction_uid, destination=destination, asked=now, due=due)
    )
    unasked = sa.update(deliveries).where(_stored, deliveries.c.transaction_uid.is_(None))
    update_in(conn, unasked.values(transaction_uid=transaction_uid), deliveries.c.id, ids)


def answered(conn: Connection, transaction_uid: str, out_sops: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Return output UID → delivery and project of those that a transaction is about and that still wait for it."""
    query = (
        sa.select(deliveries.c.id, deliveries.c.project, ledger.c.out_sop)
        .join(ledger, ledger.c.id == deliveries.c.ledger_id)
        .where(_stored, deliveries.c.transaction_uid == transaction_uid)
    )
    return {row.out_sop: (row.id, row.project) for row in select_in(conn, query, ledger.c.out_sop, out_sops)}


def stored(conn: Connection, project: str, destination: str, most: int) -> list[int]:
    """Return deliveries of a project that a receiver has stored and not committed to, whether it was asked or not."""
    query = sa.select(deliveries.c.id).where(
        _stored, deliveries.c.destination == destination, deliveries.c.project == project
    )
    return [row.id for row in conn.execute(query.order_by(deliveries.c.id).limit(most))]


def known(conn: Connection, transaction_uid: str) -> str | None:
    """Return the destination that a transaction was asked of, None for one that is not waited for."""
    query = sa.select(commitments.c.destination).where(commitments.c.transaction_uid == transaction_uid)
    return conn.execute(query).scalar_one_or_none()


def put_off(conn: Connection, transaction_uid: str, until: float) -> None:
    """Ask about what a transaction has not settled again, by another one, after a time; this one is not waited for."""
    conn.execute(
        sa.update(deliveries)
        .where(_stored, deliveries.c.transaction_uid == transaction_uid)
        .values(transaction_uid=None, next_try=until)
    )
    conn.execute(sa.delete(commitments).where(commitments.c.transaction_uid == transaction_uid))


def defer(conn: Connection, ids: Sequence[int], until: float) -> None:
    """Ask about these deliveries' outputs after a time: they could not be asked about, and others have their turn."""
    unasked = sa.update(deliveries).where(_stored, deliveries.c.transaction_uid.is_(None))
    update_in(conn, unasked.values(next_try=until), deliveries.c.id, ids)


def ended(conn: Connection, ledger_ids: Sequence[int]) -> list[int]:
    """Return which rows have come to the end of their way: the files of their outputs are not needed any more."""
    query = sa.select(ledger.c.id).where(ledger.c.id.in_(EACH), ledger.c.state.not_in(sorted(OPEN)))
    return [row.id for row in rows_of(conn, query, ledger_ids)]


def unwanted(conn: Connection, wanted: Sequence[str]) -> list[str]:
    """Return the transactions that were asked of other destinations than these."""
    query = sa.select(commitments.c.transaction_uid).where(commitments.c.destination.not_in(list(wanted)))
    return [row[0] for row in conn.execute(query)]


def overdue(conn: Connection, now: float) -> list[str]:
    """Return the transactions whose answer has not come in time."""
    return [row[0] for row in conn.execute(sa.select(commitments.c.transaction_uid).where(commitments.c.due <= now))]
