"""The work stops when outbox or disk are full, and only where waiting helps; it narrows while Orthanc is slow."""

from __future__ import annotations

import threading
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from orthanc_deid.orthanc.client import Unavailable
from orthanc_deid.pipeline import governor as module
from orthanc_deid.pipeline.governor import Governor, measure
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.pressure import OTHERS_LAST, RUSH_SECONDS, STAGES, Share
from orthanc_deid.pipeline.shared import Shared, Troubles
from orthanc_deid.store import Store, deliveries, ledger

from tests.ledgers import PEER, make_released, take
from tests.orthancs import until

Usage = namedtuple("Usage", "free")


class Setting:
    """A governor with an outbox, and numbers of the test's own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free, self.shares, self.resumed = 10**12, [], 0  # type: ignore[var-annotated]
        self.seconds: float | None = 0.0
        self.outbox = Outbox(folder / "outbox")
        self.outbox.prepare()
        self.store = Store.open(folder / "deid.sqlite3")
        self.shared = SimpleNamespace(
            config=SimpleNamespace(latency_budget=3.0, outbox_limit=1000, free_disk=500),
            outbox=self.outbox, paused="", rush=threading.Event(), stored_here={},
            troubles=Troubles(), stopping=threading.Event(),
            store=self.store, here=None, sending=set(), clock=lambda: 200.0,
            orthanc=SimpleNamespace(get_json=self.ask),
        )  # fmt: skip
        monkeypatch.setattr(module.shutil, "disk_usage", lambda _: Usage(self.free))
        self.governor = Governor(cast(Shared, self.shared), self.apply, self.resume)

    def ask(self, path: str) -> dict[str, Any]:
        if self.seconds is None:
            raise Unavailable("nobody answers")
        threading.Event().wait(self.seconds)
        return {}

    def apply(self, share: Share) -> None:
        self.shares.append(share)

    def resume(self) -> None:
        self.resumed += 1

    def put(self, row: int, size: int) -> None:
        file, part = self.outbox.begin(row)
        with file:
            file.write(bytes(size))
        self.outbox.finish(part, row, "d" * 64)

    def release(self, *names: str) -> list[int]:
        """Let outputs wait for a peer."""
        with self.store.begin() as conn:
            return make_released(conn, *names)

    def look(self) -> str:
        self.governor.look()
        return str(self.shared.paused)


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    setting = Setting(tmp_path, monkeypatch)
    yield setting
    setting.store.close()


def test_a_full_outbox_stops_the_work_until_destinations_have_taken_enough(setting: Setting) -> None:
    setting.release("a", "b")
    setting.put(1, 600)
    assert setting.look() == ""
    setting.put(2, 350)
    setting.put(3, 100)
    assert measure(setting.outbox.folder) == 1050
    assert setting.look() == "outbox"
    assert setting.shared.troubles.show()[0]["Part"] == "room-outbox"
    setting.outbox.drop(3, "d" * 64)
    assert setting.look() == "outbox", "not for every single one"
    setting.outbox.drop(2, "d" * 64)
    assert setting.look() == "" and setting.resumed == 1 and setting.shared.troubles.show() == []


def test_what_waits_for_the_rest_of_its_study_does_not_stop_that_rest(setting: Setting) -> None:
    setting.put(1, 5000)
    assert setting.look() == ""
    setting.release("a")
    assert setting.look() == "outbox"


def test_what_has_to_be_made_again_does_not_stop_its_own_making(setting: Setting) -> None:
    setting.put(1, 5000)
    rows = setting.release("a")
    with setting.store.begin() as conn:
        assert ledger.renew(conn, rows, 150.0)
    assert setting.look() == "", "its delivery waits for the work, and not the other way round"
    (waits,) = setting.release("b")
    with setting.store.begin() as conn:
        deliveries.postpone(conn, PEER, 10_000.0, 150.0)
    assert setting.look() == "outbox", "a peer that is down takes it some day"
    with setting.store.begin() as conn:
        (one,) = take(conn, now=10_000.0)
        assert one.ledger_id == waits
    assert setting.look() == ""
    setting.shared.sending.add(one.id)
    assert setting.look() == "outbox"


def test_a_full_disk_stops_the_work_whatever_is_in_the_outbox(setting: Setting) -> None:
    setting.free = 499
    assert setting.look() == "disk"
    setting.free = 500
    assert setting.look() == "" and setting.resumed == 1


def test_a_slow_or_silent_orthanc_narrows_the_work_and_a_quick_one_widens_it(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.01)
    monkeypatch.setattr("orthanc_deid.pipeline.pressure.CALM_SECONDS", 0.1)
    setting.governor.start()
    until(lambda: setting.governor.pressure.idle is not None, 20, "the idle time")
    setting.seconds = 0.03
    until(lambda: STAGES[3] in setting.shares, 20, "the back-fill to give way")
    setting.seconds = None
    until(lambda: setting.shares[-1] == STAGES[-1], 20, "everything to give way")
    setting.seconds = 0.0
    until(lambda: setting.shares[-1] == STAGES[0], 20, "all of it back")
    setting.shared.stopping.set()
    setting.governor.stop(5)


def test_a_rush_of_arrivals_stops_at_once_what_is_not_fresh(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    setting.governor.stir()
    assert setting.shares == [STAGES[OTHERS_LAST]] and setting.shared.rush.is_set()
    assert setting.shares[-1].fresh == 1, "what has just arrived goes on"
    setting.governor.arrived(100_000)
    now[0] += RUSH_SECONDS
    setting.governor.settle()
    assert setting.shares == [STAGES[OTHERS_LAST], STAGES[0]] and not setting.shared.rush.is_set()
    assert setting.governor.stage == 0


def test_copies_of_our_own_and_a_budget_of_none_make_no_rush(setting: Setting) -> None:
    setting.shared.stored_here["a"] = None
    setting.governor.stir()
    assert setting.shares == []
    del setting.shared.stored_here["a"]
    setting.shared.config.latency_budget = 0
    setting.governor.stir()
    setting.governor.arrived(100)
    assert setting.shares == [] and not setting.shared.rush.is_set()
