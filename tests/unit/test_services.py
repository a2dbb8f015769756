"""Services on one database: who lives and leads, what a dead one leaves, and that a stale claim ends nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa
from orthanc_deid.config import Config
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.pipeline import membership as module
from orthanc_deid.pipeline.membership import Membership
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.store import Store, deliveries, ledger, services
from orthanc_deid.store.rows import Sent
from orthanc_deid.store.schema import services as table

from tests.ledgers import PEER, PROJECT, VAULT, add, make_ready, ready, state
from tests.orthancs import until

LEASE = 15.0
SERIES = VAULT.index("series", "series-a")


@pytest.fixture
def store(database: Path | str) -> Iterator[Store]:
    store = Store.open(database)
    yield store
    store.close()


def age(conn: Any, owner: str, seconds: float) -> None:
    """Make a service's last beat older."""
    conn.execute(sa.update(table).where(table.c.owner == owner).values(beat=table.c.beat - seconds))


def join(store: Store, *owners: str) -> None:
    with store.aside() as conn:
        for owner in owners:
            services.register(conn, owner, f"outbox of {owner}", "machine")


def test_the_first_leads_until_it_is_dead_or_leaves(store: Store) -> None:
    join(store, "a", "b")
    with store.aside() as conn:
        assert services.beat(conn, "a", LEASE).leads
        beat = services.beat(conn, "b", LEASE)
        assert (beat.lives, beat.leads, beat.stale) == (True, False, ())
        assert [(one.owner, one.leads) for one in services.living(conn)] == [("a", True), ("b", False)]
        age(conn, "a", LEASE + 1)
        beat = services.beat(conn, "b", LEASE)
        assert (beat.leads, beat.stale) == (True, ("outbox of a",))
        assert not services.beat(conn, "a", LEASE).leads, "it lives, but another one leads by now"
        services.leave(conn, "b")
        assert services.beat(conn, "a", LEASE).leads
        assert services.leads(conn, "a")
        assert not services.leads(conn, "b")


def test_a_buried_service_learns_it_from_its_next_beat(store: Store) -> None:
    join(store, "a", "b")
    with store.aside() as conn:
        age(conn, "a", LEASE + 1)
        assert services.bury(conn, LEASE) == 1
        assert not services.beat(conn, "a", LEASE).lives
        assert services.beat(conn, "b", LEASE).lives


def test_another_run_in_the_same_folder_takes_the_place_of_the_one_before(store: Store) -> None:
    join(store, "a")
    with store.aside() as conn:
        services.register(conn, "a2", "outbox of a", "machine")
        assert [one.owner for one in services.living(conn)] == ["a2"]
        assert services.beat(conn, "a2", LEASE).leads


def test_the_claims_and_outputs_of_the_dead_are_given_back_and_those_of_the_living_are_not(store: Store) -> None:
    join(store, "a", "b")
    with store.begin() as conn:
        rows = [row.id for row in add(conn, "1", "2", "3", "4", "5", "6")]
        for owner in ("a", "b"):
            for work in ledger.claim(conn, PROJECT, SERIES, 3, owner, 101.0)[:2]:
                done = [ready(work.id, str(work.id))]
                ledger.finish_many(conn, PROJECT, done, 102.0, owner=owner, outbox=f"outbox of {owner}")
        ledger.release_rows(conn, rows, [PEER], 103.0)
        for owner in ("a", "b"):
            (one, *_) = deliveries.claim(conn, PROJECT, PEER, 1, owner, 104.0, outbox=f"outbox of {owner}")
            assert one.ledger_id == rows[0 if owner == "a" else 3]
        assert services.inherit(conn, 105.0) == (0, 0, 0)
    with store.aside() as conn:
        age(conn, "a", LEASE + 1)
        services.bury(conn, LEASE)
    with store.begin() as conn:
        assert services.inherit(conn, 106.0) == (1, 1, 2)
        assert services.inherit(conn, 107.0) == (0, 0, 0)
        assert [state(conn, row) for row in rows] == [
            "released",
            "released",
            "queued",
            "released",
            "released",
            "working",
        ]
        found = deliveries.claim(conn, PROJECT, PEER, 10, "b", 108.0, outbox="outbox of b")
        assert sorted(one.ledger_id for one in found) == [rows[0], rows[1], rows[4]]
        assert [one.history for one in found if one.ledger_id == rows[0]] == ["same"], "its bytes may have arrived"


def test_what_lies_in_another_outbox_is_left_to_who_has_it(store: Store) -> None:
    with store.begin() as conn:
        ids = make_ready(conn, "1", "2")
        conn.execute(sa.update(ledger_table()).where(ledger_table().c.id == ids[1]).values(outbox="there"))
        ledger.release_rows(conn, ids, [PEER], 103.0)
        assert [one.pending for one in deliveries.due(conn, 104.0, (), "here")] == [1]
        assert [one.pending for one in deliveries.due(conn, 104.0)] == [2]
        assert deliveries.next_due(conn, 104.0, "here") == deliveries.next_due(conn, 104.0, "there") == 104.0
        assert [row for row, _ in ledger.live_outputs(conn, outbox="here")] == ids[:1]
        assert [one.ledger_id for one in deliveries.claim(conn, PROJECT, PEER, 9, "a", 104.0, outbox="here")] == ids[:1]
        assert deliveries.next_due(conn, 104.0, "here") is None, "what is left makes no room there"
        assert [one.ledger_id for one in deliveries.claim(conn, PROJECT, PEER, 9, "b", 104.0, outbox="there")] == ids[
            1:
        ]


def ledger_table() -> sa.Table:
    from orthanc_deid.store.schema import ledger

    return ledger


def test_a_stale_claim_ends_nothing(store: Store) -> None:
    with store.begin() as conn:
        (row,) = add(conn, "1")
        ledger.claim(conn, PROJECT, SERIES, 1, "a", 101.0)
        ledger.requeue_orphans(conn, 102.0, owner="a")
        ledger.claim(conn, PROJECT, SERIES, 1, "b", 103.0)
        assert ledger.give_back(conn, [row.id], 104.0, owner="a") == 0
        (done,) = ledger.finish_many(conn, PROJECT, [ready(row.id, "1")], 104.0, owner="a", outbox="a")
        assert (done.applied, done.state) == (False, "working")
        (done,) = ledger.finish_many(conn, PROJECT, [ready(row.id, "1")], 105.0, owner="b", outbox="b")
        assert done.applied
        ledger.release_rows(conn, [row.id], [PEER], 106.0)
        (one,) = deliveries.claim(conn, PROJECT, PEER, 1, "a", 107.0)
        deliveries.requeue_orphans(conn, 108.0, owner="a")
        (two,) = deliveries.claim(conn, PROJECT, PEER, 1, "b", 109.0)
        assert deliveries.finish_many(conn, [Sent(one.id, "confirmed")], 110.0, owner="a") == []
        assert state(conn, row.id) == "released"
        assert deliveries.finish_many(conn, [Sent(two.id, "confirmed")], 111.0, owner="b") == [row.id]
        assert state(conn, row.id) == "confirmed"


def test_claims_at_the_same_time_never_meet(store: Store) -> None:
    with store.begin() as conn:
        add(conn, *[str(number) for number in range(120)])
    taken: list[list[int]] = []
    gate = threading.Barrier(4)

    def take(owner: str) -> None:
        gate.wait(20)
        while True:
            with store.begin(together=True) as conn:
                works = ledger.claim(conn, PROJECT, SERIES, 7, owner, 101.0)
            if not works:
                return
            taken.append([work.id for work in works])
            with store.begin(together=True) as conn:
                done = [ready(work.id, str(work.id)) for work in works]
                ledger.finish_many(conn, PROJECT, done, 102.0, owner=owner)
                ledger.release_rows(conn, [work.id for work in works], [PEER], 102.0)
            with store.begin(together=True) as conn:
                sent = deliveries.claim(conn, PROJECT, PEER, 5, owner, 103.0)
            with store.begin(together=True) as conn:
                deliveries.finish_many(conn, [Sent(one.id, "confirmed") for one in sent], 104.0, owner=owner)

    threads = [threading.Thread(target=take, args=(f"s{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    ids = [row for rows in taken for row in rows]
    assert (len(ids), len(set(ids))) == (120, 120)
    with store.begin() as conn:
        rest = deliveries.claim(conn, PROJECT, PEER, 200, "s", 105.0)
        deliveries.finish_many(conn, [Sent(one.id, "confirmed") for one in rest], 106.0)
        assert ledger.counts(conn) == {PROJECT: {"confirmed": 120}}


# The thread that beats


class Member:
    """A service's membership without the rest of it."""

    def __init__(self, store: Store, folder: Path, name: str) -> None:
        config = Config.parse({"Projects": {}}, data_directory=folder, load_profiles=False)
        keys = {PROJECT: MasterKey({1: bytes(range(32))}).project(PROJECT)}
        self.shared = Shared(config, store, cast(Any, None), Outbox(folder / name), keys, name)
        self.shared.outbox.prepare()
        self.shared.leads.clear()
        self.taken: list[str] = []
        self.membership = Membership(self.shared, self.taken.extend)
        self.membership.join()
        self.membership.start()

    def end(self) -> None:
        """Stop the thread without a word to the others."""
        self.shared.stopping.set()
        self.membership._thread.join(10)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(module, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(module, "MARGIN_SECONDS", 0.5)


@pytest.mark.usefixtures("quick")
def test_the_work_of_one_that_dies_is_taken_over_and_it_finds_that_out(store: Store, tmp_path: Path) -> None:
    a, b = Member(store, tmp_path, "a"), Member(store, tmp_path, "b")
    try:
        assert a.shared.leads.is_set()
        with store.begin() as conn:
            (row,) = add(conn, "1")
            ledger.claim(conn, PROJECT, SERIES, 1, "a", 101.0)
        a.end()
        until(b.shared.leads.is_set, 20, "the other one to lead")
        until(lambda: b.taken == [a.shared.outbox.name], 20, "the burial")
        with store.read() as conn:
            assert state(conn, row.id) == "queued"
        assert not a.membership.held(), "it sends nothing any more"
        a.membership._beat()
        assert a.membership.lost.is_set()
        assert b.membership.held()
    finally:
        a.end()
        b.end()


@pytest.mark.usefixtures("quick")
def test_who_leaves_in_order_gives_the_lead_away_at_once(store: Store, tmp_path: Path) -> None:
    a, b = Member(store, tmp_path, "a"), Member(store, tmp_path, "b")
    try:
        a.shared.stopping.set()
        a.membership.stop(10)
        until(b.shared.leads.is_set, 1.5, "the other one to lead before any lease has run out")
        assert not a.shared.leads.is_set()
    finally:
        a.end()
        b.end()


@pytest.mark.usefixtures("quick")
def test_after_a_time_without_a_database_nobody_is_buried_too_soon(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = Member(store, tmp_path, "a"), Member(store, tmp_path, "b")
    away = threading.Event()
    real = services.beat

    def beat(*arguments: Any) -> services.Beat:
        if away.is_set():
            raise sa.exc.OperationalError("away", None, Exception())
        return real(*arguments)

    monkeypatch.setattr(module.services, "beat", beat)
    try:
        away.set()
        until(lambda: not a.membership.held() and not b.membership.held(), 20, "the end of both leases")
        until(lambda: not a.shared.leads.is_set(), 20, "nobody to lead")
        assert {one["Part"] for one in a.shared.troubles.show()} == {"membership"}
        away.clear()
        until(lambda: a.shared.leads.is_set() != b.shared.leads.is_set(), 20, "one leader")
        until(lambda: a.membership.held() and b.membership.held(), 20, "both to live")
        assert not a.membership.lost.is_set()
        assert not b.membership.lost.is_set()
        assert (a.taken, b.taken) == ([], [])
    finally:
        a.end()
        b.end()


def test_all_tell_the_time_of_the_database(store: Store, tmp_path: Path) -> None:
    member = Member(store, tmp_path, "a")
    try:
        with store.aside() as conn:
            there = services.clock(conn)
        assert abs(member.membership.clock() - there) < 2.0
    finally:
        member.end()
