"""One study of 70,000 small instances: how long it takes, whether memory stays flat and the service still answers."""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.faulting.measure import MB, PartFailed, Sweep, resident, slope, states, workers
from tests import builders, flow
from tests.objects.base import ROOT, Origin, person
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

SENDERS = 4
NUMBER = b"10000000"  # of the template's SOP Instance UID, replaced for each instance
SLOWEST_ANSWER = 5.0
"""Seconds that no answer of the service may take."""
MOST_GROWTH = 80 * MB
"""Of the service, from a tenth of the study to its end: what it remembers of the outputs of this run."""
SECONDS = 7200.0


class Copies:
    """Files of one series: one object, with another SOP Instance UID each."""

    def __init__(self, origin: Origin) -> None:
        dataset = builders.ct(origin, rows=16, columns=16)
        dataset.SOPInstanceUID = f"{ROOT}.77.{NUMBER.decode()}"
        self._file = builders.to_bytes(dataset)

    def file(self, number: int) -> bytes:
        """The file of instance `number`."""
        return self._file.replace(b".77." + NUMBER, b".77.%d" % (int(NUMBER) + number))


def send(server: Orthanc, copies: Copies, numbers: range) -> None:
    """Send instances over one connection, each until it is acknowledged."""
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=300)
    for number in numbers:
        while True:
            try:
                connection.request("POST", "/instances", copies.file(number), {"Content-Type": "application/dicom"})
                answer = connection.getresponse()
                if json.loads(answer.read()).get("Status") in ("Success", "AlreadyStored"):
                    break
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
            time.sleep(0.1)
    connection.close()


class Watch:
    """Asks the service again and again, and notes how long it takes to answer and what memory it holds."""

    def __init__(self, clinical: Orthanc) -> None:
        self._clinical = clinical
        self._stop = threading.Event()
        self.answers: dict[str, list[float]] = {}
        self.memory: list[tuple[float, float, float]] = []
        """Seconds since the beginning; bytes of the service; bytes of its greatest worker."""
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ask(self, path: str) -> object:
        """Ask and note the time."""
        began = time.monotonic()
        answer = self._clinical.get(path)
        self.answers.setdefault(path.partition("?")[0], []).append(time.monotonic() - began)
        return answer

    def _run(self) -> None:
        while not self._stop.wait(2.0):
            with suppress(Exception):  # counted as missing: the parts ask whether there are enough
                for path in ("/deid/health", "/deid/projects/lung/studies?limit=10", "/deid/metrics"):
                    began = time.monotonic()
                    self._clinical.get_bytes(path)
                    self.answers.setdefault(path.partition("?")[0], []).append(time.monotonic() - began)
                service = self._clinical.health()["Pid"]
                most = max((resident(pid) for pid in workers(service)), default=0)
                self.memory.append((time.monotonic() - self._began, resident(service), most))

    def stop(self) -> None:
        """Stop asking."""
        self._stop.set()
        self._thread.join(60)

    @property
    def slowest(self) -> float:
        """The longest that an answer took."""
        return max(max(times) for times in self.answers.values())

    def show(self, what: str) -> None:
        """Print the times of the answers."""
        for path, times in self.answers.items():
            median = statistics.median(times)
            print(f"  {path}: {len(times)} answers, median {median * 1000:.0f} ms, slowest {max(times) * 1000:.0f} ms")
        late = [one for one in self.memory if one[0] > self.memory[-1][0] / 10]
        for name, place in (("service", 1), ("greatest worker", 2)):
            first, last = late[0][place], late[-1][place]
            per_hour = slope((one[0] / 3600, one[place] / MB) for one in late)
            sizes = f"{first / MB:.0f} MB at a tenth, {last / MB:.0f} MB at the end, slope {per_hour:+.1f} MB/h"
            print(f"{what}: memory of the {name}: {sizes}")

    def growth(self) -> float:
        """By how many bytes service and workers grew from a tenth of the time to the end."""
        late = [one for one in self.memory if one[0] > self.memory[-1][0] / 10]
        return max(late[-1][1] - late[0][1], late[-1][2] - late[0][2])


def run(folder: Path, instances: int) -> bool:
    """Send the study, wait until it is ready, list it, release it, and wait until the peer has all."""
    where = Origin(person(1950))
    copies = Copies(where)
    section = deid_section(Workers=2)
    section["Projects"]["lung"]["Release"] = "manual"
    # The servers' own fsync per instance is not what is measured here.
    quick = {"SyncStorageArea": False}
    with (
        research_orthanc(folder / "research", **quick) as peer,
        clinical_orthanc(folder / "clinical", {"research": peer}, section, **quick) as clinical,
    ):
        watch = Watch(clinical)
        began = time.monotonic()
        threads = [
            threading.Thread(target=send, args=(clinical, copies, range(n, instances, SENDERS)), daemon=True)
            for n in range(SENDERS)
        ]
        for thread in threads:
            thread.start()
        _wait(clinical, "ready", instances, began)
        ready = time.monotonic()
        (study,) = clinical.get("/deid/projects/lung/studies")
        answer = clinical.request("POST", f"/deid/projects/lung/studies/{study['StudyInstanceUID']}/release", json={})
        released = time.monotonic()
        if not answer.ok:
            raise PartFailed(f"the release was answered with {answer.status_code}")
        _wait(clinical, "confirmed", instances, began)
        done = time.monotonic()
        watch.stop()
        at_peer = len(peer.instances())
        left = list((clinical.folder / "orthanc-deid" / "outbox").rglob("*.dcm"))
        sweep = Sweep([where]).over(clinical, peer)
    watch.show("many")
    print(
        f"many: {instances} instances in one study: ready after {ready - began:.0f} s, "
        f"released in {released - ready:.1f} s, confirmed {done - released:.0f} s later"
    )
    print(
        f"many: at the peer {at_peer}, left in the outbox {len(left)}, leaked {len(sweep)}, "
        f"slowest answer {watch.slowest:.1f} s",
        flush=True,
    )
    small = watch.growth() <= MOST_GROWTH and watch.slowest <= SLOWEST_ANSWER
    return at_peer == instances and not left and not sweep and small


def _wait(clinical: Orthanc, state: str, number: int, began: float) -> None:
    """Wait until all are in a state, telling how far it is now and then."""
    told = time.monotonic()

    def there() -> bool:
        nonlocal told
        now = states(clinical)
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"  {told - began:.0f} s: {now}", flush=True)
        odd = set(now) - {"queued", "working", "ready", "released", "confirmed"}
        if odd & flow.TERMINAL:
            raise PartFailed(f"unexpected: {now}")
        return now == {state: number}

    until(there, SECONDS, f"{number} {state}", 1.0)
