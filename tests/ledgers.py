"""Rows for tests of the store: sources, outcomes, and short ways through the states. Fresh objects each time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.identity.subjects import Identity, identity_of
from orthanc_deid.identity.vault import Vault
from orthanc_deid.store import deliveries, ledger
from orthanc_deid.store.rows import Added, Finished, NewSource, Outcome, Output, Sent, ToSend, Work

PROJECT = "lung"
KEYS = MasterKey({1: bytes(range(32))}).project(PROJECT)
VAULT = Vault(KEYS)
PEER = deliveries.peer("research")


def sha(text: str) -> str:
    """Stand in for a digest."""
    return hashlib.sha256(text.encode()).hexdigest()


def source(name: str, *, study: str = "1.2.3", series: str = "series-a", digest: str | None = None) -> NewSource:
    """An instance by its Orthanc id."""
    return NewSource(
        VAULT.ref("instance", name), VAULT.ref("series", series), VAULT.ref("study", study), digest or sha(name)[:32]
    )


def subject(patient_id: str = "1CT1", birth_date: str = "", sex: str = "") -> Identity:
    """A subject."""
    return identity_of(KEYS, "default", patient_id, birth_date, sex)


def output(name: str, *, who: Identity | None = None, study: str = "1.2.3", content: str = "") -> Output:
    """The output of an instance by its name: `name` decides its UIDs, `content` its bytes."""
    return Output(
        patient=(who or subject()).subject.pseudonym,
        study=f"2.25.{int(sha(study)[:12], 16)}",
        series="2.25.2",
        sop=f"2.25.{int(sha(name)[:12], 16)}",
        orthanc_id=sha(name)[:40],
        digest=sha(name + content),
        size=1000,
        plan_digest="p" * 64,
    )


def ready(row_id: int, name: str, *, who: Identity | None = None, **output_arguments: Any) -> Outcome:
    """The outcome of an instance that came through."""
    who = who or subject()
    return Outcome(row_id, "ready", output=output(name, who=who, **output_arguments), subject=who.seen)


def add(conn: Any, *names: str, now: float = 100.0, **arguments: Any) -> list[Added]:
    """Queue instances of one series."""
    return ledger.add_many(conn, PROJECT, [source(name) for name in names], now, **arguments)


def claim(conn: Any, series: str = "series-a", *, limit: int = 100, now: float = 101.0, **more: Any) -> list[Work]:
    """Take what is queued of a series."""
    return ledger.claim(conn, PROJECT, VAULT.index("series", series), limit, "service-1", now, **more)


def finish(conn: Any, *outcomes: Outcome, now: float = 102.0) -> list[Finished]:
    """Record outcomes."""
    return ledger.finish_many(conn, PROJECT, outcomes, now)


def make_ready(conn: Any, *names: str, now: float = 100.0, **arguments: Any) -> list[int]:
    """Queue instances and bring them through; returns their ids in order."""
    added = add(conn, *names, now=now, **arguments)
    claim(conn, now=now, limit=1000)
    finish(conn, *(ready(row.id, name) for row, name in zip(added, names, strict=True)), now=now)
    return [row.id for row in added]


def make_released(
    conn: Any, *names: str, destinations: Sequence[str] = (PEER,), now: float = 100.0, **arguments: Any
) -> list[int]:
    """Bring instances through and release them."""
    return ledger.release_rows(conn, make_ready(conn, *names, now=now, **arguments), destinations, now)


def take(conn: Any, destination: str = PEER, *, now: float = 200.0, **arguments: Any) -> list[ToSend]:
    """Claim what is due for a destination."""
    return deliveries.claim(conn, PROJECT, destination, 100, "service-1", now, **arguments)


def sent(conn: Any, *results: Sent, now: float = 201.0) -> list[int]:
    """Record results of deliveries."""
    return deliveries.finish_many(conn, results, now)


def state(conn: Any, row_id: int) -> str:
    """Return a row's state."""
    row = ledger.get(conn, row_id)
    assert row is not None
    return row.state
