"""The services that share one PostgreSQL: who lives, who leads, and what a dead one leaves to the others.

A service writes its beat by the database's clock, so those of the machines do not matter. One whose beat is too old is
dead: its row goes, and with the row its claims (whatever is claimed by nobody who lives is queued again) and its outbox
(outputs in it are made again from their sources). One that was only paused finds its row gone, and ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.rows import OPEN, PENDING, QUEUED, READY, RELEASED, SENDING, WORKING
from orthanc_deid.store.schema import among, deliveries, leases, ledger, services
from orthanc_deid.store.sql import insert_ignore

LEADER = "leader"


@dataclass(frozen=True, slots=True)
class Beat:
    """What a beat came to: the database's time, whether this service still counts as alive, and whether it leads."""

    now: float
    lives: bool
    leads: bool
    stale: tuple[str, ...] = ()
    """The outboxes of services whose beat is too old."""


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A service that lives, for people."""

    owner: str
    outbox: str
    name: str
    started: float
    beat: float
    leads: bool


def clock(conn: Connection) -> float:
    """Return the database's time; on SQLite that is this machine's."""
    if conn.dialect.name == "sqlite":
        return float(conn.execute(sa.text("SELECT (julianday('now') - 2440587.5) * 86400.0")).scalar_one())
    return float(conn.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())


def register(conn: Connection, owner: str, outbox: str, name: str) -> None:
    """Begin a run of a service; whoever used its outbox before is dead, since the folder is locked."""
    now = clock(conn)
    conn.execute(sa.delete(services).where(services.c.outbox == outbox))
    conn.execute(
        sa.insert(services).values(owner=owner, outbox=outbox, name=name[:100], started=now, beat=now),
    )
    insert_ignore(conn, leases, [{"name": LEADER, "owner": owner, "term": 1}])


def beat(conn: Connection, owner: str, lease_seconds: float) -> Beat:
    """Say that a service lives; take the lead where nobody who lives has it."""
    now = clock(conn)
    lives = conn.execute(sa.update(services).where(services.c.owner == owner).values(beat=now)).rowcount == 1
    if not lives:
        return Beat(now, False, False)
    held = conn.execute(sa.select(leases).where(leases.c.name == LEADER)).one()
    alive = sa.select(services.c.owner).where(services.c.owner == held.owner, services.c.beat > now - lease_seconds)
    if held.owner != owner and conn.execute(alive).first() is None:
        # Of two who see that nobody leads, the second finds another term.
        free = sa.update(leases).where(leases.c.name == LEADER, leases.c.term == held.term)
        taken = conn.execute(free.values(owner=owner, term=held.term + 1)).rowcount == 1
        return Beat(now, True, taken, _stale(conn, now - lease_seconds))
    return Beat(now, True, held.owner == owner, _stale(conn, now - lease_seconds))


def _stale(conn: Connection, before: float) -> tuple[str, ...]:
    rows = conn.execute(sa.select(services.c.outbox).where(services.c.beat <= before).order_by(services.c.owner))
    return tuple(row.outbox for row in rows)


def bury(conn: Connection, lease_seconds: float) -> int:
    """Take the rows of the dead away; returns how many there were."""
    before = clock(conn) - lease_seconds
    return conn.execute(sa.delete(services).where(services.c.beat <= before)).rowcount


# working → queued, sending → pending, and outputs that nobody has
def inherit(conn: Connection, now: float) -> tuple[int, int, int]:
    """Give back what is claimed by nobody who lives: rows, deliveries, and outputs in outboxes that are gone.

    A delivery stays written down as attempted: its bytes may have arrived. An output without an outbox is looked for by
    whoever is to send it, and made again from its source.
    """
    living = sa.select(services.c.owner)
    works = sa.update(ledger).where(among(ledger.c.state, WORKING), _not_of(ledger.c.owner, living))
    sends = sa.update(deliveries).where(among(deliveries.c.state, SENDING), _not_of(deliveries.c.owner, living))
    files = sa.update(ledger).where(
        among(ledger.c.state, *OPEN),
        ledger.c.state.in_([READY, RELEASED]),
        ledger.c.outbox.is_not(None),
        ledger.c.outbox.not_in(sa.select(services.c.outbox)),
    )
    return (
        conn.execute(works.values(state=QUEUED, owner=None, updated=now)).rowcount,
        conn.execute(sends.values(state=PENDING, owner=None, next_try=now, updated=now)).rowcount,
        conn.execute(files.values(outbox=None, updated=now)).rowcount,
    )


def _not_of(column: sa.Column[Any], owners: sa.Select[Any]) -> sa.ColumnElement[bool]:
    return sa.or_(column.is_(None), column.not_in(owners))


def leave(conn: Connection, owner: str) -> None:
    """End a run in order: the lead is free at once; the outbox stays, for the next run or until it is too old."""
    conn.execute(
        sa.update(leases)
        .where(leases.c.name == LEADER, leases.c.owner == owner)
        .values(owner="", term=leases.c.term + 1)
    )


def leads(conn: Connection, owner: str) -> bool:
    """Whether a service leads now; that stays so until the end of the transaction."""
    held = sa.select(leases.c.owner).where(leases.c.name == LEADER).with_for_update(read=True)
    return conn.execute(held).scalar_one_or_none() == owner


def living(conn: Connection) -> list[ServiceRow]:
    """Return the services that live, the oldest first."""
    leader = conn.execute(sa.select(leases.c.owner).where(leases.c.name == LEADER)).scalar_one_or_none()
    rows = conn.execute(sa.select(services).order_by(services.c.started, services.c.owner))
    return [ServiceRow(row.owner, row.outbox, row.name, row.started, row.beat, row.owner == leader) for row in rows]
