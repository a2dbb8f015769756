"""Sources in the spool: the ledger knows which of its files are still needed, whoever sends a content twice."""

from __future__ import annotations

import dataclasses

import pytest
from orthanc_deid.store import deliveries, ledger, spooled
from orthanc_deid.store.rows import NewSource, Outcome, Sent
from sqlalchemy.engine import Connection

from tests import ledgers
from tests.ledgers import PROJECT, VAULT, source

OTHER = "brain"


def spool(name: str, file: str, digest: str | None = None) -> NewSource:
    """A source in the spool."""
    return dataclasses.replace(source(name, digest=digest), spool=file)


def arrive(conn: Connection, *sources: NewSource, project: str = PROJECT) -> list[int]:
    """Add sources; returns their rows."""
    return [row.id for row in ledger.add_many(conn, project, sources, 100.0)]


def of(conn: Connection, row_id: int) -> tuple[str, str, str | None]:
    """State, origin and file of a row."""
    row = ledger.get(conn, row_id)
    assert row is not None
    return row.state, row.origin, row.spool


def confirm(conn: Connection, name: str) -> None:
    """Bring the queued rows of a source to their end at the peer."""
    works = ledgers.claim(conn)
    ledgers.finish(conn, *(ledgers.ready(work.id, name) for work in works))
    ledger.release_rows(conn, [work.id for work in works], [ledgers.PEER], 103.0)

    sent = deliveries.claim(conn, PROJECT, ledgers.PEER, 100, "me", 104.0)
    deliveries.finish_many(conn, [Sent(one.id, "confirmed") for one in sent], 105.0)


def test_a_file_is_needed_until_its_output_is_confirmed(conn: Connection) -> None:
    (row,) = arrive(conn, spool("a", "f1"))
    assert of(conn, row) == ("queued", "spool", "f1")
    (work,) = ledgers.claim(conn)
    assert (work.origin, work.spool) == ("spool", "f1")
    ledgers.finish(conn, ledgers.ready(row, "a"))
    assert spooled.done(conn, 10) == []
    ledger.release_rows(conn, [row], [ledgers.PEER], 103.0)
    assert spooled.done(conn, 10) == []
    ledger.requeue_orphans(conn, 104.0)

    (sent,) = deliveries.claim(conn, PROJECT, ledgers.PEER, 10, "me", 104.0)
    assert spooled.done(conn, 10) == []
    deliveries.finish_many(conn, [Sent(sent.id, "confirmed")], 105.0)
    assert spooled.done(conn, 10) == ["f1"]
    spooled.forget(conn, ["f1"])
    assert of(conn, row) == ("confirmed", "spool", None)
    assert spooled.done(conn, 10) == [] and spooled.named(conn, ["f1"]) == set()


def test_a_file_of_two_projects_waits_for_both(conn: Connection) -> None:
    arrive(conn, spool("a", "f1"))
    (other,) = arrive(conn, spool("a", "f1"), project=OTHER)
    confirm(conn, "a")
    assert spooled.done(conn, 10) == []
    ledger.exclude(conn, [other], 106.0)
    assert spooled.done(conn, 10) == ["f1"]


def test_what_others_need_keeps_nobody_from_being_done(conn: Connection) -> None:
    names = [f"f{number}" for number in range(5)]
    arrive(conn, *(spool(name, name) for name in names))
    arrive(conn, *(spool(name, name) for name in names[:4]), project=OTHER)
    for work in ledgers.claim(conn):
        ledgers.finish(conn, Outcome(work.id, "rejected", "not-dicom"))
    assert spooled.done(conn, 1) == ["f4"]


@pytest.mark.parametrize("state", ["quarantined", "refused", "conflict"])
def test_what_may_be_tried_again_keeps_its_file(conn: Connection, state: str) -> None:
    (row,) = arrive(conn, spool("a", "f1"))
    (work,) = ledgers.claim(conn)
    if state == "quarantined":
        ledgers.finish(conn, Outcome(work.id, "quarantined", "error"))
    else:
        ledgers.finish(conn, ledgers.ready(row, "a"))
        ledger.release_rows(conn, [row], [ledgers.PEER], 103.0)
        (one,) = deliveries.claim(conn, PROJECT, ledgers.PEER, 10, "me", 104.0)
        deliveries.finish_many(conn, [Sent(one.id, state, state)], 105.0)
    assert of(conn, row) == (state, "spool", "f1")
    assert spooled.done(conn, 10) == []
    assert spooled.counts(conn) == {state: 1}
    assert ledger.retry(conn, [row], 106.0) or state != "quarantined"


def test_the_same_content_again_is_no_second_row_and_its_file_nobodys(conn: Connection) -> None:
    (row,) = arrive(conn, spool("a", "f1"))
    assert arrive(conn, spool("a", "f2")) == [row]
    assert arrive(conn, spool("a", "f3"), spool("a", "f4")) == [row, row]
    assert spooled.named(conn, ["f1", "f2", "f3", "f4"]) == {"f1"}
    confirm(conn, "a")
    spooled.forget(conn, ["f1"])
    assert arrive(conn, spool("a", "f5")) == [row]
    assert spooled.named(conn, ["f5"]) == set() and of(conn, row)[0] == "confirmed"
    assert spooled.knows(conn, PROJECT, VAULT.index("instance", "a"), source("a").digest)
    assert not spooled.knows(conn, PROJECT, VAULT.index("instance", "a"), "other")


def test_other_content_takes_the_place_of_what_has_not_left(conn: Connection) -> None:
    (old,) = arrive(conn, spool("a", "f1", digest="one"))
    (new,) = arrive(conn, spool("a", "f2", digest="two"))
    assert of(conn, old)[0] == "superseded" and of(conn, new) == ("queued", "spool", "f2")
    assert spooled.done(conn, 10) == ["f1"]


def test_of_several_contents_that_come_together_the_last_one_goes(conn: Connection) -> None:
    first, second = (spool("a", file, digest=digest) for file, digest in (("f1", "one"), ("f2", "two")))
    one, other, two = arrive(conn, first, spool("b", "f3"), second)
    assert of(conn, one)[0] == "superseded"
    assert of(conn, two) == ("queued", "spool", "f2") and of(conn, other) == ("queued", "spool", "f3")
    assert spooled.done(conn, 10) == ["f1"]
    # And the first one once more, behind the other.
    assert arrive(conn, second, spool("a", "f4", digest="one")) == [two, one]
    assert of(conn, one) == ("queued", "spool", "f4") and of(conn, two)[0] == "superseded"
    confirm(conn, "a")
    three, four = arrive(conn, spool("a", "f5", digest="three"), spool("a", "f6", digest="four"))
    assert [of(conn, row)[0] for row in (three, four)] == ["quarantined"] * 2, "what has left is not replaced"


def test_a_lost_source_that_is_sent_again_is_queued_with_its_new_file(conn: Connection) -> None:
    (row,) = arrive(conn, spool("a", "f1"))
    (work,) = ledgers.claim(conn)
    ledgers.finish(conn, Outcome(work.id, "source-lost", "source-lost"))
    assert spooled.done(conn, 10) == [], "if it comes to light, it is not to be deleted"
    assert spooled.lost(conn) == {"f1"}
    assert arrive(conn, spool("a", "f2")) == [row]
    assert of(conn, row) == ("queued", "spool", "f2")


def test_what_was_stored_before_takes_the_file_and_what_came_back_to_orthanc_leaves_it(conn: Connection) -> None:
    (row,) = arrive(conn, source("a"))
    assert of(conn, row) == ("queued", "orthanc", None)
    arrive(conn, spool("a", "f1"))
    assert of(conn, row) == ("queued", "spool", "f1")
    (work,) = ledgers.claim(conn)
    ledgers.finish(conn, Outcome(work.id, "source-lost", "source-lost"))
    arrive(conn, source("a"))
    assert of(conn, row) == ("queued", "orthanc", None)


def test_nothing_in_the_spool_is_looked_for_in_orthanc(conn: Connection) -> None:
    (row,) = arrive(conn, spool("a", "f1"))
    assert ledger.unfinished(conn, PROJECT) == []
    assert ledger.mark_lost(conn, PROJECT, [VAULT.index("instance", "a")], 105.0) == 0
    assert of(conn, row)[0] == "queued"
