"""Order, rates, windows, room and giving way, on real servers."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests import flow
from tests.builders import Origin, mr, person, to_bytes
from tests.orthancs import Orthanc, clinical_orthanc, deid_section, research_orthanc, until

pytestmark = [pytest.mark.integration, pytest.mark.one_orthanc]


def section(destination: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """One project that takes MR as it arrives, and anything else by jobs."""
    project = deid_section()["Projects"]["lung"] | {
        "Match": {"Modality": "MR"},
        "Destinations": [{"Peer": "research", **(destination or {})}],
    }
    return deid_section(Projects={"lung": project}, **changes)


def states(clinical: Orthanc) -> Counter[str]:
    return Counter(row.state for row in flow.ledger(clinical))


def state_of_flow(clinical: Orthanc) -> dict[str, Any]:
    return dict(clinical.health()["Service"]["Flow"])


def test_what_arrives_overtakes_the_back_fill_and_the_rate_is_kept(tmp_path: Path) -> None:
    rate = {"Rate": {"InstancesPerSecond": 15}}
    old = flow.ct_series(1, slices=120)
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, section(rate)) as clinical,
    ):
        for data in old:
            clinical.store(data)
        clinical.post("/deid/jobs", {"Project": "lung", "Query": {}})
        until(lambda: states(clinical)["confirmed"] >= 10, 30, "the back-fill to be on its way")
        new = [to_bytes(mr(Origin(person(2), 1, 1, number))) for number in range(1, 4)]
        for data in new:
            clinical.store(data)
        wanted = {output.orthanc_id for output in flow.expected(clinical, new)}
        until(lambda: wanted <= peer.instances(), 20, "what has just arrived at the peer")
        waiting = len(old) + len(new) - states(clinical)["confirmed"]
        assert waiting > 40, "and most of the back-fill still waits"
        assert dict(flow.query(clinical, "SELECT priority, count(*) FROM ledger GROUP BY priority")) == {0: 3, 10: 120}
        flow.settled(clinical, len(old) + len(new))
        flow.check_peer(peer, flow.expected(clinical, old + new))
        ((first, last),) = flow.query(clinical, "SELECT min(confirmed), max(confirmed) FROM ledger")
        assert isinstance(first, float) and isinstance(last, float)
        # Confirmations are written down in groups: the ends may move by half a second each.
        assert last - first >= (len(old) + len(new) - 1) / 15 - 1.5


def test_outside_of_its_window_a_destination_waits_and_is_not_down(tmp_path: Path) -> None:
    opens = int(time.time()) // 60 * 60 + 60
    if opens - time.time() < 20:
        opens += 60
    texts = [datetime.fromtimestamp(opens + more).strftime("%H:%M") for more in (0, 3600)]
    files = [to_bytes(mr(Origin(person(3), 1, 1, number))) for number in range(1, 4)]
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, section({"Window": "-".join(texts)})) as clinical,
    ):
        for data in files:
            clinical.store(data)
        until(lambda: states(clinical)["released"] == 3, max(5.0, opens - time.time() - 1), "outputs that wait")
        service = clinical.health()["Service"]
        assert service["DestinationsWaiting"] == {"peer:research": opens}
        assert not service["PeersDown"] and not service["Troubles"] and service["State"] == "ok"
        assert time.time() < opens and not peer.instances()
        flow.settled(clinical, 3)
        assert time.time() >= opens
        flow.check_peer(peer, flow.expected(clinical, files))
        ((first,),) = flow.query(clinical, "SELECT min(updated) FROM deliveries WHERE sent_digest IS NOT NULL")
        assert isinstance(first, float) and first >= opens, "nothing was even tried before"
        assert clinical.health()["Service"]["DestinationsWaiting"] == {}


def test_a_full_outbox_stops_the_work_until_the_peer_is_back(tmp_path: Path) -> None:
    first = [to_bytes(mr(Origin(person(4), 1, 1, n), rows=256, columns=256)) for n in range(1, 21)]
    later = [to_bytes(mr(Origin(person(4), 1, 2, n), rows=256, columns=256)) for n in range(1, 11)]
    with (
        research_orthanc(tmp_path / "r") as peer,
        clinical_orthanc(tmp_path / "c", {"research": peer}, section(OutboxLimit=1)) as clinical,
    ):
        peer.stop()
        for data in first:
            clinical.store(data)
        until(lambda: state_of_flow(clinical)["Paused"] == "outbox", 40, "a full outbox")
        assert "room-outbox" in [trouble["Part"] for trouble in clinical.health()["Service"]["Troubles"]]
        made = states(clinical)["released"]
        for data in later:
            clinical.store(data)
        until(lambda: sum(states(clinical).values()) == 30, 20, "all of them in the ledger")
        ended = time.monotonic() + 4
        while time.monotonic() < ended:
            assert states(clinical)["queued"] >= 10 and states(clinical)["released"] <= 20
            time.sleep(0.2)
        assert made <= 20
        peer.start()
        flow.settled(clinical, 30, 90)
        flow.check_peer(peer, flow.expected(clinical, first + later))
        until(lambda: state_of_flow(clinical)["Paused"] == "", 10, "room again")
        until(lambda: not clinical.health()["Service"]["Troubles"], 10, "no trouble")


def test_work_gives_way_to_an_orthanc_that_has_become_slow_and_comes_back(tmp_path: Path) -> None:
    files = [to_bytes(mr(Origin(person(5), 1, 1, number))) for number in range(1, 6)]
    with (
        research_orthanc(tmp_path / "r") as peer,
        # Other processes of a busy machine are no fault of this Orthanc's.
        clinical_orthanc(tmp_path / "c", {"research": peer}, section(LatencyBudget=100)) as clinical,
    ):
        until(lambda: state_of_flow(clinical)["IdleSeconds"], 20, "the idle time to be learnt")
        until(lambda: state_of_flow(clinical)["Stage"] == 0, 30, "a quiet start")
        os.kill(clinical.pid, signal.SIGSTOP)
        try:
            time.sleep(3.0)  # long enough to be far beyond any budget
        finally:
            os.kill(clinical.pid, signal.SIGCONT)
        until(lambda: state_of_flow(clinical)["Stage"] > 0, 10, "work that gives way")
        for data in files:
            clinical.store(data)
        flow.settled(clinical, 5)
        flow.check_peer(peer, flow.expected(clinical, files))
        until(lambda: state_of_flow(clinical)["Stage"] == 0, 60, "all of it back")
