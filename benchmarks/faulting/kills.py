"""The kill test: SIGKILL at random moments to whatever takes part, while instances arrive all the time.

What a hospital has around it does here what it does there: a sender sends again what was not acknowledged, and a
killed Orthanc is started again at once (the plugin itself starts a killed service). Nothing else helps.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import requests

from benchmarks.faulting.measure import PartFailed, Sweep, ask, family, states, workers
from tests import builders, flow
from tests.objects.base import Origin, person
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

SLICES = 50
"""Instances of one series."""
ROWS = 64
AHEAD = 60
"""So many may be on their way before the next are sent: the kills then fall into work, and not before or after it."""
SENDERS = 2
KINDS = {
    "service": 5,
    "worker": 5,
    "any process of the service": 2,
    "clinical": 4,
    "peer": 4,
    "both Orthancs": 1,
    "service and peer": 1,
}
"""What is killed, and how often of 22 times."""
END_SECONDS = 900.0
VICTIM_SECONDS = 180.0


@dataclass
class Counts:
    """What the test prints."""

    kills: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    acknowledged: int = 0
    sent_again: int = 0
    held: int = 0
    at_peer: int = 0
    distinct: int = 0
    lost: int = 0
    duplicated: int = 0
    changed: int = 0
    leaked: int = 0


def origins(number: int) -> list[Origin]:
    """Where so many instances stand: patients with two studies of one or two series."""
    found = []
    for index in range(number):
        series, slice_ = divmod(index, SLICES)
        patient, of_patient = divmod(series, 3)
        study, series_of_study = ((1, 1), (1, 2), (2, 1))[of_patient]
        found.append(Origin(person(1000 + patient), study, series_of_study, slice_ + 1))
    return found


class Feed:
    """The senders: each instance until it is acknowledged, never far ahead of what is done."""

    def __init__(self, clinical: Orthanc, origins: list[Origin], counts: Counts) -> None:
        self._clinical = clinical
        self._counts = counts
        self._lock = threading.Lock()
        self._left = iter([*origins])
        self._stop = threading.Event()
        self.upto = len(origins) + 1
        """So many may be sent by now; the senders end where it allows more than there are."""
        self.finished = 0
        """Rows of the ledger that had their outcome when last looked."""
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(SENDERS)]
        self._threads.append(threading.Thread(target=self._look, daemon=True))

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, whether or not all were sent."""
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    @property
    def done(self) -> bool:
        """Whether all were acknowledged."""
        return not any(thread.is_alive() for thread in self._threads[:SENDERS])

    def _look(self) -> None:
        while not self._stop.wait(0.2):
            with suppress(Exception):  # the database is made by the first service
                now = states(self._clinical)
                self.finished = sum(now.get(state, 0) for state in flow.TERMINAL)

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                if self._counts.sent - self.finished >= AHEAD or self._counts.sent >= self.upto:
                    one = None
                else:
                    one = next(self._left, None)
                    if one is None:
                        return
                    self._counts.sent += 1
            if one is None:
                self._stop.wait(0.02)
                continue
            data = builders.to_bytes(builders.ct(one, rows=ROWS, columns=ROWS))
            while not self._send(data):
                self._counts.sent_again += 1
                if self._stop.wait(0.2):
                    return

    def _send(self, data: bytes) -> bool:
        try:
            answer = self._clinical.request("POST", "/instances", data=data, timeout=60)
            status = answer.json().get("Status") if answer.ok else None
        except (requests.RequestException, ValueError):
            return False
        if status not in ("Success", "AlreadyStored"):
            return False
        with self._lock:
            self._counts.acknowledged += 1
        return True


class Killer:
    """Kills, and starts again what does not start by itself."""

    def __init__(self, clinical: Orthanc, peer: Orthanc, chance: random.Random, counts: Counts) -> None:
        self._clinical, self._peer = clinical, peer
        self._chance = chance
        self._counts = counts

    def plan(self, kills: int) -> Iterator[tuple[str, float]]:
        """Draw what is killed, and how long after its turn has come: often at once, sometimes seconds later."""
        names = list(KINDS)
        for _ in range(kills):
            kind = self._chance.choices(names, list(KINDS.values()))[0]
            yield (
                kind,
                self._chance.choice(
                    (self._chance.uniform(0, 0.1), self._chance.uniform(0, 1), self._chance.uniform(0, 3))
                ),
            )

    def kill(self, kind: str) -> bool:
        """Kill; False when there was nothing of that kind to kill."""
        if kind in ("clinical", "peer", "both Orthancs"):
            servers = {"clinical": [self._clinical], "peer": [self._peer]}.get(kind, [self._clinical, self._peer])
            for server in servers:
                server.kill()
            for server in servers:
                self._again(server)
        else:
            pid = self._service()
            if pid is None:
                return False
            victims = {"worker": workers, "any process of the service": family}.get(kind, lambda pid: [pid])(pid)
            if not victims:
                return False
            with suppress(ProcessLookupError):
                os.kill(self._chance.choice(victims), signal.SIGKILL)
            if kind == "service and peer":
                self._peer.kill()
                self._again(self._peer)
        self._counts.kills[kind] += 1
        return True

    def _service(self) -> int | None:
        with suppress(Exception):
            return self._clinical.health().get("Pid")
        return None

    @staticmethod
    def _again(server: Orthanc) -> None:
        # Its ports may be in use for a moment by what the killed one had open.
        for _ in range(5):
            server.launch()
            with suppress(AssertionError):
                until(lambda: server.answers() or not server.running, 120, f"{server.name} to answer")
            if server.running:
                return
            time.sleep(0.5)
        raise PartFailed(f"{server.name} does not start again:\n{server.tail()}")


def run(folder: Path, kills: int, instances: int, seed: int) -> bool:
    """The whole test; whether nothing was lost, duplicated, changed or leaked."""
    print(f"kill: {kills} kills over {instances} instances, seed {seed}", flush=True)
    counts = Counts()
    where = origins(instances)
    section = deid_section(Workers=2)
    began = time.monotonic()
    with (
        research_orthanc(folder / "research") as peer,
        clinical_orthanc(folder / "clinical", {"research": peer}, section) as clinical,
    ):
        feed = Feed(clinical, where, counts)
        killer = Killer(clinical, peer, random.Random(seed), counts)
        feed.upto = AHEAD
        feed.start()
        try:
            for number, (kind, pause) in enumerate(killer.plan(kills)):
                # Spread over the run: the next kill when as many have been sent as belong before it, and no more.
                due = number * instances // kills
                feed.upto = due + AHEAD
                until(
                    lambda due=due: counts.acknowledged >= due or feed.done,
                    END_SECONDS,
                    f"{due} acknowledged; {counts}",
                    0.01,
                )  # type: ignore[misc]
                time.sleep(pause)
                deadline = time.monotonic() + VICTIM_SECONDS
                while not killer.kill(kind):
                    if time.monotonic() > deadline:
                        raise PartFailed(
                            f"no {kind} to kill for {VICTIM_SECONDS:.0f} s: {clinical.health()}\n{clinical.tail(40)}"
                        )
                    time.sleep(0.01)
                if (number + 1) % 20 == 0:
                    so_far = f"{counts.acknowledged} acknowledged, {feed.finished} done"
                    print(f"  {number + 1} kills, {so_far}, {time.monotonic() - began:.0f} s", flush=True)
            feed.upto = instances + 1  # one more than there are: whoever asks for it ends
            until(lambda: feed.done, END_SECONDS, "all to be acknowledged", 0.2)
        finally:
            feed.stop()
        _count(clinical, peer, where, counts)
        found = Sweep(where).over(clinical, peer)
        counts.leaked = len(found)
        for leak in found[:20]:
            print(f"  LEAK: {leak}")
    seconds = time.monotonic() - began
    print(f"  killed: {', '.join(f'{kind} {number}' for kind, number in counts.kills.most_common())}")
    print(f"  {seconds:.0f} s; sending broke off {counts.sent_again} times; crashed until a retry: {counts.held}")
    sent = f"sent {counts.sent}, acknowledged {counts.acknowledged}"
    print(f"kill: {sum(counts.kills.values())} kills (seed {seed}), {sent}")
    print(f"kill: at the peer {counts.at_peer}, distinct {counts.distinct}, with other bytes {counts.changed}")
    print(f"kill: lost {counts.lost}, duplicated {counts.duplicated}, leaked {counts.leaked}", flush=True)
    right = counts.at_peer == counts.distinct == counts.sent == counts.acknowledged == instances
    return right and not (counts.lost or counts.duplicated or counts.leaked or counts.changed)


def _count(clinical: Orthanc, peer: Orthanc, where: list[Origin], counts: Counts) -> None:
    """Wait for the outcomes and count."""

    def over() -> bool:
        now = states(clinical)
        return sum(now.values()) >= len(where) and all(state in flow.TERMINAL for state in now)

    def settle() -> None:
        try:
            until(over, END_SECONDS, "the outcomes", 0.5)
        except AssertionError:
            print(f"  without an outcome: {states(clinical)}; {clinical.health()}\n{clinical.tail(40)}")

    clinical.wait_ready(120)
    settle()
    # Whose worker was killed twice over it looks as if it had killed the worker: held, and a person tries it again.
    held = clinical.get("/deid/quarantine?limit=500")
    for entry in held:
        if entry["Reason"] != "crashed":
            print(f"  HELD: {entry['Reason']}")
            continue
        counts.held += 1
        assert clinical.request("POST", f"/deid/quarantine/{entry['ID']}", json={"Action": "retry"}).ok
    if counts.held:
        settle()
    expected = flow.expected(clinical, [builders.to_bytes(builders.ct(o, rows=ROWS, columns=ROWS)) for o in where])
    wanted = {output.orthanc_id for output in expected}
    rows = flow.ledger(clinical)
    at_peer = peer.instances()
    arrivals = Counter(stored(peer))
    counts.at_peer, counts.distinct = len(at_peer), len(at_peer & wanted)
    sources = {str(one) for (one,) in ask(clinical, "SELECT DISTINCT source_index FROM ledger")}
    kept = clinical.instances()
    counts.lost = len(wanted - at_peer) + (len(where) - len(kept)) + (len(where) - len(sources))
    # More than one row of a source, more than one arrival of an output, or an output that belongs to no source.
    counts.duplicated = len(rows) - len(sources) + sum(arrivals.values()) - len(arrivals) + len(at_peer - wanted)
    said = {row.out_orthanc_id: row.out_digest for row in rows if row.state == "confirmed"}
    counts.changed = sum(hashlib.sha256(peer.file(one)).hexdigest() != said.get(one) for one in at_peer)
    odd = Counter((row.state, row.reason) for row in rows if row.state != "confirmed")
    if odd:
        print(f"  not confirmed: {dict(odd)}")


def stored(peer: Orthanc) -> Iterator[str]:
    """Each arrival that the peer has noted."""
    since = 0
    while True:
        page = peer.get(f"/changes?since={since}&limit=1000")
        yield from (change["ID"] for change in page["Changes"] if change["ChangeType"] == "NewInstance")
        since = page["Last"]
        if page["Done"]:
            return
