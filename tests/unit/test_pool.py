"""The pool blames exactly the instance that its worker was at, and loses none of the others."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from orthanc_deid.core.values import Known
from orthanc_deid.identity.vault import Vault
from orthanc_deid.pipeline import pool as pool_module
from orthanc_deid.pipeline.messages import Chunk, Done, Item, Setup
from orthanc_deid.pipeline.pool import Pool, Queue, Work
from orthanc_deid.pipeline.worker import Knowledge
from orthanc_deid.store.rows import BACKFILL, FRESH

from tests import crashers, ledgers


class Harness:
    """A pool whose answers land in a queue."""

    def __init__(self, folder: Path, size: int) -> None:
        self.answers: queue.Queue[Done | Item] = queue.Queue()
        self.pool = Pool(size, Setup("http://127.0.0.1:1", None, None, folder, {}), self._known, crashers.main)
        self.pool.start()

    def _known(self, project: str, subject: str, revision: int) -> tuple[int, list[bytes]]:
        return revision + 1, [project.encode(), subject.encode()]

    def submit(self, *instances: str, first: int = 0, priority: int = FRESH) -> None:
        items = tuple(Item(row, instance, "") for row, instance in enumerate(instances, first))
        self.pool.submit(Work(Chunk("p", items), self.answers.put, self.answers.put, priority))

    def take(self, number: int) -> list[Done | Item]:
        return [self.answers.get(timeout=30) for _ in range(number)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[int], Harness]]:
    made: list[Harness] = []

    def make(size: int) -> Harness:
        made.append(Harness(tmp_path, size))
        return made[-1]

    yield make
    for harness in made:
        harness.pool.stop(1.0)


def test_every_item_is_answered_once(start: Callable[[int], Harness]) -> None:
    harness = start(2)
    for _ in range(5):
        harness.submit("a", "b", "c")
    answers = harness.take(15)
    assert all(isinstance(answer, Done) for answer in answers)
    assert harness.answers.empty()


def test_a_dead_worker_costs_only_the_item_it_was_at(start: Callable[[int], Harness]) -> None:
    harness = start(1)
    harness.submit("a", "kill", "b", "c")
    answers = harness.take(4)
    blamed = [answer for answer in answers if isinstance(answer, Item)]
    assert [item.instance for item in blamed] == ["kill"]
    assert sorted(answer.row for answer in answers if isinstance(answer, Done)) == [0, 2, 3]
    assert harness.pool.restarts == 1


def test_a_chunk_in_hand_gives_way_to_something_more_urgent(start: Callable[[int], Harness]) -> None:
    harness = start(1)
    harness.submit("slow", "slow", "slow", "slow", first=0, priority=BACKFILL)
    harness.take(1)
    harness.submit("new", first=9)
    rows = [answer.row for answer in harness.take(4) if isinstance(answer, Done)]
    assert rows.index(9) <= 2, "the item in hand, and the one that was begun when its end was seen"
    assert sorted(rows) == [1, 2, 3, 9], "and the rest is done later, each once"
    assert harness.pool.restarts == 0 and harness.answers.empty()


def test_what_is_urgent_goes_first_and_what_is_not_never_stands_still() -> None:
    def work(number: int, priority: int) -> Work:
        return Work(Chunk(str(number), ()), lambda _: None, lambda _: None, priority)

    waiting = Queue()
    for number in range(100):
        waiting.put(work(number, BACKFILL))
    taken = []
    for number in range(100, 200):
        waiting.put(work(number, FRESH))
        assert waiting.better(BACKFILL) and not waiting.better(FRESH)
        taken.append(waiting.take())
    old = [one for one in taken if int(one.chunk.project) < 100]
    assert [one.chunk.project for one in old] == [str(number) for number in range(100 // Queue.PATIENCE)]
    assert {one.priority for one in old} == {FRESH}, "what has its turn is not asked to give way"
    assert len(waiting) == 100


def test_a_worker_that_died_while_idle_blames_nobody(start: Callable[[int], Harness]) -> None:
    harness = start(1)
    harness.submit("a")
    (first,) = harness.take(1)
    assert isinstance(first, Done) and first.findings
    os.kill(first.findings["pid"], 9)
    deadline = time.monotonic() + 10
    while harness.pool.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    harness.submit("b")
    (second,) = harness.take(1)
    assert isinstance(second, Done) and second.findings
    assert second.findings["pid"] != first.findings["pid"]


def test_a_worker_that_grew_too_large_is_replaced(start: Callable[[int], Harness]) -> None:
    harness = start(1)
    harness.submit("fat")
    harness.submit("b")
    first, second = harness.take(2)
    assert isinstance(first, Done) and isinstance(second, Done)
    assert first.findings and second.findings and first.findings["pid"] != second.findings["pid"]
    assert harness.pool.restarts == 0


def test_a_worker_says_what_it_knew_beyond_what_it_was_told() -> None:
    vault = Vault(ledgers.KEYS)

    def sealed(*values: str) -> list[bytes]:
        return [vault.seal_bytes("known", Known(frozenset({("name", value)})).dump()) for value in values]

    knowledge = Knowledge(vault)
    knowledge.update(0, [])
    first = knowledge.add(Known(frozenset({("name", "A"), ("name", "B")})))
    assert len(first) == 2 and set(knowledge.beyond) == {ref.index for ref in first}
    # The next object of the same chunk has one of them, and one more: it searched for all three.
    second = knowledge.add(Known(frozenset({("name", "B"), ("name", "C")})))
    assert len(second) == 2 and len({ref.index for ref in first + second}) == 3
    assert len(knowledge.beyond) == 3 and len(knowledge.known.values) == 3
    # The next chunk knows what the database knows by then, and no more: C's object was held.
    knowledge.update(1, sealed("A", "B", "D"))
    assert knowledge.beyond == () and knowledge.known.values == {("name", name) for name in "ABD"}
    assert knowledge.add(Known(frozenset({("name", "A")}))) == ()
    assert [ref.index for ref in knowledge.add(Known(frozenset({("name", "C")})))] == list(knowledge.beyond)


def test_a_worker_is_told_what_is_known_of_a_subject(start: Callable[[int], Harness]) -> None:
    harness = start(1)
    harness.submit("ask")
    (answer,) = harness.take(1)
    assert isinstance(answer, Done) and answer.findings and answer.findings["known"] == (4, [b"p", b"subject"])


def test_a_worker_that_was_stopped_is_killed_and_its_item_blamed(
    start: Callable[[int], Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(pool_module, "STOPPED_SECONDS", 0.3)
    harness = start(1)
    harness.submit("hang", "a")
    deadline = time.monotonic() + 20
    while not harness.pool.busy and time.monotonic() < deadline:
        time.sleep(0.01)
    (pid,) = harness.pool.pids()
    time.sleep(0.6)  # silent for longer than that, but running
    assert harness.answers.empty()
    os.kill(pid, signal.SIGSTOP)
    answers = harness.take(2)
    assert [answer.instance for answer in answers if isinstance(answer, Item)] == ["hang"]
    assert [answer.row for answer in answers if isinstance(answer, Done)] == [1]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_stop_ends_a_worker_that_hangs(start: Callable[[int], Harness]) -> None:
    harness = start(2)
    harness.submit("hang")
    deadline = time.monotonic() + 10
    while not harness.pool.busy and time.monotonic() < deadline:
        time.sleep(0.01)
    pids = harness.pool.pids()
    began = time.monotonic()
    harness.pool.stop(0.5)
    assert time.monotonic() - began < 5
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert harness.answers.empty()
