"""A job knows what became of its instances, and touches only those that it brought in."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from orthanc_deid.store import cohorts, deliveries, job_items, jobs, ledger, studies
from orthanc_deid.store.rows import JobRow, Outcome, Sent
from orthanc_deid.store.schema import job_lines

from tests.ledgers import PEER, PROJECT, VAULT, add, claim, finish, output, ready, sent, source, state, subject, take

JOB = "11111111-2222-4333-8444-555555555555"


def job(job_id: str = JOB, *, created: float = 100.0, project: str = PROJECT) -> JobRow:
    return JobRow(job_id, "Deidentify", project, "Running", 0, created, None, "", {"Resources": 3})


@pytest.fixture
def conn(conn: Any) -> Any:
    """A transaction on a ledger with a job."""
    jobs.create(conn, job())
    return conn


def test_a_job_is_read_as_written(conn: Any) -> None:
    assert jobs.get(conn, JOB) == job()
    assert jobs.get(conn, "unknown") is None
    assert jobs.update(conn, JOB, state="Success", completed=200.0, content={"Done": 3}, total=3, error="")
    found = jobs.get(conn, JOB)
    assert found is not None
    assert (found.state, found.completed, found.content, found.total) == ("Success", 200.0, {"Done": 3}, 3)
    assert not jobs.update(conn, "unknown", state="Success")
    with pytest.raises(ValueError, match="project"):
        jobs.update(conn, JOB, project="brain")


def test_what_a_job_was_asked_for_can_be_forgotten(conn: Any) -> None:
    jobs.update(conn, JOB, state="Success", tidied=True, content={"Request": "sealed", "Cursor": "sealed", "Lines": 1})
    jobs.add_parts(conn, JOB, [b"one", b"two"])
    cohorts.add(conn, JOB, [b"line"])
    cohorts.update(conn, JOB, 1, state="fetched", progress=b"studies", fetched=3)
    assert [row.id for row in jobs.untidied(conn)] == [JOB], "it still knows"
    jobs.forget_request(conn, JOB)
    cohorts.forget(conn, JOB)
    cohorts.update(conn, JOB, 1, progress=b"late", fetched=4)
    found = jobs.get(conn, JOB)
    assert found is not None and found.content == {"Lines": 1} and jobs.untidied(conn) == []
    assert jobs.part(conn, JOB, 0) is None and jobs.part(conn, JOB, 1) is None
    assert list(cohorts.report(conn, JOB)) == [(1, "fetched", "", 0, 3, 0)]
    row = conn.execute(sa.select(job_lines)).one()
    assert (row.sealed, row.progress) == (b"", None)


def test_jobs_are_listed_newest_first(conn: Any) -> None:
    for number in range(5):
        jobs.create(conn, job(f"job-{number}", created=200.0 + number, project="brain"))
    jobs.update(conn, "job-3", state="Success")
    assert [row.id for row in jobs.page(conn, limit=2)] == ["job-4", "job-3"]
    assert [row.id for row in jobs.page(conn, offset=4)] == ["job-0", JOB]
    assert [row.id for row in jobs.page(conn, project=PROJECT)] == [JOB]
    assert [row.id for row in jobs.running(conn)] == [JOB, "job-0", "job-1", "job-2", "job-4"]


def test_outcomes_are_counted_over_its_rows(conn: Any) -> None:
    add(conn, "not of the job")
    claim(conn)
    one, two, _three = add(conn, "a", "b", "c", job_id=JOB)
    claim(conn, limit=2)
    finish(conn, ready(one.id, "a"), Outcome(two.id, "quarantined", reason="unparsable"))
    counts = ({"ready": 1, "quarantined": 1, "queued": 1}, {"unparsable": 1})
    assert job_items.outcomes(conn, JOB) == counts
    assert job_items.fold(conn, JOB, 100) == (1, [])
    assert job_items.fold(conn, JOB, 100, ["ready"]) == (1, [(subject().subject.pseudonym, output("a").study)])
    assert job_items.fold(conn, JOB, 100, ["ready"]) == (0, [])
    assert job_items.outcomes(conn, JOB) == counts and job_items.in_hand(conn, JOB) == {"queued": 1}
    indexes = [VAULT.index("instance", name) for name in ("a", "b", "not of the job")]
    assert job_items.linked(conn, JOB, PROJECT, indexes) == set(indexes[:2])


def test_what_leaves_its_outcome_again_is_counted_where_it_is(conn: Any) -> None:
    rows = add(
        conn, "retried", "excluded", "released", "renewed", "good", "refused", "revived", "superseded", job_id=JOB
    )
    jobs.create(conn, job("other"))
    add(conn, "retried", job_id="other")
    claim(conn)
    names = {
        row.id: name
        for row, name in zip(
            rows,
            ["retried", "excluded", "released", "renewed", "good", "refused", "revived", "superseded"],
            strict=True,
        )
    }
    held = {"retried", "excluded", "revived", "superseded"}
    finish(conn, *(Outcome(i, "quarantined", reason="error") if n in held else ready(i, n) for i, n in names.items()))
    by = {name: row for row, name in names.items()}
    ledger.release_rows(conn, [by["refused"], by["good"]], [PEER], 103.0)
    sent(conn, *(Sent(one.id, "refused" if one.ledger_id == by["refused"] else "confirmed") for one in take(conn)))
    for id_ in (JOB, "other"):
        while job_items.fold(conn, id_, 2, ["ready"])[0]:
            pass
        jobs.update(conn, id_, state="Success", tidied=True)
    before = ({"quarantined": 4, "ready": 2, "confirmed": 1, "refused": 1}, {"error": 4, "refused": 1})
    assert job_items.outcomes(conn, JOB) == before and job_items.in_hand(conn, JOB) == {}
    ledger.retry(conn, [by["retried"]], 110.0)
    ledger.exclude(conn, [by["excluded"]], 110.0)
    ledger.release_rows(conn, [by["released"]], [PEER], 110.0)
    ledger.renew(conn, [by["renewed"]], 110.0)
    deliveries.resend(conn, [by["refused"]], 110.0)
    add(conn, "revived", again=True)
    ledger.add_many(conn, PROJECT, [source("superseded", digest="f" * 32)], 111.0)
    now = {"queued": 3, "excluded": 1, "released": 2, "superseded": 1, "confirmed": 1}
    states, _ = job_items.outcomes(conn, JOB)
    assert states == now and sum(job_items.in_hand(conn, JOB).values()) == 7
    assert job_items.outcomes(conn, "other") == ({"queued": 1}, {})
    assert {row.id for row in jobs.untidied(conn)} == {JOB, "other"}
    job_items.fold(conn, JOB, 100)
    assert job_items.outcomes(conn, JOB)[0] == now


def test_a_job_that_succeeded_forgets_what_was_confirmed_and_keeps_its_count(conn: Any) -> None:
    rows = add(conn, "a", "b", "c", job_id=JOB)
    claim(conn)
    finish(conn, ready(rows[0].id, "a"), ready(rows[1].id, "b"), Outcome(rows[2].id, "quarantined", reason="error"))
    ledger.release_rows(conn, [row.id for row in rows], [], 103.0)
    job_items.fold(conn, JOB, 100)
    job_items.note_fetched(conn, JOB, [rows[1].id])
    assert [row.id for row in job_items.fetched(conn, JOB, 0, 10)] == [rows[1].id]
    assert job_items.tidy(conn, JOB, 100) == 1, "what was fetched is still to be deleted"
    job_items.keep_originals(conn, JOB, [rows[1].id])
    assert job_items.fetched(conn, JOB, 0, 10) == []
    assert job_items.tidy(conn, JOB, 100) == 1 and job_items.tidy(conn, JOB, 100) == 0
    assert job_items.outcomes(conn, JOB) == ({"confirmed": 2, "quarantined": 1}, {"error": 1})


def test_rows_that_were_there_before_are_linked_but_not_cancelled(conn: Any) -> None:
    (mine,) = add(conn, "arrived")
    linked = add(conn, "arrived", "brought", job_id=JOB)
    assert [row.new for row in linked] == [False, True]
    assert jobs.cancel(conn, JOB, 110.0) == 1
    assert (state(conn, mine.id), state(conn, linked[1].id)) == ("queued", "cancelled")
    assert job_items.outcomes(conn, JOB) == ({"queued": 1, "cancelled": 1}, {"cancelled": 1})


def test_a_paused_job_waits(conn: Any) -> None:
    add(conn, "a", "b", job_id=JOB)
    assert jobs.pause(conn, JOB, 110.0) == 2
    assert claim(conn) == []
    assert studies.due(conn, PROJECT, 1000.0, 1) == []
    assert jobs.resume(conn, JOB, 120.0) == [(PROJECT, VAULT.index("series", "series-a"))]
    assert len(claim(conn)) == 2
    assert jobs.resume(conn, JOB, 130.0) == []


def test_resubmitting_tries_again_what_did_not_come_through(conn: Any) -> None:
    rows = add(conn, "cancelled", "held", "refused", "good", job_id=JOB)
    claim(conn)
    finish(
        conn,
        Outcome(rows[1].id, "quarantined", reason="error"),
        ready(rows[2].id, "refused"),
        ready(rows[3].id, "good"),
    )
    ledger.release_rows(conn, [rows[2].id, rows[3].id], [PEER], 103.0)
    results = {"refused": "refused", "good": "confirmed"}
    names = {rows[2].id: "refused", rows[3].id: "good"}
    sent(conn, *(Sent(delivery.id, results[names[delivery.ledger_id]]) for delivery in take(conn)))
    ledger.give_back(conn, [rows[0].id], 104.0)
    jobs.cancel(conn, JOB, 105.0)
    assert job_items.outcomes(conn, JOB)[0] == {"cancelled": 1, "quarantined": 1, "refused": 1, "confirmed": 1}
    job_items.fold(conn, JOB, 100)
    lost = job_items.counted(conn, JOB, ["cancelled", "quarantined", "refused"], 0, 2)
    lost += job_items.counted(conn, JOB, ["cancelled", "quarantined", "refused"], lost[-1], 2)
    assert lost == [row.id for row in rows[:3]]
    ledger.retry(conn, lost, 300.0)
    deliveries.resend(conn, lost, 300.0)
    assert job_items.outcomes(conn, JOB)[0] == {"queued": 2, "released": 1, "confirmed": 1}
    assert deliveries.counts(conn)[PROJECT][PEER] == {"pending": 1, "confirmed": 1}


def test_what_waits_for_a_person_is_told(conn: Any) -> None:
    one, two = add(conn, "a", "b", job_id=JOB)
    claim(conn)
    finish(conn, ready(one.id, "a"), Outcome(two.id, "quarantined", reason="error"))
    assert jobs.waiting(conn, JOB, incomplete_hold=False) == 0
    assert jobs.waiting(conn, JOB, incomplete_hold=True) == 1
    studies.hold(conn, PROJECT, output("a").study, 110.0)
    assert jobs.waiting(conn, JOB, incomplete_hold=False) == 1


def test_a_job_asks_only_for_what_exists(conn: Any) -> None:
    assert job_items.outcomes(conn, "unknown") == ({}, {})
    assert job_items.in_hand(conn, "unknown") == {}
    assert jobs.part(conn, "unknown", 0) is None


def test_the_parts_of_a_job_and_what_a_dry_run_says_of_studies(conn: Any) -> None:
    assert jobs.add_parts(conn, JOB, [b"one", b"two"]) == 2
    assert [jobs.part(conn, JOB, number) for number in range(3)] == [b"one", b"two", None]
    key = ("2.25.1", "PSEUDO", "quarantined", "value-left")
    jobs.add_studies(conn, JOB, {key: 2, ("2.25.1", "PSEUDO", "deidentified", ""): 5})
    jobs.add_studies(conn, JOB, {key: 3})
    assert list(jobs.studies(conn, JOB)) == [
        ("PSEUDO", "2.25.1", "deidentified", "", 5),
        ("PSEUDO", "2.25.1", "quarantined", "value-left", 5),
    ]
    jobs.forget_studies(conn, JOB)
    assert list(jobs.studies(conn, JOB)) == []
