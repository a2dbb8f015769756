"""What is learnt late of a subject: what has not left is made again before it may, what has is noted."""

from __future__ import annotations

from typing import Any

from orthanc_deid.store import deliveries, knowledge, ledger, studies
from orthanc_deid.store.deliveries import LOCAL, Sent
from orthanc_deid.store.rows import Finished, Outcome

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
    sent,
    state,
    subject,
    take,
)

OTHER = deliveries.peer("second")


def taught(row_id: int, name: str, *values: str, knew: tuple[str, ...] = (), revision: int = 0, **more: Any) -> Outcome:
    """The outcome of an instance that brought values, and knew others beyond the revision that it began with."""
    refs = [VAULT.ref_bytes("known", value.encode()) for value in values]
    indexes = [VAULT.index_bytes("known", value.encode()) for value in knew]
    who = more.pop("who", None) or subject()
    return Outcome(
        row_id, "ready", output=output(name, who=who, **more), subject=who.seen, revision=revision, known=refs,
        knew=[*(ref.index for ref in refs), *indexes],
    )  # fmt: skip


def learn(conn: Any, name: str, *values: str, **more: Any) -> int:
    """An object comes that teaches values; returns its row."""
    (row,) = add(conn, name)
    claim(conn)
    finish(conn, taught(row.id, name, *values, **more))
    return row.id


def again(conn: Any, *rows: tuple[int, str], content: str = "") -> list[Finished]:
    """Queued rows are made once more, with all that is known by now."""
    claim(conn, now=300.0)
    who, now = subject().seen, revision(conn)
    made = [Outcome(row, "ready", output=output(n, content=content), subject=who, revision=now) for row, n in rows]
    return finish(conn, *made)


def behind(conn: Any, destination: str, now: float) -> list[int]:
    """What is due of the study and must not go."""
    return knowledge.outdated(conn, PROJECT, destination, now, output("a").study)


def revision(conn: Any) -> int:
    """The subject's revision."""
    return knowledge.since(conn, PROJECT, subject().seen.index, 10**6)[0]


def test_what_an_object_brings_itself_does_not_make_it_outdated(conn: Any) -> None:
    row = learn(conn, "a", "name", "id")
    ledger.release_rows(conn, [row], [PEER], 103.0)
    assert behind(conn, PEER, 200.0) == []
    assert [one.ledger_id for one in take(conn)] == [row]


def test_an_output_that_is_behind_is_not_claimed_but_made_again(conn: Any) -> None:
    (early,) = make_released(conn, "a")
    late = learn(conn, "b", "a late name")
    ledger.release_rows(conn, [late], [PEER], 103.0)
    assert behind(conn, PEER, 200.0) == [early]
    assert [one.ledger_id for one in take(conn)] == [late]
    assert [row for row, _, _ in ledger.renew(conn, [early], 201.0)] == [early]
    again(conn, (early, "a"))
    ledger.release_rows(conn, [early], [PEER], 301.0)
    (one,) = take(conn, now=302.0)
    assert (one.ledger_id, one.out_digest, one.history) == (early, output("a").digest, "never")
    assert sent(conn, Sent(one.id, "confirmed")) == [early]
    assert ledger.counts(conn) == {PROJECT: {"confirmed": 1, "released": 1}}


def test_it_is_made_again_once_and_not_for_what_is_no_news(conn: Any) -> None:
    learn(conn, "a", "name")
    (early,) = make_ready(conn, "b")  # began before anybody knew the name, and did not find it
    assert knowledge.outdated_in_study(conn, PROJECT, VAULT.index("study", "1.2.3")) == [early]
    ledger.renew(conn, [early], 201.0)
    again(conn, (early, "b"))
    learn(conn, "c", "name")
    assert knowledge.outdated_in_study(conn, PROJECT, VAULT.index("study", "1.2.3")) == []


def test_two_objects_at_once_that_bring_the_same_are_not_behind_each_other(conn: Any) -> None:
    rows = add(conn, "a", "b", "c")
    claim(conn)
    finish(conn, taught(rows[0].id, "a", "name", "id"), taught(rows[1].id, "b", "name", "id"))
    finish(conn, taught(rows[2].id, "c", "name", knew=("id",)))
    assert knowledge.outdated_in_study(conn, PROJECT, VAULT.index("study", "1.2.3")) == []
    assert revision(conn) == 1


def test_two_objects_at_once_that_bring_different_things_are_both_behind(conn: Any) -> None:
    rows = add(conn, "a", "b")
    claim(conn)
    finish(conn, taught(rows[0].id, "a", "name"), taught(rows[1].id, "b", "id"))
    assert knowledge.outdated_in_study(conn, PROJECT, VAULT.index("study", "1.2.3")) == [row.id for row in rows]


def test_another_subject_teaches_nothing(conn: Any) -> None:
    make_ready(conn, "a")
    (row,) = add(conn, "b")
    claim(conn)
    finish(conn, taught(row.id, "b", "name", who=subject("another"), study="1.9"))
    assert knowledge.outdated_in_study(conn, PROJECT, VAULT.index("study", "1.2.3")) == []


def test_what_is_on_its_way_stays_until_it_has_landed(conn: Any) -> None:
    (row,) = make_released(conn, "a", destinations=[PEER, OTHER])
    (flying,) = take(conn)
    learn(conn, "b", "late")
    assert behind(conn, OTHER, 200.0) == [], "its file is in use"
    assert take(conn, OTHER) == [], "but it goes nowhere else as it is"
    sent(conn, Sent(flying.id, "confirmed"))
    assert behind(conn, OTHER, 200.0) == [row]
    ledger.renew(conn, [row], 201.0)
    again(conn, (row, "a"))
    ledger.release_rows(conn, [row], [PEER, OTHER], 301.0)
    assert take(conn, now=302.0) == [], "equal bytes: the first destination has them"
    (one,) = take(conn, OTHER, now=302.0)
    sent(conn, Sent(one.id, "confirmed"))
    assert state(conn, row) == "confirmed"


def test_other_bytes_after_some_have_left_are_offered_and_not_believed(conn: Any) -> None:
    (row,) = make_released(conn, "a", destinations=[PEER, OTHER])
    (one,) = take(conn)
    sent(conn, Sent(one.id, "confirmed"))
    learn(conn, "b", "late")
    ledger.renew(conn, behind(conn, OTHER, 200.0), 201.0)
    again(conn, (row, "a"), content="cleaned")
    ledger.release_rows(conn, [row], [PEER, OTHER], 301.0)
    (one,) = take(conn, now=302.0)
    assert one.history == "other", "AlreadyStored would be a conflict"


def test_what_had_left_is_counted_and_what_is_made_again_is_not(conn: Any) -> None:
    left, waits, flies = make_released(conn, "a", "b", "c")
    first, _, third = take(conn)
    sent(conn, Sent(first.id, "confirmed"))
    deliveries.finish_many(conn, [Sent(deliveries_of(conn, waits), "pending", "down", 400.0, left=False)], 201.0)
    learn(conn, "d", "late")
    index = subject().seen.index
    assert knowledge.mark_late(conn, PROJECT, [index], 210.0) == 2
    assert knowledge.mark_late(conn, PROJECT, [index], 211.0) == 0, "each once"
    assert knowledge.late(conn) == {PROJECT: 2}
    assert [ledger.get(conn, row).late is not None for row in (left, waits, flies)] == [True, False, True]  # type: ignore[union-attr]
    sent(conn, Sent(third.id, "pending", "down", 400.0, left=False))  # it did not leave after all
    ledger.renew(conn, behind(conn, PEER, 500.0), 501.0)
    again(conn, (waits, "b"), (flies, "c"))
    assert knowledge.late(conn) == {PROJECT: 1}


def deliveries_of(conn: Any, row: int) -> int:
    """The id of the one delivery of a row."""
    return int(conn.exec_driver_sql(f"SELECT id FROM deliveries WHERE ledger_id = {row}").scalar_one())


def test_a_copy_here_is_behind_too_but_has_not_left(conn: Any) -> None:
    (row,) = make_ready(conn, "a")
    deliveries.add(conn, [row], LOCAL, 102.0)
    (copy,) = take(conn, LOCAL)
    sent(conn, Sent(copy.id, "confirmed"))
    learn(conn, "b", "late")
    assert knowledge.mark_late(conn, PROJECT, [subject().seen.index], 210.0) == 0
    studies.release_out(conn, PROJECT, output("a").study, [PEER], 211.0)
    assert [one.ledger_id for one in take(conn, now=212.0)] != [row]
    ledger.renew(conn, behind(conn, PEER, 212.0), 213.0)
    (result,) = again(conn, (row, "a"), content="cleaned")
    assert result.replaced == output("a").digest, "the old file is not needed any more"
    ledger.release_rows(conn, [row], [PEER], 301.0)
    deliveries.add(conn, [row], LOCAL, 301.0)
    assert [one.out_digest for one in take(conn, LOCAL, now=302.0)] == [output("a", content="cleaned").digest]


def test_a_value_of_a_held_contradiction_is_not_the_subjects(conn: Any) -> None:
    make_released(conn, "a")
    (row,) = add(conn, "b")
    claim(conn)
    finish(conn, taught(row.id, "b", "somebody else's", study="1.2.3", who=subject("2CT2")))
    assert state(conn, row.id) == "quarantined"
    assert behind(conn, PEER, 200.0) == []
    assert knowledge.since(conn, PROJECT, subject("2CT2").seen.index, -1)[1] == []
