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

from orthanc_deid.store.rows import PENDING, SENDING, STORED, ToCommit
from orthanc_deid.store.schema import among, commitments, deliveries, ledger
from orthanc_deid.store.sql import select_in, update_in

_stored = among(deliveries.c.state, STORED)
_other = deliveries.alias("other")
_on_its_way = sa.exists().where(
    _other.c.project == deliveries.c.project,
    _other.c.destination == deliveries.c.destination,
    _other.c.out_study == deliveries.c.out_study,
    sa.or_(among(_other.c.state, PENDING), among(_other.c.state, SENDING)),
)


def to_ask(conn: Connection, destination: str, now: float, patience: float, most: int) -> list[ToCommit]:
    """Return outputs of one study that nobody has asked about yet (or not lately), the longest waiting first.

    A study is asked about as a whole: while others of it are on their way, `patience` seconds are waited.
    """
    unasked = deliveries.c.transaction_uid.is_(None)
    quiet = sa.or_(~_on_its_way, deliveries.c.updated <= now - patience)
    mine = sa.and_(_stored, deliveries.c.destination == destination, unasked, deliveries.c.next_try <= now)
    first = conn.execute(
        sa.select(deliveries.c.project, deliveries.c.out_study).where(mine, quiet).order_by(deliveries.c.id).limit(1)
    ).first()
    if first is None:
        return []
    columns = (deliveries.c.id, deliveries.c.ledger_id, ledger.c.out_sop, ledger.c.out_digest)
    query = (
        sa.select(*columns)
        .join(ledger, ledger.c.id == deliveries.c.ledger_id)
        .where(mine, deliveries.c.project == first.project, deliveries.c.out_study == first.out_study)
        .order_by(deliveries.c.id)
        .limit(most)
    )
    return [ToCommit(*row) for row in conn.execute(query)]


def begin(conn: Connection, transaction_uid: str, destination: str, ids: Sequence[int], now: float, due: float) -> None:
    """Write down that a receiver is asked to commit to these deliveries' outputs."""
    conn.execute(
        sa.insert(commitments).values(transaction_uid=transaction_uid, destination=destination, asked=now, due=due)
    )
    update_in(conn, sa.update(deliveries).where(_stored).values(transaction_uid=transaction_uid), deliveries.c.id, ids)


def answered(conn: Connection, transaction_uid: str, out_sops: Sequence[str]) -> dict[str, tuple[int, str]]:
    """Return output UID → delivery and project of those that a transaction is about and that still wait for it."""
    query = (
        sa.select(deliveries.c.id, deliveries.c.project, ledger.c.out_sop)
        .join(ledger, ledger.c.id == deliveries.c.ledger_id)
        .where(_stored, deliveries.c.transaction_uid == transaction_uid)
    )
    return {row.out_sop: (row.id, row.project) for row in select_in(conn, query, ledger.c.out_sop, out_sops)}


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


def overdue(conn: Connection, now: float) -> list[str]:
    """Return the transactions whose answer has not come in time."""
    return [row[0] for row in conn.execute(sa.select(commitments.c.transaction_uid).where(commitments.c.due <= now))]
