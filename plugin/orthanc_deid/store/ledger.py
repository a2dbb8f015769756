"""The ledger's transitions: every statement that changes the state of an instance is on this page.

One row per (project, source instance, source digest):

    add_many ─────▶ queued ◀──────▶ paused            (a job is paused and resumed)
                      │ claim ▲ give_back, requeue_orphans
                      ▼       │
                    working ──┴─ finish_many ─▶ ready ─ release_rows ─▶ released ─ settle ─▶ confirmed
                                     │                                        or refused or conflict
                                     └─▶ quarantined, rejected or source-lost

    recalled     what was sent of it is taken back, and it does not go again by itself (recalls.py)
    superseded   new content under the same source id took its place before anything had left
    source-lost  Orthanc has the source no more, or other content in its place, and no outcome had been reached
    excluded     a person decided that it stays out
    cancelled    the job that brought it in was cancelled first

Every function works inside the caller's transaction, takes any number of rows, and changes only rows that are in the
state it starts from: asking twice does nothing twice.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store import identities, job_items, knowledge
from orthanc_deid.store.arrivals import add_many
from orthanc_deid.store.counting import confirmed_since
from orthanc_deid.store.reading import (
    backlog,
    counts,
    find,
    get,
    known_sources,
    knows_output,
    live_outputs,
    oldest_unfinished,
    quarantine,
    quarantine_count,
    reasons,
    unfinished,
)
from orthanc_deid.store.rows import (
    ANY_PRIORITY,
    CANCELLED,
    CONFIRMED,
    CONFLICT,
    EXCLUDED,
    GONE,
    LOCAL,
    ORTHANC,
    PAUSED,
    PENDING,
    QUARANTINED,
    QUEUED,
    READY,
    RECALLING,
    REFUSED,
    REJECTED,
    RELEASED,
    REPLACE,
    SENDING,
    SOURCE_LOST,
    SPOOL,
    STATES,
    TERMINAL,
    TODO,
    UNFINISHED,
    UNSETTLED,
    WORKING,
    Added,
    Backlog,
    Finished,
    KnownSource,
    LedgerRow,
    NewSource,
    Outcome,
    Output,
    QuarantineRow,
    Unfinished,
    Work,
)
from orthanc_deid.store.schema import among, deliveries, ledger
from orthanc_deid.store.sql import CHUNK, EACH, change, chunks, insert_ignore, rows_of, select_in, update_in

__all__ = [
    "GONE", "STATES", "TERMINAL", "UNFINISHED",
    "Added", "Backlog", "Finished", "KnownSource", "LedgerRow", "NewSource", "Outcome", "Output", "QuarantineRow",
    "Unfinished", "Work",
    "add_many", "backlog", "claim", "claimed", "confirmed_since", "counts", "exclude", "find", "finish_many",
    "get", "give_back", "known_sources", "knows_output", "landed", "live_outputs", "mark_changed", "mark_lost",
    "oldest_unfinished", "quarantine", "quarantine_count", "reasons", "release_rows", "remake", "renew", "requeue",
    "requeue_orphans", "retry", "settle", "unfinished",
]  # fmt: skip


_its = ledger.c.id.in_(EACH)
_queued = (
    sa.select(ledger.c.id)
    .where(ledger.c.project == sa.bindparam("of_project"), among(ledger.c.state, QUEUED))
    .where(ledger.c.series_index == sa.bindparam("of_series"), ledger.c.priority <= sa.bindparam("worst"))
    .order_by(ledger.c.priority, ledger.c.id)
    .limit(sa.bindparam("most"))
    .with_for_update(skip_locked=True)
)
_take = (
    sa.update(ledger)
    .where(_its, ledger.c.state == QUEUED)
    .values(state=WORKING, owner=sa.bindparam("by"), attempt=ledger.c.attempt + 1, updated=sa.bindparam("now"))
    .returning(
        ledger.c.id,
        ledger.c.project,
        ledger.c.source_sealed,
        ledger.c.source_digest,
        ledger.c.series_index,
        ledger.c.study_index,
        ledger.c.attempt,
        ledger.c.job_id,
        ledger.c.push,
        ledger.c.origin,
        ledger.c.spool,
        ledger.c.priority,
    )
)
_working = (
    sa.select(ledger.c.id, ledger.c.source_index, ledger.c.study_index, ledger.c.out_digest, ledger.c.priority)
    # By id: given the choice, SQLite takes an index that begins with the project, and reads all of it.
    .where(_its, ledger.c.project + "" == sa.bindparam("of_project"), ledger.c.state == WORKING)
    .order_by(ledger.c.id)
    .with_for_update()
)
_working_by = _working.where(ledger.c.owner == sa.bindparam("by"))
_finished = (
    "state", "reason", "tag", "findings", "subject_index", "out_patient", "out_study", "out_series", "out_sop",
    "out_orthanc_id", "out_digest", "out_size", "plan_digest", "known_revision", "late", "owner", "outbox",
    "updated",
)  # fmt: skip
_UIDS = ("out_patient", "out_study", "out_series", "out_sop", "out_orthanc_id")


def _outcome_of(name: str) -> sa.ColumnElement[Any]:
    """Return what a column becomes; the UIDs stay where there is no output, since an earlier one may have been sent."""
    value: sa.BindParameter[Any] = sa.bindparam(f"to_{name}", type_=ledger.c[name].type)
    return sa.func.coalesce(value, ledger.c[name]) if name in _UIDS else value


_finish = (
    sa.update(ledger)
    .where(ledger.c.id == sa.bindparam("row_id"), ledger.c.state == WORKING)
    .values({name: _outcome_of(name) for name in _finished})
)
_let_go = (
    sa.update(ledger)
    .where(_its, ledger.c.state == READY)
    .values(state=RELEASED, updated=sa.bindparam("now"))
    .returning(ledger.c.id, ledger.c.push)
)
_on_their_way = sa.select(ledger.c.id, ledger.c.project, ledger.c.out_study, ledger.c.priority).where(
    _its, ledger.c.state.in_([READY, RELEASED])
)
_its_bytes = sa.select(ledger.c.out_digest).where(ledger.c.id == deliveries.c.ledger_id).scalar_subquery()


def _other_bytes(which: sa.ColumnElement[bool]) -> sa.Update:
    """Let deliveries that carried other bytes than the row's begin again; what may be there goes first, if that is
    meant."""
    return (
        sa.update(deliveries)
        .where(
            which,
            sa.or_(deliveries.c.recall.is_(None), deliveries.c.recall == REPLACE),
            sa.or_(
                deliveries.c.state.not_in([PENDING, SENDING, RECALLING, TODO]),
                sa.and_(deliveries.c.state == PENDING, deliveries.c.recall == REPLACE),
            ),
            sa.or_(
                deliveries.c.sent_digest != _its_bytes,
                # Refused before a byte had left: of which bytes that was is not written down.
                sa.and_(deliveries.c.state == REFUSED, deliveries.c.sent_digest.is_(None)),
            ),
        )
        .values(
            state=sa.case((deliveries.c.recall == REPLACE, RECALLING), else_=PENDING),
            next_try=sa.bindparam("now"),
            updated=sa.bindparam("now"),
            reason=None,
        )
    )


def _as_it_was(which: sa.ColumnElement[bool]) -> sa.Update:
    """Leave deliveries that carried the row's very bytes where they are."""
    return (
        sa.update(deliveries)
        .where(
            which,
            deliveries.c.recall == REPLACE,
            deliveries.c.state.not_in([SENDING, RECALLING, TODO]),
            deliveries.c.sent_digest == _its_bytes,
        )
        .values(recall=None, there=None)
    )


_theirs = deliveries.c.ledger_id.in_(EACH)
_begin_again = _other_bytes(sa.and_(_theirs, deliveries.c.destination.in_(sa.bindparam("to", expanding=True))))
_leave = _as_it_was(_theirs)
_has_output = sa.exists().where(ledger.c.id == deliveries.c.ledger_id, ledger.c.state.in_([READY, RELEASED]))
_landed = sa.and_(deliveries.c.id.in_(EACH), _has_output)
_landed_begin_again = _other_bytes(_landed)
_landed_leave = _as_it_was(_landed)
# Locked: of two services that end the last two deliveries of a row, the second sees what the first has written.
_released = sa.select(ledger.c.id).where(_its, ledger.c.state == RELEASED).order_by(ledger.c.id).with_for_update()
_fates = sa.select(deliveries.c.ledger_id, deliveries.c.state, deliveries.c.reason).where(
    deliveries.c.ledger_id.in_(EACH)
)
_close = (
    sa.update(ledger)
    .where(_its, ledger.c.state == RELEASED)
    .values(
        state=sa.bindparam("to_state"),
        reason=sa.bindparam("to_reason"),
        confirmed=sa.func.coalesce(sa.bindparam("at"), ledger.c.confirmed),
        updated=sa.bindparam("now"),
    )
)


# queued → working
def claim(
    conn: Connection,
    project: str,
    series_index: str,
    limit: int,
    owner: str,
    now: float,
    *,
    worst: int = ANY_PRIORITY,
) -> list[Work]:
    """Take up to `limit` queued rows of a series for `owner`: the best priority first, and of one the oldest.

    Those of a worse priority than `worst` stay. No two callers get the same row.
    """
    # Two statements: within one, PostgreSQL may run the inner query several times and so go beyond its limit.
    where = {"of_project": project, "of_series": series_index, "most": limit, "worst": worst}
    ids = [row.id for row in conn.execute(_queued, where)]
    works = (Work(*row) for row in rows_of(conn, _take, ids, by=owner, now=now))
    return sorted(works, key=lambda work: (work.priority, work.id))


# working → queued
def give_back(conn: Connection, ids: Iterable[int], now: float, *, count: bool = True, owner: str | None = None) -> int:
    """Put claimed rows back after a failure that will pass; without `count` the attempt is taken back too.

    With `owner`, only those that it still has.
    """
    values: dict[str, Any] = {"state": QUEUED, "owner": None, "updated": now}
    if not count:
        values["attempt"] = ledger.c.attempt - 1
    statement = sa.update(ledger).where(ledger.c.state == WORKING)
    if owner is not None:
        statement = statement.where(ledger.c.owner == owner)
    return update_in(conn, statement.values(**values), ledger.c.id, ids)


def claimed(conn: Connection, owner: str, before: float) -> list[int]:
    """Return the rows that an owner has claimed before a time and not given back or finished."""
    mine = sa.and_(among(ledger.c.state, WORKING), ledger.c.owner == owner)
    query = sa.select(ledger.c.id).where(mine, ledger.c.updated < before)
    return [row.id for row in conn.execute(query)]


# working → queued
def requeue_orphans(
    conn: Connection,
    now: float,
    *,
    owner: str | None = None,
    project: str | None = None,
    series_index: str | None = None,
) -> int:
    """Put rows back whose worker is gone: those of an owner, of a series, or (at the start of the only service) all."""
    statement = sa.update(ledger).where(among(ledger.c.state, WORKING))
    for column, value in ((ledger.c.owner, owner), (ledger.c.project, project), (ledger.c.series_index, series_index)):
        if value is not None:
            statement = statement.where(column == value)
    return conn.execute(statement.values(state=QUEUED, owner=None, updated=now)).rowcount


# working → ready | quarantined | rejected | source-lost
def finish_many(
    conn: Connection,
    project: str,
    outcomes: Sequence[Outcome],
    now: float,
    *,
    owner: str | None = None,
    outbox: str | None = None,
) -> list[Finished]:
    """Record what the work of `owner` came to, in the order given; its outputs lie in `outbox`.

    An outcome that is ready becomes quarantined (`identity-contradiction`) where it contradicts what is known of its
    subject, study or output UID. Rows that are no longer worked on (superseded, cancelled), or by somebody else by now,
    are left as they are.
    """
    query, by = (_working, {}) if owner is None else (_working_by, {"by": owner})
    rows = rows_of(conn, query, sorted(outcome.id for outcome in outcomes), of_project=project, **by)
    sources = {row.id: row for row in rows}
    mine = [outcome for outcome in outcomes if outcome.id in sources]
    for outcome in mine:
        if outcome.state not in (READY, QUARANTINED, REJECTED, SOURCE_LOST):
            raise ValueError(f"{outcome.state} is no outcome of work")
        if outcome.state == READY and (outcome.output is None or outcome.subject is None):
            raise ValueError("a ready instance needs its output and subject")
    ready = [outcome for outcome in mine if outcome.state == READY]
    kinds, revisions = identities.settle(conn, project, ready, sources, now)
    done: dict[int, Finished] = {}
    good = knowledge.learn(conn, project, [outcome for outcome in ready if outcome.id not in kinds], revisions)
    updates = []
    for outcome in mine:
        state, reason, findings = outcome.state, outcome.reason, outcome.findings
        if outcome.id in kinds:
            state, reason, findings = QUARANTINED, "identity-contradiction", [{"contradiction": kinds[outcome.id]}]
        row = _finished_row(outcome, state, reason, findings, good.get(outcome.id), now)
        updates.append(row | {"to_outbox": outbox if outcome.output is not None else None})
        before = sources[outcome.id].out_digest
        same = outcome.output is not None and outcome.output.digest == before
        priority = sources[outcome.id].priority
        done[outcome.id] = Finished(outcome.id, state, reason, True, None if same else before, priority)
    if updates:
        conn.execute(_finish, updates)
    gone = [outcome.id for outcome in outcomes if outcome.id not in done]
    now_states = sa.select(ledger.c.id, ledger.c.state, ledger.c.reason)
    for row in select_in(conn, now_states, ledger.c.id, gone):
        done[row.id] = Finished(row.id, row.state, row.reason, False)
    return [done[outcome.id] for outcome in outcomes if outcome.id in done]


def _finished_row(
    outcome: Outcome, state: str, reason: str | None, findings: Any, known_revision: int | None, now: float
) -> dict[str, Any]:
    output = outcome.output
    values = {
        "state": state,
        "reason": reason,
        "tag": outcome.tag,
        "findings": None if findings is None else json.dumps(findings),
        "subject_index": outcome.subject.index if outcome.subject else None,
        "out_patient": output.patient if output else None,
        "out_study": output.study if output else None,
        "out_series": output.series if output else None,
        "out_sop": output.sop if output else None,
        "out_orthanc_id": output.orthanc_id if output else None,
        "out_digest": output.digest if output else None,
        "out_size": output.size if output else None,
        "plan_digest": output.plan_digest if output else None,
        "known_revision": known_revision,
        "late": None,
        "owner": None,
        "outbox": None,
        "updated": now,
    }
    return {"row_id": outcome.id, **{f"to_{name}": values[name] for name in _finished}}


# ready → released (→ confirmed at once where nothing has to be delivered)
def release_rows(conn: Connection, ids: Iterable[int], destinations: Sequence[str], now: float) -> list[int]:
    """Let ready rows go to the destinations; rows that are not to be pushed are released without. Returns their ids."""
    released: list[int] = []
    for chunk in chunks(ids):
        rows = conn.execute(_let_go, {"each": chunk, "now": now}).fetchall()
        job_items.unfold(conn, [row.id for row in rows])
        deliver(conn, [row.id for row in rows if row.push], destinations, now)
        # What is not to be pushed may have been sent all the same, because a person asked.
        _look_again(conn, [row.id for row in rows if not row.push], destinations, now)
        released.extend(sorted(row.id for row in rows))
    settle(conn, released, now)
    return released


def deliver(conn: Connection, ids: Sequence[int], destinations: Sequence[str], now: float) -> int:
    """Make pending deliveries of rows that are ready or released; one that carried other bytes begins again."""
    made = 0
    for row_chunk in chunks(rows_of(conn, _on_their_way, ids), CHUNK):
        rows = [
            {
                "ledger_id": row.id,
                "project": row.project,
                "out_study": row.out_study,
                "destination": destination,
                "priority": row.priority,
            }
            for row in row_chunk
            for destination in destinations
        ]
        insert_ignore(conn, deliveries, [{**row, "state": PENDING, "next_try": now, "updated": now} for row in rows])
        made += len(rows)
    _look_again(conn, ids, destinations, now)
    return made


def _look_again(conn: Connection, ids: Sequence[int], destinations: Sequence[str], now: float) -> None:
    change(conn, _begin_again, ids, to=list(destinations), now=now)
    change(conn, _leave, ids)


def landed(conn: Connection, delivery_ids: Sequence[int], now: float) -> None:
    """Look at deliveries that were on their way while their rows were made anew, as `deliver` does at the others.

    Where the new output is not there yet, `deliver` comes later and sees them itself.
    """
    change(conn, _landed_begin_again, delivery_ids, now=now)
    change(conn, _landed_leave, delivery_ids)


# released → confirmed | refused | conflict
def settle(conn: Connection, ids: Iterable[int], now: float) -> list[int]:
    """Close released rows of which nothing is left to deliver; the worst delivery decides. Returns the closed ids."""
    ids = list(ids)
    open_rows = [row.id for row in rows_of(conn, _released, ids)]
    states: dict[int, dict[str, str | None]] = defaultdict(dict)
    for row in rows_of(conn, _fates, open_rows):
        states[row.ledger_id][row.state] = row.reason
    groups: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for ledger_id in open_rows:
        had = states[ledger_id]
        if not UNSETTLED.isdisjoint(had):
            continue
        state = next((state for state in (CONFLICT, REFUSED) if state in had), CONFIRMED)
        groups[state, had.get(state)].append(ledger_id)
    for (state, reason), members in groups.items():
        done = state == CONFIRMED
        why = None if done else reason or state
        change(conn, _close, members, to_state=state, to_reason=why, at=now if done else None, now=now)
    return [ledger_id for members in groups.values() for ledger_id in members]


# queued | working | paused → source-lost
def mark_lost(conn: Connection, project: str, instance_indexes: Iterable[str], now: float) -> int:
    """Note that sources are gone from Orthanc before their outcome. What has an output goes on without them."""
    statement = sa.update(ledger).where(
        ledger.c.project == project, ledger.c.state.in_(UNFINISHED), ledger.c.origin == ORTHANC
    )
    values = {"state": SOURCE_LOST, "reason": SOURCE_LOST, "owner": None, "updated": now}
    return update_in(conn, statement.values(**values), ledger.c.source_index, instance_indexes)


# queued → source-lost
def mark_changed(conn: Connection, project: str, contents: Mapping[str, str], now: float) -> int:
    """Note that other content stands in the place of queued rows' sources; `contents` has the digest of what is there
    now by the instance's index. The row of that content goes on, and so does what has an output."""
    statement = (
        sa.update(ledger)
        .where(ledger.c.project == project, ledger.c.state == QUEUED, ledger.c.origin == ORTHANC)
        .where(ledger.c.source_index == sa.bindparam("of_source"), ledger.c.source_digest != sa.bindparam("present"))
        .values(state=SOURCE_LOST, reason=SOURCE_LOST, updated=now)
    )
    return sum(
        conn.execute(statement, {"of_source": index, "present": digest}).rowcount
        for index, digest in sorted(contents.items())
    )


# quarantined | rejected | source-lost | cancelled | excluded → queued
def retry(conn: Connection, ids: Iterable[int], now: float) -> list[tuple[int, str, str]]:
    """Queue rows once more because a person or job asked. Returns (id, project, series_index) of those that were."""
    states = [QUARANTINED, REJECTED, SOURCE_LOST, CANCELLED, EXCLUDED]
    return _requeue(conn, ids, states, now, {"attempt": 0, "reason": None, "tag": None, "findings": None})


# ready | released → queued
def remake(conn: Connection, ids: Iterable[int], now: float) -> list[tuple[int, str, str]]:
    """Queue rows whose file in the outbox is missing or damaged: the source makes it anew. Deliveries are kept."""
    return _requeue(conn, ids, [READY, RELEASED], now, {})


# ready | released → queued
def renew(conn: Connection, ids: Iterable[int], now: float) -> list[tuple[int, str, str]]:
    """Queue rows whose output was made before something was learnt of its subject. Deliveries are kept."""
    return _requeue(conn, ids, [READY, RELEASED], now, {"attempt": 0})


def requeue(conn: Connection, ids: Iterable[int], states: Sequence[str], now: float) -> list[tuple[int, str, str]]:
    """Queue rows in these states once more, as if nobody had tried yet. Deliveries are kept.

    Rows whose file has left the spool are not: their outcome would be given up for nothing.
    """
    values = {"attempt": 0, "reason": None, "tag": None, "findings": None}
    return _requeue(conn, ids, states, now, values, sa.or_(ledger.c.origin != SPOOL, ledger.c.spool.is_not(None)))


def _requeue(
    conn: Connection,
    ids: Iterable[int],
    states: Sequence[str],
    now: float,
    values: dict[str, Any],
    which: sa.ColumnElement[bool] | None = None,
) -> list[tuple[int, str, str]]:
    statement = sa.update(ledger).where(ledger.c.state.in_(states))
    if which is not None:
        statement = statement.where(which)
    statement = statement.values(state=QUEUED, owner=None, updated=now, **values)
    returning = statement.returning(ledger.c.id, ledger.c.project, ledger.c.series_index)
    found: list[tuple[int, str, str]] = []
    for chunk in chunks(ids):
        found.extend(
            (row.id, row.project, row.series_index) for row in conn.execute(returning.where(ledger.c.id.in_(chunk)))
        )
    job_items.unfold(conn, [row_id for row_id, _, _ in found])
    return sorted(found)


# quarantined | rejected | source-lost | queued | paused | ready → excluded; refused | conflict, too, if nobody took it
def exclude(conn: Connection, ids: Iterable[int], now: float) -> int:
    """Keep rows out for good, because a person says so; their waiting deliveries to this Orthanc go with them.

    What one of several peers has confirmed is not out, whatever the others said of it.
    """
    ids = list(ids)
    states = [QUARANTINED, REJECTED, SOURCE_LOST, QUEUED, PAUSED, READY]
    taken = sa.exists().where(
        deliveries.c.ledger_id == ledger.c.id, deliveries.c.destination != LOCAL, deliveries.c.state == CONFIRMED
    )
    may = sa.or_(ledger.c.state.in_(states), sa.and_(ledger.c.state.in_([REFUSED, CONFLICT]), ~taken))
    statement = sa.update(ledger).where(may).values(state=EXCLUDED, updated=now)
    changed = update_in(conn, statement, ledger.c.id, ids)
    job_items.unfold(conn, ids)
    out = sa.exists().where(ledger.c.id == deliveries.c.ledger_id, ledger.c.state == EXCLUDED)
    waiting = sa.delete(deliveries).where(deliveries.c.destination == LOCAL, deliveries.c.state == PENDING, out)
    update_in(conn, waiting, deliveries.c.ledger_id, ids)
    return changed
