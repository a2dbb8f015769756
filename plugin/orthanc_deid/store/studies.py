"""Studies: when their instances may go, and who holds them back.

open ─ release ─▶ released ─ a late arrival ─▶ open          hold ─▶ held ─ release_out ─▶ released
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.store.ledger import release_rows
from orthanc_deid.store.rows import QUARANTINED, READY, UNFINISHED, StudyDue, StudyRow
from orthanc_deid.store.schema import among, ledger, studies
from orthanc_deid.store.sql import select_in

OPEN, RELEASED, HELD = "open", "released", "held"


def due(
    conn: Connection,
    project: str,
    now: float,
    quiet_seconds: float,
    *,
    incomplete: Literal["release-rest", "hold"] = "release-rest",
) -> list[StudyDue]:
    """Return the studies that have been quiet, have instances ready, and nothing left to work on.

    With `hold`, a study waits as long as one of its instances is quarantined.
    """
    ready = _ready(conn, project)
    query = sa.select(studies.c.study_index, studies.c.out_study, studies.c.last_arrival).where(
        studies.c.project == project, studies.c.state != HELD, studies.c.last_arrival <= now - quiet_seconds
    )
    rows = sorted(select_in(conn, query, studies.c.study_index, ready), key=lambda row: row.last_arrival)
    numbers = _counts(conn, project, [row.study_index for row in rows])
    found = []
    for row in rows:
        states = numbers[row.study_index]
        unfinished = sum(states.get(state, 0) for state in UNFINISHED)
        quarantined = states.get(QUARANTINED, 0)
        if unfinished or (incomplete == "hold" and quarantined):
            continue
        found.append(
            StudyDue(
                project,
                row.study_index,
                row.out_study,
                ready[row.study_index],
                quarantined,
                unfinished,
                row.last_arrival,
            )
        )
    return found


def next_quiet(conn: Connection, project: str, quiet_seconds: float) -> float | None:
    """Return when the first of the studies with instances ready will have been quiet, None where there is none."""
    query = sa.select(sa.func.min(studies.c.last_arrival).label("first")).where(
        studies.c.project == project, studies.c.state != HELD
    )
    found = select_in(conn, query, studies.c.study_index, _ready(conn, project))
    first = min((row.first for row in found if row.first is not None), default=None)
    return None if first is None else float(first) + quiet_seconds


def _ready(conn: Connection, project: str) -> dict[str, int]:
    """Return how many instances of each study are ready.

    Asked for by itself, and the studies then by name: so a look costs as much as what waits, however many studies
    there are and whatever a database takes a join of the two for.
    """
    query = sa.select(ledger.c.study_index, sa.func.count().label("number")).where(
        ledger.c.project == project, among(ledger.c.state, READY)
    )
    return {row.study_index: row.number for row in conn.execute(query.group_by(ledger.c.study_index))}


def held(conn: Connection, ledger_ids: Sequence[int]) -> set[int]:
    """Return which rows are of a study that is held back."""
    its = (studies.c.project == ledger.c.project, studies.c.study_index == ledger.c.study_index)
    query = sa.select(ledger.c.id).join(studies, sa.and_(*its)).where(studies.c.state == HELD)
    return {row.id for row in select_in(conn, query, ledger.c.id, ledger_ids)}


# open → released
def release(conn: Connection, project: str, study_index: str, destinations: Sequence[str], now: float) -> list[int]:
    """Release all instances of a study that are ready; returns their ledger ids: none where it is held back by now."""
    its = (studies.c.project == project, studies.c.study_index == study_index)
    state = conn.execute(sa.select(studies.c.state).where(*its).with_for_update()).scalar()
    return [] if state == HELD else _release(conn, project, study_index, destinations, now)


def _release(conn: Connection, project: str, study_index: str, destinations: Sequence[str], now: float) -> list[int]:
    query = sa.select(ledger.c.id).where(
        ledger.c.project == project, ledger.c.study_index == study_index, among(ledger.c.state, READY)
    )
    ids = release_rows(conn, [row.id for row in conn.execute(query)], destinations, now)
    _set_state(conn, project, study_index, RELEASED)
    return ids


# open | held → released
def release_out(conn: Connection, project: str, out_study: str, destinations: Sequence[str], now: float) -> list[int]:
    """Release a study by its output UID, as a person does; a hold is lifted."""
    index = _find(conn, project, out_study)
    return [] if index is None else _release(conn, project, index, destinations, now)


# open | released → held
def hold(conn: Connection, project: str, out_study: str, now: float) -> bool:
    """Keep what has not been released of a study until a person releases it, by whatever rule it would have gone;
    False for an unknown study."""
    index = _find(conn, project, out_study)
    if index is None:
        return False
    _set_state(conn, project, index, HELD)
    return True


def known(conn: Connection, project: str, study_indexes: Iterable[str]) -> set[str]:
    """Return which studies have instances here that arrived by themselves, not by a job."""
    query = sa.select(ledger.c.study_index).distinct().where(ledger.c.project == project, ledger.c.job_id.is_(None))
    return {row.study_index for row in select_in(conn, query, ledger.c.study_index, study_indexes)}


def page(conn: Connection, project: str, *, after: str = "", limit: int = 100) -> list[StudyRow]:
    """Return studies that have an output, in pages by output UID."""
    query = _rows(project).where(studies.c.out_study > after).order_by(studies.c.out_study).limit(limit)
    return _with_counts(conn, project, conn.execute(query).fetchall())


def row(conn: Connection, project: str, out_study: str) -> StudyRow | None:
    """Return one study by its output UID."""
    found = conn.execute(_rows(project).where(studies.c.out_study == out_study)).fetchall()
    return next(iter(_with_counts(conn, project, found)), None)


def _rows(project: str) -> sa.Select[Any]:
    return sa.select(studies).where(studies.c.project == project, studies.c.out_study.is_not(None))


def _with_counts(conn: Connection, project: str, rows: Sequence[Any]) -> list[StudyRow]:
    numbers = _counts(conn, project, [found.study_index for found in rows])
    return [
        StudyRow(found.out_study, found.out_patient, found.state, found.last_arrival, numbers[found.study_index])
        for found in rows
    ]


def _counts(conn: Connection, project: str, study_indexes: Sequence[str]) -> dict[str, dict[str, int]]:
    query = (
        sa.select(ledger.c.study_index, ledger.c.state, sa.func.count().label("number"))
        .where(ledger.c.project == project)
        .group_by(ledger.c.study_index, ledger.c.state)
    )
    numbers: dict[str, dict[str, int]] = defaultdict(dict)
    for found in select_in(conn, query, ledger.c.study_index, study_indexes):
        numbers[found.study_index][found.state] = found.number
    return numbers


def _find(conn: Connection, project: str, out_study: str) -> str | None:
    query = sa.select(studies.c.study_index).where(studies.c.project == project, studies.c.out_study == out_study)
    return conn.execute(query).scalar_one_or_none()


def _set_state(conn: Connection, project: str, study_index: str, state: str) -> None:
    statement = sa.update(studies).where(studies.c.project == project, studies.c.study_index == study_index)
    conn.execute(statement.values(state=state))
