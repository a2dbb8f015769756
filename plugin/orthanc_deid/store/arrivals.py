"""Sources enter the ledger: new ones, known ones, known ones with new content. See ledger.py for the states."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store import job_items
from orthanc_deid.store.rows import (
    CANCELLED,
    FRESH,
    GONE,
    LOCAL,
    ORTHANC,
    QUARANTINED,
    QUEUED,
    RECALLED,
    REJECTED,
    SPENT,
    SPOOL,
    SUPERSEDED,
    TERMINAL,
    Added,
    NewSource,
)
from orthanc_deid.store.schema import deliveries, ledger, studies
from orthanc_deid.store.sql import CHUNK, EACH, change, insert_ignore, rows_of, update_in

SOURCE_CHANGED = "source-changed"
_versions = sa.select(
    ledger.c.id,
    ledger.c.source_index,
    ledger.c.source_digest,
    ledger.c.source_version,
    ledger.c.series_index,
    ledger.c.study_index,
    ledger.c.state,
    ledger.c.reason,
    ledger.c.spool,
    ledger.c.priority,
).where(ledger.c.project == sa.bindparam("of_project"), ledger.c.source_index.in_(EACH))
_may_have_left = sa.select(deliveries.c.ledger_id).where(
    deliveries.c.ledger_id.in_(EACH), deliveries.c.destination != LOCAL, deliveries.c.sent_digest.is_not(None)
)
_its_studies = sa.and_(studies.c.project == sa.bindparam("of_project"), studies.c.study_index.in_(EACH))
_arrived = sa.update(studies).where(_its_studies).values(last_arrival=sa.bindparam("now"))
_reopen = sa.update(studies).where(_its_studies, studies.c.state == "released").values(state="open")
_hurry = (
    sa.update(ledger)
    .where(ledger.c.id.in_(EACH), ledger.c.priority > sa.bindparam("to_priority"))
    .values(priority=sa.bindparam("to_priority"))
)
_hurry_deliveries = (
    sa.update(deliveries)
    .where(deliveries.c.ledger_id.in_(EACH), deliveries.c.priority > sa.bindparam("to_priority"))
    .values(priority=sa.bindparam("to_priority"))
)
_NO_MORE = GONE | {CANCELLED}
_AGAIN = {QUARANTINED, REJECTED, CANCELLED}


def add_many(
    conn: Connection,
    project: str,
    sources: Sequence[NewSource],
    now: float,
    *,
    job_id: str | None = None,
    push: bool = True,
    again: bool = False,
    priority: int = FRESH,
) -> list[Added]:
    """Queue what is not in the ledger yet; returns what became of each source, in the order given.

    New content under a known source id replaces the old row (superseded) as long as nothing of it has left; if it
    has, the new row is held as `source-changed`. A source that comes back after it was lost or superseded is queued
    again. With `again` (a job asked for it) so is what was quarantined, rejected or cancelled, except for changed
    content. Rows of a job (`job_id`) are linked to it; without `push` they will not go to any peer. What is here
    and not done yet gets the better of the two priorities.

    The order given is that of arrival: of two contents of an instance, the later one comes upon the row of the earlier.
    """
    added: list[Added] = []
    for chunk in _one_content_each(sources):
        added.extend(_add(conn, project, chunk, now, job_id, push, again, priority))
    if job_id is not None:
        job_items.link(conn, job_id, [row.id for row in added])
    return added


def _one_content_each(sources: Sequence[NewSource]) -> Iterator[list[NewSource]]:
    """Cut into lists of at most CHUNK in which no instance has two contents."""
    part: list[NewSource] = []
    contents: dict[str, str] = {}
    for source in sources:
        if len(part) == CHUNK or contents.get(source.instance.index, source.digest) != source.digest:
            yield part
            part, contents = [], {}
        part.append(source)
        contents[source.instance.index] = source.digest
    if part:
        yield part


def _add(
    conn: Connection,
    project: str,
    sources: Sequence[NewSource],
    now: float,
    job_id: str | None,
    push: bool,
    again: bool,
    priority: int,
) -> list[Added]:
    rows = _known(conn, project, {source.instance.index for source in sources})
    left = _left(conn, [row.id for versions in rows.values() for row in versions.values()])
    insert: dict[tuple[str, str], dict[str, Any]] = {}
    revive: set[int] = set()
    supersede: set[int] = set()
    hold: set[int] = set()
    hurry: set[int] = set()
    stored: list[dict[str, Any]] = []
    held_by: list[dict[str, Any]] = []
    for source in sources:
        key = (source.instance.index, source.digest)
        versions = rows[source.instance.index]
        row = versions.get(source.digest)
        if row is not None and source.version and row.source_version != source.version:
            stored.append({"row_id": row.id, "version": source.version})
        if row is not None and row.priority > priority and row.state not in TERMINAL:
            hurry.add(row.id)
        if key in insert:
            continue
        revived = row is not None and _wanted_again(row, again)
        if row is not None and (revived or (source.spool and row.spool is None and row.state not in SPENT)):
            held_by.append({"row_id": row.id, "who": SPOOL if source.spool else ORTHANC, "name": source.spool})
        if row is not None and not revived:
            continue
        others = [
            other for digest, other in versions.items() if digest != source.digest and other.state not in _NO_MORE
        ]
        held = any(other.id in left or other.state == RECALLED for other in others)
        if row is not None:
            (hold if held else revive).add(row.id)
        else:
            insert[key] = _row(project, source, now, job_id, push, priority, held)
        if not held:
            supersede |= {other.id for other in others}
    if stored:
        same = sa.update(ledger).where(ledger.c.id == sa.bindparam("row_id"))
        conn.execute(same.values(source_version=sa.bindparam("version")), stored)
    if held_by:
        theirs = sa.update(ledger).where(ledger.c.id == sa.bindparam("row_id"))
        conn.execute(theirs.values(origin=sa.bindparam("who"), spool=sa.bindparam("name")), held_by)
    job_items.unfold(conn, [*revive, *hold, *supersede])
    _replace(conn, supersede, now)
    for statement in (_hurry, _hurry_deliveries):
        change(conn, statement, sorted(hurry), to_priority=priority)
    values = {"state": QUEUED, "reason": None, "tag": None, "findings": None, "attempt": 0, "owner": None}
    statement = sa.update(ledger).values(**values, job_id=job_id, push=push, priority=priority, updated=now)
    update_in(conn, statement, ledger.c.id, revive)
    statement = sa.update(ledger).values(state=QUARANTINED, reason=SOURCE_CHANGED, updated=now)
    update_in(conn, statement, ledger.c.id, hold)
    insert_ignore(conn, ledger, list(insert.values()))
    queued = {key for key, row in insert.items() if row["state"] == QUEUED}
    rows = _known(conn, project, {source.instance.index for source in sources})
    added = []
    for source in sources:
        row = rows[source.instance.index][source.digest]
        new = row.id in revive or (source.instance.index, source.digest) in queued
        added.append(Added(row.id, row.source_index, row.series_index, row.study_index, row.state, new))
    arrived = {row.study_index for row in added if row.new}
    _arrive(conn, project, [source for source in sources if source.study.index in arrived], now)
    return added


def _known(conn: Connection, project: str, indexes: set[str]) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in rows_of(conn, _versions, indexes, of_project=project):
        rows[row.source_index][row.source_digest] = row
    return rows


def _left(conn: Connection, ids: Sequence[int]) -> set[int]:
    """Which rows may have left this machine: an attempt at a peer counts from before it is made."""
    return {row.ledger_id for row in rows_of(conn, _may_have_left, ids)}


def _wanted_again(row: Any, again: bool) -> bool:
    if row.state in GONE:
        return True
    return again and row.state in _AGAIN and row.reason != SOURCE_CHANGED


def _row(
    project: str, source: NewSource, now: float, job_id: str | None, push: bool, priority: int, held: bool
) -> dict[str, Any]:
    return {
        "project": project,
        "source_index": source.instance.index,
        "source_digest": source.digest,
        "source_version": source.version or None,
        "source_sealed": source.instance.sealed,
        "origin": SPOOL if source.spool else ORTHANC,
        "spool": source.spool,
        "series_index": source.series.index,
        "study_index": source.study.index,
        "state": QUARANTINED if held else QUEUED,
        "reason": SOURCE_CHANGED if held else None,
        "job_id": job_id,
        "push": push,
        "priority": priority,
        "created": now,
        "updated": now,
    }


def _replace(conn: Connection, ids: set[int], now: float) -> None:
    update_in(conn, sa.update(ledger).values(state=SUPERSEDED, owner=None, updated=now), ledger.c.id, ids)
    # None was attempted at a peer; a copy in this Orthanc is replaced by the new content's.
    update_in(conn, sa.delete(deliveries), deliveries.c.ledger_id, ids)


def _arrive(conn: Connection, project: str, sources: Sequence[NewSource], now: float) -> None:
    """Note the arrival for the studies: a released one opens again, a held one stays held."""
    sealed = {source.study.index: source.study.sealed for source in sources}
    rows = [
        {"project": project, "study_index": index, "study_sealed": sealed[index], "last_arrival": now, "state": "open"}
        for index in sorted(sealed)
    ]
    insert_ignore(conn, studies, rows)
    change(conn, _arrived, sorted(sealed), of_project=project, now=now)
    change(conn, _reopen, sorted(sealed), of_project=project)
