"""What was sent is taken back everywhere, or replaced, or sent again; what is on its way lands first."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import sqlalchemy as sa
from orthanc_deid.store import Store, deliveries, ledger, recalls, schema
from orthanc_deid.store.rows import Sent

from tests.ledgers import (
    PEER,
    PROJECT,
    add,
    claim,
    finish,
    make_ready,
    make_released,
    output,
    ready,
    sent,
    state,
    take,
)

OTHER = deliveries.peer("archive")


def confirmed(conn: Any, *names: str, destinations: tuple[str, ...] = (PEER,)) -> list[int]:
    """Bring instances to their destinations."""
    rows = make_released(conn, *names, destinations=destinations)
    for destination in destinations:
        sent(conn, *(Sent(one.id, "confirmed") for one in take(conn, destination)))
    assert {state(conn, row) for row in rows} == {"confirmed"}
    return rows


def standing(conn: Any) -> dict[str, dict[str, int]]:
    """Deliveries by destination and state."""
    return deliveries.counts(conn).get(PROJECT, {})


def remade(conn: Any, row: int, name: str, now: float, **output_arguments: Any) -> None:
    """Make the queued output of a row anew and let it go."""
    claim(conn, now=now)
    finish(conn, ready(row, name, **output_arguments), now=now)
    ledger.release_rows(conn, [row], [PEER], now)


def test_what_was_confirmed_is_recalled_at_every_destination_and_stays_away(conn: Any) -> None:
    rows = confirmed(conn, "a", "b", destinations=(PEER, OTHER))
    taken = recalls.recall(conn, rows, 300.0)
    assert taken == [(row, output(name).digest) for row, name in zip(rows, "ab", strict=True)]
    assert [state(conn, row) for row in rows] == ["recalled"] * 2
    due = recalls.due(conn, 300.0)
    assert sorted((item.one.destination, item.one.out_sop) for item in due) == sorted(
        (destination, output(name).sop) for destination in (PEER, OTHER) for name in "ab"
    )
    assert recalls.outstanding(conn) == {"recalling": 4}
    assert recalls.gone(conn, due, 301.0) == 4 and recalls.gone(conn, due, 302.0) == 0
    assert standing(conn) == {PEER: {"recalled": 2}, OTHER: {"recalled": 2}}
    assert recalls.outstanding(conn) == {} and recalls.due(conn, 303.0) == []
    assert take(conn, now=400.0) == [] and recalls.recall(conn, rows, 304.0) == []
    assert not deliveries.was_sent(conn, PROJECT, output("a").sop, PEER, output("a").digest)


def test_what_never_left_is_recalled_at_once(conn: Any) -> None:
    (released,) = make_released(conn, "a")
    (waits,) = make_ready(conn, "b")
    (queued,) = (row.id for row in add(conn, "c"))
    recalls.recall(conn, [released, waits, queued], 300.0)
    assert [state(conn, row) for row in (released, waits, queued)] == ["recalled"] * 3
    assert standing(conn) == {PEER: {"recalled": 1}} and recalls.due(conn, 300.0) == []
    assert take(conn, now=300.0) == [] and claim(conn, now=300.0) == []


def test_what_is_on_its_way_lands_first_and_is_then_taken_back(conn: Any) -> None:
    (row,) = make_released(conn, "a")
    (one,) = take(conn)
    recalls.recall(conn, [row], 300.0)
    assert recalls.due(conn, 300.0) == [] and not recalls.uncollected(conn)
    sent(conn, Sent(one.id, "confirmed"), now=301.0)
    assert state(conn, row) == "recalled", "the answer of a destination does not undo a recall"
    assert recalls.uncollected(conn) and recalls.collect(conn, 302.0) == 1
    (item,) = recalls.due(conn, 302.0)
    assert item.one.id == one.id
    recalls.gone(conn, [item], 303.0)
    assert standing(conn) == {PEER: {"recalled": 1}}


def test_what_may_have_arrived_is_deleted_though_nobody_has_said_so(conn: Any) -> None:
    rows = make_released(conn, "a", "b", "c")
    one, two, _ = take(conn)
    deliveries.requeue_orphans(conn, 300.0, owner="service-1")
    # Made anew after the crash: the delivery knows of no bytes any more, only the list of what was sent does.
    ledger.remake(conn, rows, 301.0)
    claim(conn, now=302.0)
    finish(conn, *(ready(row, name) for row, name in zip(rows, "abc", strict=True)), now=303.0)
    ledger.release_rows(conn, rows, [PEER], 304.0)
    conn.execute(sa.update(schema.deliveries).values(sent_digest=None))
    deliveries.forget(conn, PROJECT, PEER, [output("c").sop])
    recalls.recall(conn, rows, 305.0)
    assert sorted(item.one.id for item in recalls.due(conn, 306.0)) == sorted([one.id, two.id])
    assert standing(conn) == {PEER: {"recalling": 2, "recalled": 1}}


def test_a_worker_that_comes_back_after_a_recall_changes_nothing(conn: Any) -> None:
    (row,) = (one.id for one in add(conn, "a"))
    claim(conn)
    recalls.recall(conn, [row], 300.0)
    finish(conn, ready(row, "a"), now=301.0)
    assert state(conn, row) == "recalled" and take(conn, now=302.0) == []


def test_what_nobody_can_delete_waits_for_a_person_who_may_have_it_tried_again(conn: Any) -> None:
    rows = confirmed(conn, "a", "b")
    recalls.recall(conn, rows, 300.0)
    first, second = recalls.due(conn, 300.0)
    assert recalls.give_up(conn, [first.one.id], "no-deletion", 301.0) == 1
    assert recalls.wait(conn, [first.one.id, second.one.id], 500.0, 301.0) == 1
    assert recalls.due(conn, 499.0) == [] and [item.one.id for item in recalls.due(conn, 500.0)] == [second.one.id]
    assert recalls.due(conn, 500.0, resting=[PEER]) == []
    (listed,) = recalls.todos(conn)
    assert (listed.one.id, listed.state, listed.reason, listed.recall) == (
        first.one.id,
        "todo",
        "no-deletion",
        "recall",
    )
    assert recalls.todos(conn, after=listed.one.id) == []
    assert recalls.outstanding(conn) == {"recalling": 1, "todo": 1}
    assert recalls.todo(conn, second.one.id) is None and not recalls.again(conn, second.one.id, 502.0)
    assert recalls.again(conn, first.one.id, 502.0)
    assert len(recalls.due(conn, 502.0)) == 2
    recalls.give_up(conn, [first.one.id], "no-deletion", 503.0)
    recalls.gone(conn, [listed], 504.0)  # a person has deleted it
    assert recalls.outstanding(conn) == {"recalling": 1}


def test_another_output_takes_the_place_of_the_old_one_by_the_uids_that_that_had(conn: Any) -> None:
    (row,) = confirmed(conn, "a")
    assert [found for found, _, _ in recalls.replace(conn, [row], 300.0)] == [row]
    claim(conn, now=301.0)
    finish(conn, ready(row, "a2", content="another plan"), now=302.0)
    ledger.release_rows(conn, [row], [PEER], 303.0)
    assert take(conn, now=304.0) == [], "nothing goes while the old bytes are there"
    (item,) = recalls.due(conn, 304.0)
    assert (item.one.out_sop, item.one.out_digest) == (output("a").sop, output("a").digest)
    recalls.gone(conn, [item], 305.0)
    (again,) = take(conn, now=306.0)
    assert (again.out_sop, again.history) == (output("a2").sop, "never")


def test_what_was_not_to_be_pushed_and_was_sent_by_order_is_replaced_like_any_other(conn: Any) -> None:
    (row,) = make_released(conn, "a", push=False)
    assert state(conn, row) == "confirmed" and standing(conn) == {}
    recalls.resend(conn, [row], [PEER], 300.0)
    remade(conn, row, "a", 301.0)
    sent(conn, *(Sent(one.id, "confirmed") for one in take(conn, now=302.0)), now=303.0)
    recalls.replace(conn, [row], 304.0)
    remade(conn, row, "a", 305.0, content="another plan")
    assert state(conn, row) == "released" and len(recalls.due(conn, 306.0)) == 1


def test_the_same_output_again_is_left_where_it_is(conn: Any) -> None:
    (row,) = confirmed(conn, "a")
    recalls.replace(conn, [row], 300.0)
    claim(conn, now=301.0)
    finish(conn, ready(row, "a"), now=302.0)
    ledger.release_rows(conn, [row], [PEER], 303.0)
    recalls.collect(conn, 304.0)
    assert recalls.due(conn, 304.0) == []
    assert state(conn, row) == "confirmed" and take(conn, now=305.0) == []


ANSWERS = {
    "confirmed": Sent(0, "confirmed"),
    "stored": Sent(0, "stored"),
    "refused": Sent(0, "refused", "refused"),
    "conflict": Sent(0, "conflict", "conflict"),
    "later": Sent(0, "pending", "down", 210.0),
    "sender gone": None,
}


@pytest.mark.parametrize("order", ["the answer first", "the new output first"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_on_its_way_while_it_is_replaced_lands_and_gives_way_to_the_new_output(
    conn: Any, answer: str, order: str
) -> None:
    (row,) = make_released(conn, "a")
    (one,) = take(conn)
    recalls.replace(conn, [row], 202.0)

    def land() -> None:
        if (said := ANSWERS[answer]) is None:
            assert deliveries.requeue_orphans(conn, 204.0, owner="service-1") == 1
        else:
            assert sent(conn, dataclasses.replace(said, id=one.id), now=204.0) == []

    steps = [land, lambda: remade(conn, row, "a2", 203.0, content="another plan")]
    for step in steps if order == "the answer first" else reversed(steps):
        step()
    assert state(conn, row) == "released", "what is written down of the old bytes is not said of the new ones"
    assert take(conn, now=400.0) == [], "nothing goes while the old bytes are there"
    (item,) = recalls.due(conn, 400.0)
    assert (item.one.out_sop, item.one.out_digest) == (output("a").sop, output("a").digest)
    recalls.gone(conn, [item], 401.0)
    (again,) = take(conn, now=402.0)
    assert (again.out_digest, again.history) == (output("a2", content="another plan").digest, "never")
    assert sent(conn, Sent(again.id, "confirmed"), now=403.0) == [row]
    assert state(conn, row) == "confirmed" and recalls.outstanding(conn) == {}


def test_an_answer_that_is_written_down_while_another_service_lets_the_new_output_go_sees_it(store: Store) -> None:
    with store.begin() as conn:
        (row,) = make_released(conn, "a")
        (one,) = take(conn)
        recalls.replace(conn, [row], 202.0)

    def land() -> None:
        with store.begin(together=True) as conn:
            sent(conn, Sent(one.id, "confirmed"), now=204.0)

    with ThreadPoolExecutor(1) as threads:
        with store.begin(together=True) as conn:
            remade(conn, row, "a", 203.0, content="another plan")
            landing = threads.submit(land)
            with pytest.raises(TimeoutError):
                landing.result(0.5)
        landing.result(30)
    with store.read() as conn:
        assert state(conn, row) == "released" and len(recalls.due(conn, 205.0)) == 1


@pytest.mark.parametrize("order", ["the answer first", "the new output first"])
@pytest.mark.parametrize("ends", ["pending", "refused"])
def test_what_never_left_while_it_was_replaced_is_offered_anew(conn: Any, ends: str, order: str) -> None:
    (row,) = make_released(conn, "a")
    (one,) = take(conn)
    recalls.replace(conn, [row], 202.0)
    steps = [
        lambda: sent(conn, Sent(one.id, ends, "undecodable", 204.0, left=False), now=204.0),
        lambda: remade(conn, row, "a", 203.0, content="another plan"),
    ]
    for step in steps if order == "the answer first" else reversed(steps):
        step()
    assert recalls.due(conn, 400.0) == [], "there is nothing to delete"
    (again,) = take(conn, now=400.0)
    assert (again.out_digest, again.history) == (output("a", content="another plan").digest, "never")
    assert sent(conn, Sent(again.id, "confirmed"), now=401.0) == [row]
    assert state(conn, row) == "confirmed"


@pytest.mark.parametrize("order", ["the answer first", "the new output first"])
def test_the_same_output_again_lets_what_is_on_its_way_count(conn: Any, order: str) -> None:
    (row,) = make_released(conn, "a")
    (one,) = take(conn)
    recalls.replace(conn, [row], 202.0)
    steps = [lambda: sent(conn, Sent(one.id, "confirmed"), now=204.0), lambda: remade(conn, row, "a", 203.0)]
    for step in steps if order == "the answer first" else reversed(steps):
        step()
    assert state(conn, row) == "confirmed" and standing(conn) == {PEER: {"confirmed": 1}}
    assert recalls.replace(conn, [row], 300.0), "and it can be replaced once more"
    remade(conn, row, "a2", 301.0, content="another plan")
    (item,) = recalls.due(conn, 302.0)
    assert item.one.out_sop == output("a").sop


def test_what_was_made_anew_while_older_bytes_were_on_their_way_is_not_confirmed_by_them(conn: Any) -> None:
    (row,) = make_released(conn, "a")
    (one,) = take(conn)
    ledger.renew(conn, [row], 202.0)
    remade(conn, row, "a", 203.0, content="searched for more")
    assert sent(conn, Sent(one.id, "confirmed"), now=204.0) == [] and state(conn, row) == "released"
    (again,) = take(conn, now=205.0)
    assert (again.out_digest, again.history) == (output("a", content="searched for more").digest, "other")


def test_what_is_recalled_while_on_its_way_and_then_sent_again_is_deleted_by_the_uids_that_it_had(conn: Any) -> None:
    (row,) = make_released(conn, "a", destinations=(PEER, OTHER))
    one, other = *take(conn), *take(conn, OTHER)
    recalls.recall(conn, [row], 202.0)
    recalls.resend(conn, [row], [PEER], 203.0)
    claim(conn, now=204.0)
    finish(conn, ready(row, "a2", content="another plan"), now=204.0)
    ledger.release_rows(conn, [row], [PEER, OTHER], 204.0)
    sent(conn, Sent(one.id, "confirmed"), Sent(other.id, "confirmed"), now=205.0)
    assert take(conn, now=206.0) == [] and take(conn, OTHER, now=206.0) == []
    recalls.collect(conn, 207.0)
    due = recalls.due(conn, 208.0)
    assert {(item.one.destination, item.recall) for item in due} == {(PEER, "replace"), (OTHER, "recall")}
    assert {item.one.out_sop for item in due} == {output("a").sop}
    recalls.gone(conn, due, 209.0)
    assert [again.out_sop for again in take(conn, now=210.0)] == [output("a2").sop]
    assert take(conn, OTHER, now=210.0) == []


def test_a_recalled_one_is_sent_again_to_whom_it_is_told(conn: Any) -> None:
    (row,) = confirmed(conn, "a")
    recalls.recall(conn, [row], 300.0)
    recalls.gone(conn, recalls.due(conn, 300.0), 301.0)
    assert recalls.replace(conn, [row], 302.0) == [], "a replacement does not undo a recall"
    assert [found for found, _, _ in recalls.resend(conn, [row], [PEER, OTHER], 303.0)] == [row]
    claim(conn, now=304.0)
    finish(conn, ready(row, "a"), now=305.0)
    ledger.release_rows(conn, [row], [PEER, OTHER], 306.0)
    for name in (PEER, OTHER):
        (one,) = take(conn, name, now=307.0)
        assert one.history == "never"
        sent(conn, Sent(one.id, "confirmed"), now=308.0)
    assert state(conn, row) == "confirmed" and standing(conn) == {PEER: {"confirmed": 1}, OTHER: {"confirmed": 1}}


def test_what_is_being_deleted_when_it_is_sent_again_goes_when_it_is_gone(conn: Any) -> None:
    (row,) = confirmed(conn, "a")
    recalls.recall(conn, [row], 300.0)
    recalls.resend(conn, [row], [PEER], 301.0)
    claim(conn, now=302.0)
    finish(conn, ready(row, "a"), now=303.0)
    ledger.release_rows(conn, [row], [PEER], 304.0)
    assert take(conn, now=305.0) == []
    recalls.gone(conn, recalls.due(conn, 306.0), 306.0)
    (one,) = take(conn, now=307.0)
    sent(conn, Sent(one.id, "confirmed"), now=308.0)
    assert state(conn, row) == "confirmed"


def test_a_conflict_is_deleted_there_and_sent(conn: Any) -> None:
    (row,) = make_released(conn, "a")
    (one,) = take(conn)
    sent(conn, Sent(one.id, "conflict", "conflict"))
    assert state(conn, row) == "conflict"
    assert recalls.replace_conflicts(conn, [row], 300.0) == 1 and state(conn, row) == "released"
    recalls.gone(conn, recalls.due(conn, 300.0), 301.0)
    (again,) = take(conn, now=302.0)
    sent(conn, Sent(again.id, "confirmed"), now=303.0)
    assert state(conn, row) == "confirmed" and recalls.replace_conflicts(conn, [row], 304.0) == 0


def test_rows_are_found_by_study_by_page_and_by_plan(conn: Any) -> None:
    rows = confirmed(conn, "a", "b", "c")
    assert recalls.of_study(conn, PROJECT, output("a").study) == rows
    assert recalls.of_study(conn, "another", output("a").study) == []
    assert recalls.page(conn, PROJECT, 0, 2) == rows[:2] and recalls.page(conn, PROJECT, rows[1], 2) == rows[2:]
    assert recalls.among_other_plans(conn, rows, ["p" * 64]) == []
    assert recalls.among_other_plans(conn, rows, ["q" * 64]) == rows
    recalls.recall(conn, rows[:1], 300.0)
    assert sorted(one.id for one in recalls.sources(conn, rows)) == rows[1:]
    assert sorted(one.id for one in recalls.sources(conn, rows, recalled=True)) == rows
