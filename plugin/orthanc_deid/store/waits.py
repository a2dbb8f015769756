"""Waits that are written down as a time of day: they move along when the machine's clock is set."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.rows import PENDING, STORED
from orthanc_deid.store.schema import among, commitments, deliveries, studies

LONGEST_SECONDS = 300.0
"""No delivery is put off for longer; what says otherwise was written by another clock."""


def shift(conn: Connection, by: float, now: float, longest_quiet: float) -> None:
    """Move what waits by `by` seconds, to the clock that tells `now`; studies that were quiet before stay quiet.

    Nothing waits for longer than it may because of this, whoever else has written with a clock of its own.
    """
    for state in (PENDING, STORED):
        waiting = among(deliveries.c.state, state)
        conn.execute(sa.update(deliveries).where(waiting).values(next_try=deliveries.c.next_try + by))
    conn.execute(sa.update(commitments).values(due=commitments.c.due + by))
    recent = studies.c.last_arrival > min(now, now - by) - longest_quiet
    conn.execute(sa.update(studies).where(recent).values(last_arrival=studies.c.last_arrival + by))
    bound(conn, now)


def bound(conn: Connection, now: float) -> int:
    """Let nothing wait for a time that only a clock that went back explains; returns how much did."""
    later = deliveries.c.next_try > now + LONGEST_SECONDS
    statements: tuple[Any, ...] = (
        sa.update(deliveries).where(among(deliveries.c.state, PENDING), later).values(next_try=now),
        sa.update(deliveries).where(among(deliveries.c.state, STORED), later).values(next_try=now),
        sa.update(studies).where(studies.c.last_arrival > now).values(last_arrival=now),
    )
    return sum(conn.execute(statement).rowcount for statement in statements)
