"""The counters say what counting would say, after whatever was done, rolled back or killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from orthanc_deid.store import Store, counting, deliveries, jobs, ledger
from orthanc_deid.store import job_items as links
from orthanc_deid.store.rows import LOCAL, JobRow, NewSource, Outcome, Sent
from orthanc_deid.store.schema import event_counts, job_items
from orthanc_deid.store.schema import ledger as rows

from tests.ledgers import PEER, PROJECT, VAULT, make_released, output, ready, source, subject

OTHER = "brain"


@pytest.fixture
def store(database: Path | str) -> Iterator[Store]:
    store = Store.open(database)
    yield store
    store.close()


def agree(store: Store) -> None:
    """All counters are what the rows say."""
    with store.read() as conn:
        assert counting.counted(conn) == counting.recount(conn)


class Life:
    """Random work on one ledger, each step a transaction of its own, some of them rolled back."""

    def __init__(self, store: Store, seed: int) -> None:
        self.store = store
        self.random = random.Random(seed)
        self.steps = (
            self.arrive, self.arrive, self.claim, self.finish, self.finish, self.release, self.send, self.send,
            self.give_back, self.lose, self.retry, self.exclude, self.renew, self.orphans, self.pause, self.resume,
            self.cancel, self.resend, self.late, self.delete, self.link,
        )  # fmt: skip

    def step(self, number: int) -> None:
        """Do one thing; one in ten is rolled back."""
        try:
            with self.store.begin() as conn:
                self.random.choice(self.steps)(conn, 60.0 * number)
                if self.random.random() < 0.1:
                    raise InterruptedError
        except InterruptedError:
            return

    def some(self, conn: Any, *states: str) -> list[int]:
        query = sa.select(rows.c.id).order_by(rows.c.id)
        ids = [row.id for row in conn.execute(query.where(rows.c.state.in_(states)) if states else query)]
        return self.random.sample(ids, min(len(ids), self.random.randint(1, 6)))

    def job(self, conn: Any, now: float) -> str:
        name = f"job-{self.random.randint(1, 3)}"
        if jobs.get(conn, name) is None:
            jobs.create(conn, JobRow(name, "DeidStudy", PROJECT, "Running", 0, now, None, "", {}))
        return name

    def sources(self) -> list[NewSource]:
        return [
            source(f"i{self.random.randint(1, 60)}", series=f"s{number % 3}", study=f"1.{number % 3}",
                   digest=self.random.choice([None, None, None, "cd" * 16]))
            for number in range(self.random.randint(1, 8))
        ]  # fmt: skip

    def arrive(self, conn: Any, now: float) -> None:
        job = self.job(conn, now) if self.random.random() < 0.5 else None
        project = self.random.choice([PROJECT, PROJECT, OTHER]) if job is None else PROJECT
        ledger.add_many(conn, project, self.sources(), now, job_id=job, again=self.random.random() < 0.5)

    def claim(self, conn: Any, now: float) -> None:
        series = VAULT.index("series", f"s{self.random.randint(0, 2)}")
        ledger.claim(conn, PROJECT, series, self.random.randint(1, 9), self.random.choice("ab"), now)

    def finish(self, conn: Any, now: float) -> None:
        outcomes = []
        for row in self.some(conn, "working"):
            reason = self.random.choice(["unparsable", "crashed"])
            who = subject(self.random.choice(["1", "2"]))
            outcomes.append(
                ready(row, f"o{row}", who=who, study=f"9.{who.subject.pseudonym}")
                if self.random.random() < 0.7
                else Outcome(row, self.random.choice(["quarantined", "rejected", "source-lost"]), reason)
            )
        ledger.finish_many(conn, PROJECT, outcomes, now)

    def release(self, conn: Any, now: float) -> None:
        ids = self.some(conn, "ready")
        deliveries.add(conn, ids, LOCAL, now)
        ledger.release_rows(conn, ids, self.random.choice([[PEER], [PEER, "peer:second"], []]), now)

    def send(self, conn: Any, now: float) -> None:
        to = self.random.choice([PEER, PEER, LOCAL, "peer:second"])
        claimed = deliveries.claim(conn, PROJECT, to, 7, self.random.choice("ab"), now)
        ends = [self.random.choice(["confirmed", "confirmed", "pending", "refused", "conflict"]) for _ in claimed]
        sents = [Sent(one.id, end, next_try=now) for one, end in zip(claimed, ends, strict=True)]
        deliveries.finish_many(conn, sents[1:], now)

    def give_back(self, conn: Any, now: float) -> None:
        ledger.give_back(conn, self.some(conn, "working"), now)

    def lose(self, conn: Any, now: float) -> None:
        ledger.mark_lost(conn, PROJECT, [VAULT.index("instance", f"i{self.random.randint(1, 60)}")], now)

    def retry(self, conn: Any, now: float) -> None:
        ledger.retry(conn, self.some(conn), now)

    def exclude(self, conn: Any, now: float) -> None:
        ledger.exclude(conn, self.some(conn)[:2], now)

    def renew(self, conn: Any, now: float) -> None:
        ledger.renew(conn, self.some(conn, "ready", "released"), now)

    def orphans(self, conn: Any, now: float) -> None:
        ledger.requeue_orphans(conn, now, owner="a")
        deliveries.requeue_orphans(conn, now, owner="b")

    def pause(self, conn: Any, now: float) -> None:
        jobs.pause(conn, self.job(conn, now), now)

    def resume(self, conn: Any, now: float) -> None:
        jobs.resume(conn, self.job(conn, now), now)

    def cancel(self, conn: Any, now: float) -> None:
        if self.random.random() < 0.3:
            jobs.cancel(conn, self.job(conn, now), now)

    def resend(self, conn: Any, now: float) -> None:
        deliveries.resend(conn, self.some(conn, "refused", "conflict"), now)

    def late(self, conn: Any, now: float) -> None:
        conn.execute(sa.update(rows).where(rows.c.id.in_(self.some(conn, "confirmed", "released"))).values(late=now))

    def delete(self, conn: Any, now: float) -> None:
        conn.execute(sa.delete(rows).where(rows.c.id.in_(self.some(conn)[:1])))

    def link(self, conn: Any, now: float) -> None:
        links.link(conn, self.job(conn, now), self.some(conn))
        conn.execute(sa.delete(job_items).where(job_items.c.ledger_id.in_(self.some(conn)[:1])))


@pytest.mark.parametrize("seed", range(4))
def test_after_random_work_the_counters_are_the_truth(store: Store, seed: int) -> None:
    life = Life(store, seed)
    with store.begin() as conn:
        make_released(conn, "first", now=1.0)
    for number in range(1, 401):
        life.step(number)
        if number % 50 == 0:
            agree(store)
            with store.begin() as conn:
                counting.tidy(conn, 60.0 * number)
    agree(store)
    with store.read() as conn:
        truth = counting.recount(conn)
    assert all(truth.values()), "nothing happened that could be miscounted"


def work_on(path: str, seed: int) -> None:
    store = Store.open(path)
    life = Life(store, seed)
    for number in range(1, 100_000):
        life.step(number)


def test_after_kills_the_counters_are_the_truth(database: Path | str) -> None:
    Store.open(database).close()
    context = multiprocessing.get_context("spawn")
    for seed in range(3):
        process = context.Process(target=work_on, args=(str(database), seed))
        process.start()
        store = Store.open(database)
        before = total(store)
        deadline = time.monotonic() + 60
        while total(store) < before + 20 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join(30)
        assert total(store) >= before + 20
        agree(store)
        store.close()


def total(store: Store) -> int:
    """How often anything came into a state."""
    with store.read() as conn:
        return sum(number for states in counting.events(conn).values() for number in states.values())


def test_events_are_counted_for_ever_and_by_the_minute_for_an_hour(store: Store) -> None:
    now = 1_000_000.0
    with store.begin() as conn:
        ids = make_released(conn, "a", "b", now=now)
        claimed = deliveries.claim(conn, PROJECT, PEER, 9, "service", now)
        deliveries.finish_many(conn, [Sent(one.id, "confirmed") for one in claimed], now + 300)
    assert len(ids) == 2
    with store.read() as conn:
        assert counting.events(conn)[PROJECT]["confirmed"] == 2
        assert counting.confirmed_since(conn, PROJECT, now + 240) == 2
        assert counting.confirmed_since(conn, PROJECT, now + 420) == 0
        before = counting.events(conn)
    with store.begin() as conn:
        counting.tidy(conn, now + 120)
        assert counting.confirmed_since(conn, PROJECT, now + 240) == 2
        assert counting.tidy(conn, now + 90_000) > 0
        assert counting.events(conn) == before
        assert {row.minute for row in conn.execute(sa.select(event_counts.c.minute))} == {0}
    agree(store)


def test_loaded_rows_are_counted_when_asked(store: Store) -> None:
    with store.begin() as conn:
        make_released(conn, "a", "b")
        assert output("a").sop
        for table in ("instance_counts", "delivery_counts", "event_counts"):
            conn.exec_driver_sql(f"DELETE FROM {table}")
    with pytest.raises(AssertionError):
        agree(store)
    with store.begin() as conn:
        counting.fill(conn)
        assert ledger.counts(conn) == {PROJECT: {"released": 2}}
    agree(store)
