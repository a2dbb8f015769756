"""Each instance has one row and one state at a time; every way through the states, and none beside them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from orthanc_deid.store import Store, deliveries, ledger, reading, studies
from orthanc_deid.store.rows import BACKFILL, CATCH_UP, FRESH, LOCAL, Outcome, Sent

from tests.ledgers import (
    PEER,
    PROJECT,
    VAULT,
    add,
    claim,
    finish,
    make_ready,
    make_released,
    output,
    ready,
    sent,
    source,
    state,
    subject,
    take,
)


def test_an_instance_goes_from_queued_to_confirmed(conn: Any) -> None:
    (row,) = add(conn, "a")
    assert row.new
    assert state(conn, row.id) == "queued"
    (work,) = claim(conn)
    assert (work.id, work.attempt, state(conn, row.id)) == (row.id, 1, "working")
    assert VAULT.open("instance", work.instance_sealed) == "a"
    assert finish(conn, ready(row.id, "a"))[0].state == "ready"
    assert ledger.release_rows(conn, [row.id], [PEER], 103.0) == [row.id]
    assert state(conn, row.id) == "released"
    (delivery,) = take(conn)
    assert sent(conn, Sent(delivery.id, "confirmed"), now=300.0) == [row.id]
    closed = ledger.get(conn, row.id)
    assert closed is not None
    assert (closed.state, closed.confirmed, closed.reason) == ("confirmed", 300.0, None)


def test_the_same_source_is_queued_once(conn: Any) -> None:
    first, second = add(conn, "a", "a")
    assert (first.id, first.new) == (second.id, True)
    again = add(conn, "a", "b")
    assert [row.new for row in again] == [False, True]
    assert again[0].id == first.id
    assert ledger.counts(conn) == {PROJECT: {"queued": 2}}


def test_a_source_in_two_projects_has_two_rows(conn: Any) -> None:
    add(conn, "a")
    ledger.add_many(conn, "brain", [source("a")], 100.0)
    assert ledger.counts(conn) == {PROJECT: {"queued": 1}, "brain": {"queued": 1}}
    assert ledger.counts(conn, "brain") == {"brain": {"queued": 1}}


def test_rows_come_back_in_the_order_given_however_many(conn: Any) -> None:
    names = [f"i{number}" for number in range(1201)]
    added = add(conn, *names)
    assert [row.instance_index for row in added] == [VAULT.index("instance", name) for name in names]
    assert len(claim(conn, limit=1000)) == 1000
    assert len(claim(conn, limit=1000)) == 201


def test_two_claims_never_share_a_row(store: Store) -> None:
    with store.begin() as conn:
        ids = {row.id for row in add(conn, *(f"i{number}" for number in range(200)))}
    taken: list[int] = []
    guard = threading.Lock()

    def work() -> None:
        while True:
            with store.begin() as conn:
                got = claim(conn, limit=7)
            if not got:
                return
            with guard:
                taken.extend(item.id for item in got)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == sorted(ids)


def test_claim_takes_one_series_only(conn: Any) -> None:
    ledger.add_many(conn, PROJECT, [source("a"), source("b", series="series-b")], 100.0)
    both = [VAULT.index("series", "series-a"), VAULT.index("series", "series-b")]
    assert [item.series_index for item in ledger.backlog(conn)] == both
    assert len(claim(conn, "series-b")) == 1
    assert [item.series_index for item in ledger.backlog(conn)] == both[:1]


def test_what_is_fresh_goes_before_what_a_job_brings_in(conn: Any) -> None:
    add(conn, "old-1", "old-2", "both", priority=BACKFILL)
    add(conn, "found", priority=CATCH_UP)
    add(conn, "new", "both")
    assert [work.priority for work in claim(conn, worst=FRESH)] == [FRESH] * 2
    assert [work.priority for work in claim(conn, limit=2)] == [CATCH_UP, BACKFILL]
    add(conn, "old-2", priority=CATCH_UP)
    assert [work.priority for work in claim(conn)] == [CATCH_UP]


def test_a_better_priority_goes_on_to_the_deliveries_and_a_worse_one_changes_nothing(conn: Any) -> None:
    (row, other) = make_released(conn, "a", "b", priority=BACKFILL)
    assert [due.priority for due in deliveries.due(conn, 300.0)] == [BACKFILL]
    add(conn, "b")
    add(conn, "b", priority=BACKFILL)
    assert [due.priority for due in deliveries.due(conn, 300.0)] == [FRESH]
    assert [(one.ledger_id, one.priority) for one in take(conn)] == [(other, FRESH), (row, BACKFILL)]


def test_the_head_of_the_queue_is_read_whatever_stands_behind_it(conn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LOOK", 4)
    for number in range(6):
        sources = [source(f"{number}-{n}", series=f"s{number}") for n in range(3)]
        ledger.add_many(conn, PROJECT, sources, 100.0, priority=BACKFILL - number)
    best_first = [VAULT.index("series", f"s{number}") for number in reversed(range(6))]
    assert [item.series_index for item in ledger.backlog(conn)] == best_first
    assert [item.series_index for item in ledger.backlog(conn, most=2)] == best_first[:2]
    assert ledger.backlog(conn, {"another"}) == []
    if conn.dialect.name != "sqlite":
        return  # with three rows PostgreSQL's planner rightly reads the table
    where = {"of_project": PROJECT, "of_series": "s", "worst": 1, "after": 0, "id": 0, "most": 1}
    for query, index in ((reading._queue, "ix_ledger_queue"), (ledger._queued, "ix_ledger_queue_of_series")):
        sql = query.compile(dialect=conn.dialect)
        values = tuple({**sql.params, **where}[name] for name in sql.positiontup)
        plan = " ".join(row[-1] for row in conn.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}", values))
        assert f"USING COVERING INDEX {index} " in plan and "TEMP" not in plan


def test_work_that_is_given_back_is_queued_again(conn: Any) -> None:
    (row,) = add(conn, "a")
    claim(conn)
    assert ledger.give_back(conn, [row.id], 105.0) == 1
    assert claim(conn)[0].attempt == 2
    ledger.give_back(conn, [row.id], 105.0, count=False)
    assert claim(conn)[0].attempt == 2
    assert ledger.give_back(conn, [row.id + 1], 105.0) == 0


def test_orphans_of_a_service_are_queued_again(conn: Any) -> None:
    add(conn, "a", "b")
    series = VAULT.index("series", "series-a")
    ledger.claim(conn, PROJECT, series, 1, "dead", 101.0)
    ledger.claim(conn, PROJECT, series, 1, "alive", 101.0)
    assert ledger.requeue_orphans(conn, 102.0, owner="dead") == 1
    assert ledger.counts(conn)[PROJECT] == {"queued": 1, "working": 1}
    assert ledger.requeue_orphans(conn, 102.0, project="brain") == 0
    assert ledger.requeue_orphans(conn, 102.0, project=PROJECT, series_index=series) == 1


@pytest.mark.parametrize("outcome", ["quarantined", "rejected", "source-lost"])
def test_what_does_not_come_through_is_closed_with_its_reason(conn: Any, outcome: str) -> None:
    (row,) = add(conn, "a")
    claim(conn)
    (done,) = finish(conn, Outcome(row.id, outcome, reason="unparsable", tag=0x00100010, findings=[{"at": 3}]))
    assert (done.state, done.reason, done.applied) == (outcome, "unparsable", True)
    found = ledger.get(conn, row.id)
    assert found is not None
    assert (found.tag, found.findings, found.owner) == (0x00100010, [{"at": 3}], None)


def test_only_rows_that_are_worked_on_are_finished(conn: Any) -> None:
    (row,) = add(conn, "a")
    (done,) = finish(conn, ready(row.id, "a"))
    assert (done.applied, done.state) == (False, "queued")
    claim(conn)
    finish(conn, ready(row.id, "a"))
    (again,) = finish(conn, Outcome(row.id, "quarantined", reason="error"))
    assert (again.applied, again.state) == (False, "ready")


def test_an_outcome_that_is_none_is_an_error(conn: Any) -> None:
    (row,) = add(conn, "a")
    claim(conn)
    with pytest.raises(ValueError, match="released"):
        finish(conn, Outcome(row.id, "released"))
    with pytest.raises(ValueError, match="output"):
        finish(conn, Outcome(row.id, "ready"))


def test_nothing_but_ready_rows_is_released(conn: Any) -> None:
    queued, working, held = add(conn, "a", "b", "c")
    claim(conn)
    ledger.give_back(conn, [queued.id], 101.0)
    finish(conn, Outcome(held.id, "quarantined", reason="value-left", output=output("c"), subject=subject().seen))
    assert ledger.release_rows(conn, [queued.id, working.id, held.id], [PEER], 103.0) == []
    assert deliveries.counts(conn) == {}


def test_without_a_destination_the_release_confirms(conn: Any) -> None:
    (row,) = make_released(conn, "a", destinations=[])
    assert state(conn, row) == "confirmed"


def test_what_is_not_to_be_pushed_goes_nowhere(conn: Any) -> None:
    (row,) = make_ready(conn, "a", push=False)
    ledger.release_rows(conn, [row], [PEER], 103.0)
    assert state(conn, row) == "confirmed"
    assert take(conn) == []


def test_new_content_takes_the_place_of_what_has_not_left(conn: Any) -> None:
    (old,) = make_ready(conn, "a")
    deliveries.add(conn, [old], LOCAL, 103.0)
    take(conn, LOCAL)
    (new,) = ledger.add_many(conn, PROJECT, [source("a", digest="changed")], 104.0)
    assert (new.new, new.state, state(conn, old)) == (True, "queued", "superseded")
    claim(conn)
    (done,) = finish(conn, ready(new.id, "a", content="changed"))
    assert done.state == "ready"
    assert [row.state for row in ledger.find(conn, PROJECT, VAULT.index("instance", "a"))] == ["superseded", "ready"]


def test_new_content_is_held_once_the_old_may_have_left(conn: Any) -> None:
    (old,) = make_released(conn, "a")
    (delivery,) = take(conn)  # an attempt is enough: the answer may have been lost
    (new,) = ledger.add_many(conn, PROJECT, [source("a", digest="changed")], 104.0)
    assert (new.new, new.state) == (False, "quarantined")
    found = ledger.get(conn, new.id)
    assert found is not None
    assert found.reason == "source-changed"
    sent(conn, Sent(delivery.id, "confirmed"))
    assert state(conn, old) == "confirmed"


def test_new_content_takes_the_place_when_certainly_nothing_left(conn: Any) -> None:
    (old,) = make_released(conn, "a")
    (delivery,) = take(conn)
    sent(conn, Sent(delivery.id, "pending", next_try=500.0, left=False))
    (new,) = ledger.add_many(conn, PROJECT, [source("a", digest="changed")], 300.0)
    assert (new.state, state(conn, old)) == ("queued", "superseded")
    assert take(conn, now=600.0) == []


def test_work_on_replaced_content_is_not_taken(conn: Any) -> None:
    (old,) = add(conn, "a")
    claim(conn)
    ledger.add_many(conn, PROJECT, [source("a", digest="changed")], 104.0)
    (done,) = finish(conn, ready(old.id, "a"))
    assert (done.applied, done.state) == (False, "superseded")


def test_the_first_content_may_come_back(conn: Any) -> None:
    (first,) = add(conn, "a")
    (second,) = ledger.add_many(conn, PROJECT, [source("a", digest="changed")], 104.0)
    (third,) = add(conn, "a", now=105.0)
    assert (third.id, third.new) == (first.id, True)
    assert (state(conn, first.id), state(conn, second.id)) == ("queued", "superseded")


def test_the_first_content_is_held_when_the_second_has_left(conn: Any) -> None:
    (first,) = add(conn, "a")
    (second,) = ledger.add_many(conn, PROJECT, [source("a", digest="changed")], 104.0)
    claim(conn)
    finish(conn, ready(second.id, "a", content="changed"))
    ledger.release_rows(conn, [second.id], [PEER], 105.0)
    take(conn)
    (third,) = add(conn, "a", now=106.0)
    assert (third.id, third.new, third.state) == (first.id, False, "quarantined")


def test_a_lost_source_is_told_and_comes_back(conn: Any) -> None:
    queued, *_ = add(conn, "a", "b")
    (done,) = make_ready(conn, "c")
    ledger.mark_lost(conn, PROJECT, [VAULT.index("instance", name) for name in ("a", "c")], 105.0)
    assert (state(conn, queued.id), state(conn, done)) == ("source-lost", "ready")
    assert ledger.reasons(conn) == {PROJECT: {"source-lost": 1}}
    (back,) = add(conn, "a", now=106.0)
    assert (back.id, back.new, back.state) == (queued.id, True, "queued")


def test_a_job_asks_again_for_what_was_held_but_not_for_changed_content(conn: Any) -> None:
    held, refused = add(conn, "a", "b")
    claim(conn)
    finish(conn, Outcome(held.id, "quarantined", reason="error"), Outcome(refused.id, "rejected", reason="not-dicom"))
    make_released(conn, "c")
    take(conn)
    (changed,) = ledger.add_many(conn, PROJECT, [source("c", digest="changed")], 104.0)
    assert [row.new for row in add(conn, "a", "b")] == [False, False]
    assert [row.new for row in add(conn, "a", "b", again=True)] == [True, True]
    (still,) = ledger.add_many(conn, PROJECT, [source("c", digest="changed")], 105.0, again=True)
    assert (still.id, still.new) == (changed.id, False)


def test_retry_and_exclude_are_a_persons(conn: Any) -> None:
    one, other = add(conn, "a", "b")
    claim(conn)
    finish(conn, *(Outcome(row.id, "quarantined", reason="error", tag=5) for row in (one, other)))
    assert ledger.retry(conn, [one.id], 110.0) == [(one.id, PROJECT, one.series_index)]
    assert ledger.exclude(conn, [other.id], 110.0) == 1
    assert ledger.counts(conn)[PROJECT] == {"queued": 1, "excluded": 1}
    retried = ledger.get(conn, one.id)
    assert retried is not None
    assert (retried.reason, retried.tag, retried.attempt) == (None, None, 0)
    assert [row.new for row in add(conn, "b", again=True)] == [False]


def test_a_lost_file_of_the_outbox_is_made_again_and_sent_once(conn: Any) -> None:
    ids = make_released(conn, "a", "b")
    first, _second = take(conn)
    sent(conn, Sent(first.id, "confirmed"))
    deliveries.requeue_orphans(conn, 210.0)
    assert [row_id for row_id, _, _ in ledger.remake(conn, ids, 211.0)] == [ids[1]]  # the first is closed
    assert take(conn, now=220.0) == []  # nothing is sent while it is made
    claim(conn)
    assert finish(conn, ready(ids[1], "b"))[0].state == "ready"
    ledger.release_rows(conn, [ids[1]], [PEER], 230.0)
    (delivery,) = take(conn, now=240.0)
    assert (delivery.ledger_id, delivery.history) == (ids[1], "same")


def test_two_sources_cannot_have_one_output(conn: Any) -> None:
    one, other = add(conn, "a", "b")
    claim(conn)
    done = finish(conn, ready(one.id, "same"), ready(other.id, "same"))
    assert [(row.state, row.reason) for row in done] == [("ready", None), ("quarantined", "identity-contradiction")]
    assert ledger.knows_output(conn, PROJECT, [output("same").sop, output("other").sop]) == {output("same").sop}
    assert ledger.knows_output(conn, "brain", [output("same").sop]) == set()


def test_lists_and_numbers(conn: Any) -> None:
    make_released(conn, "a", "b", destinations=[])
    held = add(conn, *(f"h{number}" for number in range(5)), now=150.0)
    claim(conn)
    finish(conn, *(Outcome(row.id, "quarantined", reason="pixels-not-cleaned") for row in held[:4]))
    finish(conn, Outcome(held[4].id, "quarantined", reason="unparsable"))
    waiting = add(conn, "w", now=160.0)
    assert ledger.counts(conn) == {PROJECT: {"confirmed": 2, "quarantined": 5, "queued": 1}}
    assert ledger.reasons(conn, PROJECT) == {PROJECT: {"pixels-not-cleaned": 4, "unparsable": 1}}
    page = ledger.quarantine(conn, PROJECT, limit=3)
    rest = ledger.quarantine(conn, after=page[-1].id)
    assert [row.id for row in page + rest] == [row.id for row in held]
    assert [row.id for row in ledger.quarantine(conn, reason="unparsable")] == [held[4].id]
    assert ledger.quarantine_count(conn) == 5
    assert ledger.quarantine_count(conn, "brain") == 0
    assert ledger.quarantine_count(conn, PROJECT, "unparsable") == 1
    assert ledger.oldest_unfinished(conn) == 160.0
    assert ledger.oldest_unfinished(conn, "brain") is None
    assert ledger.confirmed_since(conn, PROJECT, 100.0) == 2
    assert ledger.confirmed_since(conn, PROJECT, 160.0) == 0
    assert [item.id for item in ledger.unfinished(conn, PROJECT)] == [waiting[0].id]
    assert list(ledger.live_outputs(conn)) == []
    known = ledger.known_sources(conn, PROJECT, [VAULT.index("instance", name) for name in ("a", "w", "z")])
    assert {rows[0].state for rows in known.values()} == {"confirmed", "queued"}
    assert ledger.get(conn, 10**9) is None


def test_files_of_the_outbox_that_must_exist(conn: Any) -> None:
    ready_ids = make_ready(conn, "a")
    released = make_released(conn, "b")
    assert list(ledger.live_outputs(conn, PROJECT)) == [
        (ready_ids[0], output("a").digest),
        (released[0], output("b").digest),
    ]


def test_a_failed_transaction_leaves_nothing(store: Store) -> None:
    with pytest.raises(RuntimeError, match="stop"), store.begin() as conn:
        add(conn, "a")
        raise RuntimeError("stop")
    with store.read() as conn:
        assert ledger.counts(conn) == {}
        assert studies.page(conn, PROJECT) == []
