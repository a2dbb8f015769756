"""What a receiver's answer means for a delivery: believed, tried again, given up, or in conflict."""

from __future__ import annotations

from pathlib import Path

import pytest
from orthanc_deid.limits import Gates, Limits
from orthanc_deid.pipeline import delivery
from orthanc_deid.pipeline.delivery import DeliveryTasks
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.shared import Troubles
from orthanc_deid.send.base import Reply
from orthanc_deid.store.rows import Sent, ToSend


class Shared:
    """The few things that judging an answer needs, with a clock of the test's own."""

    def __init__(self, folder: Path) -> None:
        import threading

        self.now = 1000.0
        self.holds = True
        self.stopping = threading.Event()
        self.troubles = Troubles()
        self.outbox = Outbox(folder)
        self.fresh = {7: "d" * 64}
        self.sending: set[int] = set()
        self.gates = Gates({})

    def clock(self) -> float:
        return self.now

    def held(self) -> bool:
        return self.holds


class Receiver:
    """Answers in turn."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.asked = 0

    def send(self, path: Path, one: ToSend) -> tuple[Reply, bool]:
        self.asked += 1
        return (self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]), True

    def alive(self) -> bool:
        return True

    def close(self) -> None:
        pass


def tasks_for(shared: Shared, receiver: Receiver) -> DeliveryTasks:
    def make(name: str) -> Receiver:
        assert name == "peer:research"
        return receiver

    return DeliveryTasks(shared, None, make)  # type: ignore[arg-type]


@pytest.fixture
def shared(tmp_path: Path) -> Shared:
    return Shared(tmp_path)


def delivery_of(attempts: int = 1, history: str = "never") -> ToSend:
    return ToSend(
        id=1, ledger_id=7, project="p", destination="peer:research", out_study="1", out_series="2", out_sop="3",
        out_orthanc_id="x", out_digest="d" * 64, out_size=10, attempts=attempts, history=history,
    )  # fmt: skip


def send(shared: Shared, tasks: DeliveryTasks, one: ToSend) -> Sent:
    sent = tasks._send(tasks.destination(one.destination), one)
    assert sent is not None
    return sent


@pytest.mark.parametrize(
    ("reply", "history", "state"),
    [
        (Reply.STORED, "never", "confirmed"),
        (Reply.STORED, "other", "confirmed"),
        (Reply.ALREADY, "same", "confirmed"),
        (Reply.ALREADY, "never", "conflict"),
        (Reply.ALREADY, "other", "conflict"),
        (Reply.DOWN, "never", "pending"),
        (Reply.REFUSED, "never", "pending"),
    ],
)
def test_answers(shared: Shared, reply: Reply, history: str, state: str) -> None:
    assert send(shared, tasks_for(shared, Receiver(reply)), delivery_of(history=history)).state == state


def test_a_living_peer_that_refuses_is_asked_a_few_times_and_then_no_more(shared: Shared) -> None:
    peer = Receiver(Reply.REFUSED)
    tasks = tasks_for(shared, peer)
    waits = []
    # Attempts in the ledger may be many, from days when nobody was there: they do not count.
    while (sent := send(shared, tasks, delivery_of(attempts=50 + peer.asked))).state == "pending":
        assert sent.next_try is not None
        waits.append(sent.next_try - shared.now)
        shared.now = sent.next_try
    assert (sent.state, sent.reason, peer.asked) == ("refused", "refused", delivery.REFUSALS)
    assert waits == sorted(waits)


def test_a_peer_that_is_down_is_left_alone_longer_and_longer_but_never_given_up(shared: Shared) -> None:
    peer = Receiver(Reply.DOWN)
    tasks = tasks_for(shared, peer)
    days = shared.now + 5 * 86400
    waits = []
    while shared.now < days:
        sent = send(shared, tasks, delivery_of())
        assert sent.state == "pending" and sent.next_try is not None
        waits.append(sent.next_try - shared.now)
        shared.now = sent.next_try
    assert waits[0] == delivery.DOWN_PAUSE[0]
    assert waits[-1] == delivery.DOWN_PAUSE[1]
    assert tasks.down() == {"peer:research": shared.now}
    assert shared.troubles.show()
    peer.replies = [Reply.STORED]
    assert send(shared, tasks, delivery_of()).state == "confirmed"
    assert tasks.down() == {} and not shared.troubles.show()


def test_while_it_is_down_nobody_else_asks_it(shared: Shared) -> None:
    peer = Receiver(Reply.DOWN)
    tasks = tasks_for(shared, peer)
    first = send(shared, tasks, delivery_of())
    others = [send(shared, tasks, delivery_of()) for _ in range(10)]
    assert peer.asked == 1
    assert {sent.next_try for sent in others} == {first.next_try}
    assert not any(sent.left for sent in others), "nothing was sent, so nothing may be believed later"
    assert tasks.resting() == ["peer:research"]
    shared.now = first.next_try or 0
    assert tasks.resting() == [], "its turn has come"


@pytest.mark.parametrize("sign", ["held", "stopping"])
def test_who_was_buried_while_it_waited_for_its_turn_sends_nothing(
    shared: Shared, monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    peer = Receiver(Reply.STORED)
    tasks = tasks_for(shared, peer)
    shared.gates = Gates({("p", "peer:research"): Limits(instances_per_second=0.1)})
    assert send(shared, tasks, delivery_of()).state == "confirmed"

    def wait(seconds: float) -> bool:
        assert seconds > 9
        shared.holds = sign != "held"
        if sign == "stopping":
            shared.stopping.set()
        return False

    monkeypatch.setattr(shared.stopping, "wait", wait)
    sent = send(shared, tasks, delivery_of())
    assert (sent.state, sent.left, peer.asked) == ("pending", False, 1)
