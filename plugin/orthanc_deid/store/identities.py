"""Contradictions of identity, found on keyed hashes before anything is released.

The first object settles what a subject's birth date and sex are, whose a study is, and which source an output UID
belongs to. A later object that says otherwise is held: one Patient ID for two people, or one study under two ids, is
for a person to look at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orthanc_deid.identity.subjects import SubjectSeen
from orthanc_deid.store.rows import Outcome
from orthanc_deid.store.schema import outputs, studies, subjects
from orthanc_deid.store.sql import EACH, insert_ignore, rows_of

_subjects_now = (
    sa.select(subjects.c.subject_index, subjects.c.birth_hash, subjects.c.sex_hash, subjects.c.revision)
    .where(subjects.c.project == sa.bindparam("of_project"), subjects.c.subject_index.in_(EACH))
    .order_by(subjects.c.subject_index)
    .with_for_update()
)
_studies_now = (
    sa.select(studies.c.study_index, studies.c.subject_index)
    .where(studies.c.project == sa.bindparam("of_project"), studies.c.study_index.in_(EACH))
    .order_by(studies.c.study_index)
    .with_for_update()
)
_outputs_now = sa.select(outputs.c.out_sop, outputs.c.source_index).where(
    outputs.c.project == sa.bindparam("of_project"), outputs.c.out_sop.in_(EACH)
)


def settle(
    conn: Connection, project: str, outcomes: Sequence[Outcome], sources: Mapping[int, Any], now: float
) -> tuple[dict[int, str], dict[str, int]]:
    """Record who the outcomes are about; return ledger id → what contradicts (birth, sex, study, output), and the
    subjects' revisions.

    `sources` are rows of the ledger by id, with source_index and study_index.
    """
    kinds: dict[int, str] = {}
    revisions = _subjects(conn, project, outcomes, kinds, now)
    _studies(conn, project, [outcome for outcome in outcomes if outcome.id not in kinds], sources, kinds)
    _outputs(conn, project, [outcome for outcome in outcomes if outcome.id not in kinds], sources, kinds)
    return kinds, revisions


def _subjects(
    conn: Connection, project: str, outcomes: Sequence[Outcome], kinds: dict[int, str], now: float
) -> dict[str, int]:
    seen: dict[str, SubjectSeen] = {}
    for outcome in outcomes:
        if outcome.subject is not None:
            seen.setdefault(outcome.subject.index, outcome.subject)
    order = sorted(seen)  # in one order everywhere, so that two services cannot wait for each other
    found = {row.subject_index: row for row in rows_of(conn, _subjects_now, order, of_project=project)}
    new = [
        {
            "project": project,
            "subject_index": index,
            "pseudonym": seen[index].pseudonym,
            "sealed": seen[index].sealed,
            "first_seen": now,
        }
        for index in order
        if index not in found
    ]
    if new:
        insert_ignore(conn, subjects, new)
        found = {row.subject_index: row for row in rows_of(conn, _subjects_now, order, of_project=project)}
    known = {index: {"birth_hash": row.birth_hash, "sex_hash": row.sex_hash} for index, row in found.items()}
    learned: set[str] = set()
    for outcome in outcomes:
        subject = outcome.subject
        if subject is None:
            continue
        settled = known[subject.index]
        said = {"birth_hash": subject.birth_hash, "sex_hash": subject.sex_hash}
        wrong = [name for name, value in said.items() if value and settled[name] and value != settled[name]]
        if wrong:
            kinds[outcome.id] = wrong[0].removesuffix("_hash")
            continue
        for name, value in said.items():
            if value and not settled[name]:
                settled[name] = value
                learned.add(subject.index)
    for index in sorted(learned):
        conn.execute(
            sa.update(subjects)
            .where(subjects.c.project == project, subjects.c.subject_index == index)
            .values(**known[index])
        )
    return {index: row.revision for index, row in found.items()}


def _studies(
    conn: Connection, project: str, outcomes: Sequence[Outcome], sources: Mapping[int, Any], kinds: dict[int, str]
) -> None:
    wanted = sorted({sources[outcome.id].study_index for outcome in outcomes})
    rows = rows_of(conn, _studies_now, wanted, of_project=project)
    owners: dict[str, str | None] = {row.study_index: row.subject_index for row in rows}
    for outcome in outcomes:
        if outcome.subject is None or outcome.output is None:
            continue
        study = sources[outcome.id].study_index
        if owners.get(study) is None:
            owners[study] = outcome.subject.index
            conn.execute(
                sa.update(studies)
                .where(studies.c.project == project, studies.c.study_index == study)
                .values(
                    subject_index=outcome.subject.index,
                    out_patient=outcome.output.patient,
                    out_study=outcome.output.study,
                )
            )
        elif owners[study] != outcome.subject.index:
            kinds[outcome.id] = "study"


def _outputs(
    conn: Connection, project: str, outcomes: Sequence[Outcome], sources: Mapping[int, Any], kinds: dict[int, str]
) -> None:
    claims = [
        (outcome.id, outcome.output.sop, sources[outcome.id].source_index) for outcome in outcomes if outcome.output
    ]
    rows = [
        {"project": project, "out_sop": sop, "source_index": source}
        for _, sop, source in sorted(claims, key=lambda claim: claim[1])
    ]
    insert_ignore(conn, outputs, rows)
    found = rows_of(conn, _outputs_now, {sop for _, sop, _ in claims}, of_project=project)
    owners = {row.out_sop: row.source_index for row in found}
    for ledger_id, sop, source in claims:
        if owners[sop] != source:
            kinds[ledger_id] = "output"
