"""A study goes when it is quiet, waits when somebody holds it, and opens again when something arrives late."""

from __future__ import annotations

from typing import Any

from orthanc_deid.store import ledger, studies
from orthanc_deid.store.rows import Outcome

from tests.ledgers import (
    PEER,
    PROJECT,
    VAULT,
    add,
    claim,
    finish,
    make_ready,
    output,
    ready,
    source,
    state,
    subject,
    take,
)

STUDY = VAULT.index("study", "1.2.3")
OUT = output("a").study


def test_a_study_is_due_when_it_has_been_quiet(conn: Any) -> None:
    make_ready(conn, "a", "b", now=100.0)
    assert studies.due(conn, PROJECT, 159.0, 60) == []
    assert studies.next_quiet(conn, PROJECT, 60) == 160.0
    (due,) = studies.due(conn, PROJECT, 160.0, 60)
    assert (due.study_index, due.out_study, due.ready, due.quarantined) == (STUDY, OUT, 2, 0)
    assert studies.due(conn, "brain", 160.0, 60) == []


def test_an_arrival_makes_it_wait_longer(conn: Any) -> None:
    make_ready(conn, "a", now=100.0)
    make_ready(conn, "b", now=150.0)
    assert studies.due(conn, PROJECT, 160.0, 60) == []
    add(conn, "b", now=180.0)  # nothing new
    assert len(studies.due(conn, PROJECT, 210.0, 60)) == 1


def test_a_study_is_not_due_while_it_is_worked_on(conn: Any) -> None:
    make_ready(conn, "a")
    add(conn, "b")
    assert studies.due(conn, PROJECT, 1000.0, 60) == []
    claim(conn)
    assert studies.due(conn, PROJECT, 1000.0, 60) == []


def test_what_is_held_does_not_block_the_rest_unless_asked_to(conn: Any) -> None:
    make_ready(conn, "a")
    (row,) = add(conn, "b")
    claim(conn)
    finish(conn, Outcome(row.id, "quarantined", reason="pixels-not-cleaned"))
    (due,) = studies.due(conn, PROJECT, 1000.0, 60)
    assert (due.ready, due.quarantined) == (1, 1)
    assert studies.due(conn, PROJECT, 1000.0, 60, incomplete="hold") == []
    ledger.exclude(conn, [row.id], 1001.0)
    assert len(studies.due(conn, PROJECT, 1002.0, 60, incomplete="hold")) == 1


def test_a_late_arrival_opens_a_released_study(conn: Any) -> None:
    first = make_ready(conn, "a")
    assert studies.release(conn, PROJECT, STUDY, [PEER], 200.0) == first
    assert studies.due(conn, PROJECT, 1000.0, 60) == []
    found = studies.row(conn, PROJECT, OUT)
    assert found is not None
    assert found.state == "released"
    late = make_ready(conn, "late", now=300.0)
    found = studies.row(conn, PROJECT, OUT)
    assert found is not None
    assert (found.state, found.counts) == ("open", {"released": 1, "ready": 1})
    assert studies.release(conn, PROJECT, STUDY, [PEER], 400.0) == late
    assert len(take(conn, now=500.0)) == 2


def test_a_held_study_waits_for_a_person(conn: Any) -> None:
    ids = make_ready(conn, "a")
    assert studies.hold(conn, PROJECT, OUT, 150.0)
    assert not studies.hold(conn, PROJECT, "2.25.99", 150.0)
    assert studies.due(conn, PROJECT, 1000.0, 60) == []
    assert studies.next_quiet(conn, PROJECT, 60) is None
    late = make_ready(conn, "late", now=300.0)
    assert studies.due(conn, PROJECT, 1000.0, 60) == []
    assert studies.release(conn, PROJECT, STUDY, [PEER], 350.0) == [], "it was due when somebody held it"
    assert studies.held(conn, [*ids, *late]) == {*ids, *late}
    assert studies.release_out(conn, PROJECT, OUT, [PEER], 400.0) == ids + late
    assert studies.release_out(conn, PROJECT, "2.25.99", [PEER], 400.0) == []
    assert [state(conn, row) for row in ids + late] == ["released"] * 2
    assert studies.held(conn, ids) == set()


def test_lists_are_pseudonymous_and_paged(conn: Any) -> None:
    for number in range(5):
        study = f"1.2.{number}"
        rows = ledger.add_many(conn, PROJECT, [source(f"i{number}", study=study)], 100.0)
        claim(conn)
        finish(conn, ready(rows[0].id, f"i{number}", study=study))
    add(conn, "nothing came out yet")
    page = studies.page(conn, PROJECT, limit=3)
    rest = studies.page(conn, PROJECT, after=page[-1].out_study)
    assert [len(page), len(rest)] == [3, 2]
    numbers = [int(row.out_study.removeprefix("2.25.")) for row in page + rest]
    assert numbers == sorted(set(numbers))
    assert {row.out_patient for row in page} == {subject().subject.pseudonym}
    assert studies.row(conn, PROJECT, "2.25.99") is None


def test_studies_that_arrived_by_themselves_are_known(conn: Any) -> None:
    ledger.add_many(conn, PROJECT, [source("a", study="1.1")], 100.0)
    indexes = [VAULT.index("study", uid) for uid in ("1.1", "1.2")]
    assert studies.known(conn, PROJECT, indexes) == {indexes[0]}
    assert studies.known(conn, "brain", indexes) == set()
