"""The task of a delivery: sends what is released of one study to one destination, several instances at once.

The digest is in the ledger before a byte leaves. A receiver that says it already holds an instance is believed only
if the ledger shows that these very bytes were sent there before; else it is a conflict. A peer that is down makes
everything for it wait, for days if need be; what a living peer refuses is tried a few times and then reported.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from orthanc_deid import logs
from orthanc_deid.limits import NOTHING
from orthanc_deid.pipeline.lanes import Lanes
from orthanc_deid.pipeline.pressure import STAGES, Share
from orthanc_deid.pipeline.recorder import Recorder
from orthanc_deid.pipeline.senders import MakeSender
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.tasks import SERIES, Running
from orthanc_deid.send.base import Reply, Sender
from orthanc_deid.store import deliveries, knowledge, ledger
from orthanc_deid.store.deliveries import Sent, ToSend

log = logs.get(__name__)

IN_FLIGHT = 4
"""Instances on their way to one destination at a time."""
CLAIM = 64
"""Deliveries claimed in one transaction."""
REFUSALS = 5
"""How often a living peer is offered an instance before it counts as refused."""
REFUSED_PAUSE = (2.0, 60.0)
"""First and longest wait between two offers."""
DOWN_PAUSE = (1.0, 300.0)
"""First and longest wait while a destination is down."""
FINAL = frozenset({Reply.UNDECODABLE, Reply.VALUE_LEFT})
"""Refusals of our own: offered again, the same bytes come to the same end."""


@dataclass
class Destination:
    """One destination as this service sees it: its sender, and since when and for how long it is left alone."""

    name: str
    sender: Sender
    lanes: Lanes
    lock: threading.Lock = field(default_factory=threading.Lock)
    pause: float = 0.0
    down_until: float = 0.0


class DeliveryTasks:
    """The body of the tasks of kind `delivery`."""

    def __init__(self, shared: Shared, recorder: Recorder, make: MakeSender) -> None:
        self._shared = shared
        self._recorder = recorder
        self._make = make
        self._lock = threading.Lock()
        self._destinations: dict[str, Destination] = {}
        self._refusals: dict[int, int] = {}
        self._share = STAGES[0]

    def destination(self, name: str) -> Destination:
        """Return the state of a destination."""
        with self._lock:
            if name not in self._destinations:
                self._destinations[name] = Destination(name, self._make(name), Lanes(IN_FLIGHT, "send"))
                self._destinations[name].lanes.narrow(self._share.fresh, self._share.other)
            return self._destinations[name]

    def down(self) -> dict[str, float]:
        """Return the destinations that are down, and until when they are left alone."""
        now = self._shared.clock()
        with self._lock:
            return {d.name: d.down_until for d in self._destinations.values() if d.pause and d.down_until > now - 600}

    def resting(self) -> list[str]:
        """Return the destinations that nothing is sent to now."""
        now = self._shared.clock()
        with self._lock:
            down = {one.name for one in self._destinations.values() if one.down_until > now}
        return sorted(down.union(self._shared.gates.shut(now)))

    def narrow(self, share: Share) -> None:
        """Have only a share of what else is on its way at a time."""
        with self._lock:
            self._share = share
            for destination in self._destinations.values():
                destination.lanes.narrow(share.fresh, share.other)

    def clock_was_set(self, by: float) -> None:
        """Leave destinations alone for as long as was meant, by the clock that was set by so many seconds."""
        with self._lock:
            for destination in self._destinations.values():
                with destination.lock:
                    destination.down_until += by if destination.down_until else 0.0

    def stop(self) -> None:
        """Begin nothing new; what is on its way ends with its connection or its answer."""
        with self._lock:
            for destination in self._destinations.values():
                destination.lanes.shutdown()
                destination.sender.close()

    def run(self, running: Running) -> None:
        """Send what is due of one study of one project to one destination."""
        project, name, study = running.key
        destination = self.destination(name)
        flight = _Flight()
        running.wake = flight.look
        while running.again():
            flight.look()
            while not running.stopping and destination.down_until <= self._shared.clock() and self._shared.held():
                if not self._claim(destination, flight, project, study):
                    with flight.changed:
                        flight.changed.wait_for(lambda: flight.stirs or running.stopping, 1.0)
                        if flight.on_their_way == 0 and flight.empty:
                            break
            with flight.changed:
                # A claimed delivery is this task's until its answer is written down.
                flight.changed.wait_for(lambda: flight.on_their_way == 0 or running.stopping)

    def _claim(self, destination: Destination, flight: _Flight, project: str, study: str) -> bool:
        """Claim and send as much as there is room for; whether there was any."""
        with flight.changed:
            if flight.empty or flight.on_their_way > CLAIM // 2:
                return False
            flight.empty = True
        now = self._shared.clock()
        worst = self._shared.gates.worst(project, destination.name, now)
        if worst == NOTHING:  # its window is shut: the keeper asks again when it opens
            return False
        shared = self._shared
        with shared.store.read() as conn:
            behind = bool(knowledge.outdated(conn, project, destination.name, now, study))
        if behind:
            with shared.store.begin() as conn:
                again = ledger.renew(conn, knowledge.outdated(conn, project, destination.name, now, study), now)
            shared.renew(again)
        with shared.store.begin(together=True) as conn:
            claimed = deliveries.claim(
                conn, project, destination.name, CLAIM, shared.owner, now, study=study, worst=worst, outbox=shared.here
            )
        shared.sending.update(one.id for one in claimed)
        with flight.changed:
            flight.empty = flight.empty and len(claimed) < CLAIM
            flight.on_their_way += len(claimed)
        for one in claimed:
            try:
                destination.lanes.submit(one.priority, self._one, destination, one, flight.landed)
            except RuntimeError:  # stopping: the claim is an orphan of this run, and requeued at the next start
                return False
        return bool(claimed)

    def _one(self, destination: Destination, one: ToSend, told: Callable[[], None]) -> None:
        """Send one instance and have its fate written down."""
        try:
            sent = self._send(destination, one)
        except FileNotFoundError:  # somebody has cleared the outbox: the next look finds that, and has it made again
            self._shared.fresh.pop(one.ledger_id, None)
            sent = Sent(one.id, "pending", "remade", self._shared.clock(), left=False)
        except Exception as error:  # nothing may leave a delivery without an outcome
            log.error("a delivery failed", error=type(error).__name__, destination=destination.name, exc_info=True)
            sent = Sent(one.id, "pending", "error", self._shared.clock() + DOWN_PAUSE[1])
        if sent is None:
            self._shared.sending.discard(one.id)
            told()
        else:
            self._recorder.sent(one.project, sent, told)

    def _send(self, destination: Destination, one: ToSend) -> Sent | None:
        now = self._shared.clock()
        if self._shared.stopping.is_set() or destination.down_until > now or not self._shared.held():
            return Sent(one.id, "pending", "waits", max(destination.down_until, now), left=False)
        if self._shared.fresh.get(one.ledger_id) != one.out_digest and not self._shared.outbox.intact(
            one.ledger_id, one.out_digest
        ):
            # Made before this start, and lost or torn: it is made again from its source, which gives the same bytes.
            with self._shared.store.begin() as conn:
                back = [Sent(one.id, "pending", "remade", now, left=False)]
                deliveries.finish_many(conn, back, now, owner=self._shared.owner)
                again = ledger.remake(conn, [one.ledger_id], now)
            for _, project, series_index in again:
                self._shared.tasks.ask(SERIES, project, series_index)
            return None
        # Asked again after the wait, and after the look at a large file: buried meanwhile, this service sends what may
        # have been recalled, or replaced, by another one.
        if not self._in_time(destination, one) or self._shared.stopping.is_set() or not self._shared.held():
            return Sent(one.id, "pending", "waits", self._shared.clock(), left=False)
        path = self._shared.outbox.path(one.ledger_id, one.out_digest)
        reply, left = destination.sender.send(path, one)
        return self._judge(destination, one, reply, left)

    def _in_time(self, destination: Destination, one: ToSend) -> bool:
        """Wait for the turn that the rate gives; False when the window has shut meanwhile, or the service stops."""
        gates = self._shared.gates
        pace = gates.paces.get((one.project, destination.name))
        if pace is not None and pace.limited:
            with destination.lock:
                wait = pace.reserve(time.monotonic(), one.out_size)
            if self._shared.stopping.wait(wait):
                return False
        return one.priority <= gates.worst(one.project, destination.name, self._shared.clock())

    def _judge(self, destination: Destination, one: ToSend, reply: Reply, left: bool) -> Sent:
        now = self._shared.clock()
        if reply.waits:
            until = self._is_down(destination, now, "down" if reply is Reply.LOCAL_DOWN else reply.value)
            return Sent(one.id, "pending", reply.value, until, left=left)
        self._is_up(destination)
        if reply is Reply.AWAITED:
            return Sent(one.id, "stored", reply.value, now)
        if reply in (Reply.STORED, Reply.COERCED) or (reply is Reply.ALREADY and one.history == "same"):
            return Sent(one.id, "confirmed", reply.value if reply is Reply.COERCED else None)
        if reply in (Reply.ALREADY, Reply.OTHER):
            log.warning("a destination holds other content under an output's UIDs", destination=destination.name)
            return Sent(one.id, "conflict", "conflict")
        # Counted here and not in the ledger: its attempts include those that found nobody there.
        refusals = self._refusals.pop(one.id, 0) + 1
        if refusals >= REFUSALS or reply in FINAL:
            log.warning(
                "a destination refuses an instance",
                destination=destination.name,
                attempt=refusals,
                reason=reply.value,
            )
            return Sent(one.id, "refused", reply.value, left=left)
        self._refusals[one.id] = refusals
        pause = min(REFUSED_PAUSE[0] * 2 ** (refusals - 1), REFUSED_PAUSE[1])
        return Sent(one.id, "pending", reply.value, now + pause, left=left)

    def _is_down(self, destination: Destination, now: float, why: str) -> float:
        with destination.lock:
            if destination.down_until <= now:  # the first of those that were on their way together
                destination.pause = min(max(destination.pause * 2, DOWN_PAUSE[0]), DOWN_PAUSE[1])
                destination.down_until = now + destination.pause
                if self._shared.troubles.note(destination.name, why):
                    log.warning("a destination does not answer", destination=destination.name, reason=why)
            return destination.down_until

    def _is_up(self, destination: Destination) -> None:
        with destination.lock:
            destination.pause = destination.down_until = 0.0
        if self._shared.troubles.clear(destination.name):
            log.info("a destination takes instances again", destination=destination.name)


class _Flight:
    """The deliveries of one task that are on their way."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.on_their_way = 0
        self.empty = False

    @property
    def stirs(self) -> bool:
        """Whether there is something to do for the task: the end, or room to claim more."""
        return self.on_their_way == 0 or (not self.empty and self.on_their_way <= CLAIM // 2)

    def look(self) -> None:
        """Look into the ledger for more: somebody asked."""
        with self.changed:
            self.empty = False
            self.changed.notify_all()

    def landed(self) -> None:
        """Note that the fate of one delivery is written down."""
        with self.changed:
            self.on_their_way -= 1
            if self.stirs:
                self.changed.notify_all()
