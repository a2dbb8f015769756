"""A job knows what became of its instances, and touches only those that it brought in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from orthanc_deid.store import Store, deliveries, jobs, ledger, studies
from orthanc_deid.store.rows import JobRow, Outcome, Sent

from tests.ledgers import PEER, PROJECT, VAULT, add, claim, finish, output, ready, sent, state, subject, take

JOB = "11111111-2222-4333-8444-555555555555"


def job(job_id: str = JOB, *, created: float = 100.0, project: str = PROJECT) -> JobRow:
    return JobRow(job_id, "Deidentify", project, "Running", 0, created, None, "", {"Resources": 3})


@pytest.fixture
def conn(database: Path | str) -> Iterator[Any]:
    store = Store.open(database)
    with store.begin() as conn:
        jobs.create(conn, job())
        yield conn
    store.close()


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
    assert jobs.outcomes(conn, JOB) == {"ready": 1, "quarantined": 1, "queued": 1}
    assert jobs.reasons(conn, JOB) == {"unparsable": 1}
    assert jobs.unfinished(conn, JOB) == 2
    assert jobs.studies(conn, JOB) == [(subject().subject.pseudonym, output("a").study)]
    indexes = [VAULT.index("instance", name) for name in ("a", "b", "not of the job")]
    assert jobs.linked(conn, JOB, indexes) == set(indexes[:2])


def test_rows_that_were_there_before_are_linked_but_not_cancelled(conn: Any) -> None:
    (mine,) = add(conn, "arrived")
    linked = add(conn, "arrived", "brought", job_id=JOB)
    assert [row.new for row in linked] == [False, True]
    assert jobs.cancel(conn, JOB, 110.0) == 1
    assert (state(conn, mine.id), state(conn, linked[1].id)) == ("queued", "cancelled")
    assert jobs.outcomes(conn, JOB) == {"queued": 1, "cancelled": 1}
    assert jobs.add_items(conn, JOB, [mine.id]) == 2


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
    assert jobs.outcomes(conn, JOB) == {"cancelled": 1, "quarantined": 1, "refused": 1, "confirmed": 1}
    assert jobs.resubmit(conn, JOB, 300.0) == [(PROJECT, VAULT.index("series", "series-a"))]
    assert jobs.outcomes(conn, JOB) == {"queued": 2, "released": 1, "confirmed": 1}
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
    assert jobs.outcomes(conn, "unknown") == {}
    assert jobs.unfinished(conn, "unknown") == 0
    assert jobs.resubmit(conn, "unknown", 100.0) == []
