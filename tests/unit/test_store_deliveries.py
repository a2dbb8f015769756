"""A delivery is confirmed by what was really sent: AlreadyStored counts only for these very bytes."""

from __future__ import annotations

from typing import Any

import pytest
from orthanc_deid.store import deliveries, expected, ledger
from orthanc_deid.store.rows import LOCAL, Expected, Sent

from tests.ledgers import PEER, PROJECT, claim, finish, make_ready, make_released, output, ready, sent, sha, state, take


def test_a_claim_tells_what_to_send_and_is_made_once(conn: Any) -> None:
    (row,) = make_released(conn, "a")
    (delivery,) = take(conn)
    out = output("a")
    assert (delivery.ledger_id, delivery.out_sop, delivery.out_digest) == (row, out.sop, out.digest)
    assert (delivery.out_size, delivery.attempts, delivery.history) == (1000, 1, "never")
    assert take(conn) == []
    assert deliveries.counts(conn) == {PROJECT: {PEER: {"sending": 1}}}


def test_already_stored_confirms_only_after_these_very_bytes(conn: Any) -> None:
    make_released(conn, "a")
    out = output("a")
    (first,) = take(conn)
    assert first.history == "never"
    sent(conn, Sent(first.id, "pending", next_try=300.0))
    assert deliveries.was_sent(conn, PROJECT, out.sop, PEER, out.digest)
    assert not deliveries.was_sent(conn, PROJECT, out.sop, PEER, sha("other bytes"))
    assert not deliveries.was_sent(conn, PROJECT, out.sop, LOCAL, out.digest)
    (second,) = take(conn, now=300.0)
    assert (second.history, second.attempts) == ("same", 2)


def test_a_refused_connection_does_not_count_as_sent(conn: Any) -> None:
    make_released(conn, "a")
    (first,) = take(conn)
    sent(conn, Sent(first.id, "pending", next_try=300.0, left=False))
    assert take(conn, now=300.0)[0].history == "never"


def test_a_crash_while_sending_counts_as_sent(conn: Any) -> None:
    make_released(conn, "a")
    take(conn)
    assert deliveries.requeue_orphans(conn, 300.0, owner="another") == 0
    assert deliveries.requeue_orphans(conn, 300.0, owner="service-1") == 1
    (second,) = take(conn, now=300.0)
    assert second.history == "same"
    sent(conn, Sent(second.id, "pending", next_try=400.0, left=False))  # this one was not, the one before may have been
    assert take(conn, now=400.0)[0].history == "same"


def test_other_bytes_of_before_are_told(conn: Any) -> None:
    (row,) = make_released(conn, "a")
    (first,) = take(conn)
    sent(conn, Sent(first.id, "pending", next_try=300.0))
    ledger.remake(conn, [row], 301.0)
    claim(conn)
    finish(conn, ready(row, "a", content="another plan"))
    ledger.release_rows(conn, [row], [PEER], 302.0)
    (second,) = take(conn, now=303.0)
    assert second.history == "other"
    assert not deliveries.was_sent(conn, PROJECT, second.out_sop, PEER, second.out_digest)
    sent(conn, Sent(second.id, "pending", next_try=400.0))
    assert take(conn, now=400.0)[0].history == "other"
    deliveries.forget(conn, PROJECT, PEER, [second.out_sop])
    deliveries.requeue_orphans(conn, 401.0, destination=PEER)
    assert take(conn, now=402.0)[0].history == "never"


def test_confirmed_bytes_are_the_only_ones_there(conn: Any) -> None:
    (row,) = make_ready(conn, "a")
    deliveries.add(conn, [row], LOCAL, 102.0)
    (old,) = take(conn, LOCAL)
    sent(conn, Sent(old.id, "confirmed"))
    ledger.remake(conn, [row], 202.0)
    claim(conn)
    finish(conn, ready(row, "a", content="another plan"))
    deliveries.add(conn, [row], LOCAL, 203.0)
    (new,) = take(conn, LOCAL, now=204.0)
    assert new.history == "other"
    sent(conn, Sent(new.id, "confirmed"))
    assert deliveries.was_sent(conn, PROJECT, new.out_sop, LOCAL, new.out_digest)


def test_a_row_is_closed_by_its_last_delivery(conn: Any) -> None:
    other = deliveries.peer("second")
    (row,) = make_released(conn, "a", destinations=[PEER, other])
    (one,), (two,) = take(conn), take(conn, other)
    assert sent(conn, Sent(one.id, "confirmed")) == []
    assert state(conn, row) == "released"
    assert sent(conn, Sent(two.id, "refused", reason="refused")) == [row]
    found = ledger.get(conn, row)
    assert found is not None
    assert (found.state, found.reason, found.confirmed) == ("refused", "refused", None)


def test_a_conflict_weighs_more_than_a_refusal(conn: Any) -> None:
    other = deliveries.peer("second")
    (row,) = make_released(conn, "a", destinations=[PEER, other])
    (one,), (two,) = take(conn), take(conn, other)
    assert sent(conn, Sent(one.id, "conflict"), Sent(two.id, "refused")) == [row]
    assert state(conn, row) == "conflict"
    assert ledger.reasons(conn) == {PROJECT: {"conflict": 1}}


def test_what_was_refused_can_be_sent_again(conn: Any) -> None:
    (row,) = make_released(conn, "a")
    (first,) = take(conn)
    sent(conn, Sent(first.id, "refused", reason="refused"))
    assert deliveries.resend(conn, [row], 400.0) == 1
    assert state(conn, row) == "released"
    (second,) = take(conn, now=400.0)
    assert sent(conn, Sent(second.id, "confirmed")) == [row]
    assert state(conn, row) == "confirmed"


def test_a_conflict_that_is_offered_again_is_no_confirmation(conn: Any) -> None:
    (row,) = make_released(conn, "a")
    (first,) = take(conn)
    sent(conn, Sent(first.id, "conflict", reason="conflict"))
    deliveries.resend(conn, [row], 400.0)
    (second,) = take(conn, now=400.0)
    # The destination has kept what it had: that it was offered ours does not mean that it holds them.
    assert second.history == "never"


def test_what_one_peer_confirmed_cannot_be_left_out(conn: Any) -> None:
    other = deliveries.peer("second")
    one, two = make_released(conn, "a", "b", destinations=[PEER, other])
    for destination, answers in ((PEER, ("confirmed", "refused")), (other, ("refused", "refused"))):
        sent(conn, *(Sent(d.id, answer) for d, answer in zip(take(conn, destination), answers, strict=True)))
    assert [state(conn, row) for row in (one, two)] == ["refused", "refused"]
    assert ledger.exclude(conn, [one, two], 300.0) == 1
    assert [state(conn, row) for row in (one, two)] == ["refused", "excluded"]


def test_a_research_copy_is_made_before_the_release_and_closes_nothing(conn: Any) -> None:
    (row,) = make_ready(conn, "a")
    assert deliveries.add(conn, [row], LOCAL, 102.0) == 1
    (copy,) = take(conn, LOCAL)
    assert sent(conn, Sent(copy.id, "confirmed")) == []
    assert state(conn, row) == "ready"
    assert ledger.release_rows(conn, [row], [], 300.0) == [row]
    assert state(conn, row) == "confirmed"


def test_a_peer_gets_nothing_that_is_not_released(conn: Any) -> None:
    (row,) = make_ready(conn, "a")
    deliveries.add(conn, [row], PEER, 102.0)
    assert take(conn) == []
    assert deliveries.due(conn, 1000.0) == []
    assert deliveries.next_due(conn, 1000.0) is None


def test_waiting_deliveries_come_due(conn: Any) -> None:
    make_released(conn, "a", "b", now=100.0)
    assert deliveries.next_due(conn, 50.0) == 100.0
    assert deliveries.next_due(conn, 150.0) == 150.0
    (due,) = deliveries.due(conn, 150.0)
    assert (due.project, due.destination, due.out_study, due.pending) == (PROJECT, PEER, output("a").study, 2)
    assert deliveries.postpone(conn, PEER, 500.0, 150.0) == 2
    assert deliveries.due(conn, 499.0) == []
    assert deliveries.next_due(conn, 150.0) == 500.0
    assert take(conn, now=499.0) == []
    assert len(take(conn, now=500.0)) == 2
    assert deliveries.next_due(conn, 500.0) is None


def test_what_rests_is_not_due(conn: Any) -> None:
    other = deliveries.peer("second")
    make_released(conn, "a", "b", destinations=[PEER, other])
    assert [(due.destination, due.pending) for due in deliveries.due(conn, 200.0, [PEER])] == [(other, 2)]
    assert deliveries.due(conn, 200.0, [PEER, other]) == []


def test_a_claim_keeps_to_a_study_and_its_limit(conn: Any) -> None:
    make_released(conn, *(f"i{number}" for number in range(600)))
    assert take(conn, study="2.25.99") == []
    assert len(take(conn, study=output("i0").study)) == 100
    rest = deliveries.claim(conn, PROJECT, PEER, 1000, "service-2", 200.0)
    assert len(rest) == 500


def test_a_result_counts_once(conn: Any) -> None:
    (row,) = make_released(conn, "a")
    (delivery,) = take(conn)
    sent(conn, Sent(delivery.id, "confirmed"))
    assert sent(conn, Sent(delivery.id, "refused")) == []
    assert state(conn, row) == "confirmed"


def test_a_result_that_is_none_is_an_error(conn: Any) -> None:
    make_released(conn, "a")
    (delivery,) = take(conn)
    with pytest.raises(ValueError, match="sending"):
        sent(conn, Sent(delivery.id, "sending"))
    with pytest.raises(ValueError, match="next try"):
        sent(conn, Sent(delivery.id, "pending"))


def test_own_copies_are_known_before_they_come_in(conn: Any) -> None:
    expected.add_many(conn, PROJECT, [("id-1", "digest-1"), ("id-2", "digest-2")], 100.0)
    expected.add_many(conn, PROJECT, [("id-1", "digest-new")], 101.0)
    expected.add_many(conn, PROJECT, [], 101.0)
    assert expected.find(conn, ["id-1", "id-3"]) == {"id-1": Expected(PROJECT, "digest-new")}
    assert expected.remove(conn, ["id-1", "id-3"]) == 1
    assert expected.find(conn, ["id-1", "id-2"]) == {"id-2": Expected(PROJECT, "digest-2")}
