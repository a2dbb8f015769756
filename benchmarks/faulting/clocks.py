"""The machine's clock jumps by a day, forward and back, while deliveries wait for a peer and studies to be quiet.

Only the service's clock: libfaketime (Debian's package faketime) tells it the time that a file holds. Its monotonic
clock is left alone, as the kernel leaves it alone when somebody sets the time.
"""

from __future__ import annotations

import stat
import time
from collections import Counter
from pathlib import Path

from benchmarks.faulting.kills import stored
from benchmarks.faulting.measure import PartFailed, Sweep, states
from tests import builders, flow
from tests.objects.base import Origin, person
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, source, until

DAY = 86400
JUMPS = (DAY, -DAY, -2 * DAY, 3 * DAY)
INSTANCES = 6
OUTAGE = 15.0
"""Seconds for which the peer is down."""
LONGEST = 2 * OUTAGE + 15.0
"""Seconds until all must be there once it is up again: the pauses double, so none is longer than the outage was."""
QUIET = 8


def find_library() -> Path:
    """The library that tells another time. Raises PartFailed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise PartFailed("libfaketime is missing: apt-get install faketime")
    return found[0]


def shifted_python(folder: Path, shift: Path) -> str:
    """An interpreter whose clock differs by as many seconds as stand in a file."""
    script = folder / "python"
    script.write_text(
        "#!/bin/sh\n"
        f"export LD_PRELOAD={find_library()} FAKETIME_TIMESTAMP_FILE={shift} FAKETIME_NO_CACHE=1\n"
        "export FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\n"
        f'exec {source().python} "$@"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return str(script)


def run(folder: Path) -> bool:
    """All jumps, by instance and by study; whether nothing was late, lost or twice at the peer."""
    shift = folder / "shift"
    shift.write_text("+0\n")
    section = deid_section(Python=shifted_python(folder, shift))
    lung = section["Projects"].pop("lung")
    section["Projects"] = {
        "single": {**lung, "Match": {"Modality": "CT"}},
        "whole": {**lung, "Match": {"Modality": "MR"}, "Release": "study", "QuietSeconds": QUIET},
    }
    good, sent, now = True, 0, 0
    origins = []
    with (
        research_orthanc(folder / "research") as peer,
        clinical_orthanc(folder / "clinical", {"research": peer}, section) as clinical,
    ):
        for number, jump in enumerate(JUMPS):
            single, whole = person(1800 + 2 * number), person(1801 + 2 * number)
            where = [Origin(one, 1, 1, n + 1) for one in (single, whole) for n in range(INSTANCES)]
            origins += where
            peer.stop()
            for origin in where:
                make = builders.ct if origin.person is single else builders.mr
                clinical.store(builders.to_bytes(make(origin)))
            sent += len(where)
            until(lambda: (clinical.health().get("Service") or {}).get("PeersDown"), 60, "the peer to be missed")
            time.sleep(OUTAGE / 2)
            now += jump
            shift.write_text(f"{now:+d}\n")
            time.sleep(OUTAGE / 2)
            peer.start()
            late = _arrive(clinical, peer, sent)
            good = good and late <= LONGEST
            print(
                f"clock: {jump / DAY:+.0f} days: all there {late:.1f} s after the peer (at most {LONGEST:.0f})",
                flush=True,
            )
        again = {one: times for one, times in Counter(stored(peer)).items() if times > 1}
        found = Sweep(origins).over(clinical, peer)
        told = clinical.log.read_text(errors="replace").count("the machine's clock was set")
        final = states(clinical)
    print(f"clock: sent {sent}, outcomes {final}, twice at the peer {len(again)}, leaked {len(found)}")
    print(f"clock: jumps noticed {told} of {len(JUMPS)}", flush=True)
    return good and final == {"confirmed": sent} and not again and not found and told == len(JUMPS)


def _arrive(clinical: Orthanc, peer: Orthanc, number: int) -> float:
    """Wait until the peer has all; how many seconds that took."""
    began = time.monotonic()

    def there() -> bool:
        now = states(clinical)
        return sum(now.values()) == number and all(state in flow.TERMINAL for state in now)

    until(there, 10 * LONGEST, f"{number} outcomes", 0.2)
    seconds = time.monotonic() - began
    if len(peer.instances()) != number:
        raise PartFailed(f"{len(peer.instances())} at the peer instead of {number}")
    return seconds
