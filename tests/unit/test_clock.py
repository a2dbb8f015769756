"""A clock that somebody sets cuts no wait short, and makes none last longer than was meant."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from orthanc_deid.config import Config
from orthanc_deid.pipeline.clock import Clock
from orthanc_deid.pipeline.delivery import DeliveryTasks
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.release import Keeper
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.store import Store, deliveries, studies, waits
from orthanc_deid.store.rows import Sent

from tests.ledgers import KEYS, PEER, PROJECT, make_ready, make_released, take

DAY = 86400.0


class Machine:
    """A machine whose clock the test sets."""

    def __init__(self) -> None:
        self.running = 0.0
        self.day = 1_000_000.0

    def wall(self) -> float:
        """What the machine's clock shows."""
        return self.day + self.running

    def steady(self) -> float:
        """How long the machine has been running."""
        return self.running


class Setting:
    """A keeper and deliveries with their ledger, on such a machine."""

    def __init__(self, folder: Path) -> None:
        project = {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "study", "QuietSeconds": 10}
        config = Config.parse(
            {"Python": "python3", "Projects": {PROJECT: project}}, data_directory=folder, load_profiles=False
        )
        self.machine = Machine()
        self.clock = Clock(self.machine.wall, self.machine.steady)
        self.store = Store.open(folder / "deid.sqlite3")
        self.shared = Shared(
            config, self.store, cast(Any, None), Outbox(folder / "o"), {PROJECT: KEYS}, "me", clock=self.clock
        )
        self.deliveries = DeliveryTasks(self.shared, cast(Any, None), lambda name: cast(Any, None))
        self.keeper = Keeper(self.shared, self.deliveries.resting, self.deliveries.clock_was_set)

    def due_studies(self) -> int:
        """How many studies are quiet by now."""
        with self.store.read() as conn:
            return len(studies.due(conn, PROJECT, self.clock(), 10))

    def due_deliveries(self) -> int:
        """How many deliveries are due by now."""
        with self.store.read() as conn:
            return len(deliveries.due(conn, self.clock(), self.deliveries.resting()))


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    setting = Setting(tmp_path)
    yield setting
    setting.store.close()


def test_the_clock_runs_evenly_until_it_is_told_to_follow() -> None:
    machine = Machine()
    clock = Clock(machine.wall, machine.steady)
    machine.running += 5
    machine.day += 1.0  # drifts a little: as good as right
    assert clock() == 1_000_005 and clock.jump() == 0
    machine.day += DAY
    assert clock() == 1_000_005
    assert clock.jump() == DAY + 1
    clock.follow(clock.jump())
    assert clock() == machine.wall() and clock.jump() == 0


@pytest.mark.parametrize("jump", [DAY, -DAY, 3.0, -3.0])
def test_a_delivery_waits_as_long_as_was_meant(setting: Setting, jump: float) -> None:
    now = setting.clock()
    with setting.store.begin() as conn:
        make_released(conn, "a", now=now)
        (one,) = take(conn, now=now)
        deliveries.finish_many(conn, [Sent(one.id, "pending", "down", now + 60)], now)
    destination = setting.deliveries.destination(PEER)
    destination.pause, destination.down_until = 60.0, now + 60
    setting.machine.day += jump
    setting.machine.running += 1
    setting.keeper._follow_the_clock()
    assert setting.clock() == setting.machine.wall()
    setting.machine.running += 58
    assert setting.deliveries.resting() == [PEER] and setting.due_deliveries() == 0
    setting.machine.running += 2
    assert setting.deliveries.resting() == [] and setting.due_deliveries() == 1


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_study_is_quiet_when_it_has_been_quiet(setting: Setting, jump: float) -> None:
    with setting.store.begin() as conn:
        make_ready(conn, "a", now=setting.clock())
    setting.machine.day += jump
    setting.machine.running += 4
    setting.keeper._follow_the_clock()
    assert setting.due_studies() == 0
    setting.machine.running += 6
    assert setting.due_studies() == 1


def test_a_study_that_was_quiet_stays_so(setting: Setting) -> None:
    with setting.store.begin() as conn:
        make_ready(conn, "a", now=setting.clock())
    setting.machine.running += 11
    assert setting.due_studies() == 1
    setting.machine.day -= DAY
    setting.keeper._follow_the_clock()
    assert setting.due_studies() == 1


def test_a_clock_that_went_back_while_the_service_was_down_makes_nothing_wait_for_it(setting: Setting) -> None:
    now = setting.clock()
    with setting.store.begin() as conn:
        make_released(conn, "a", "b", now=now)
        one, two = take(conn, now=now)
        later = [Sent(one.id, "pending", "down", now + DAY), Sent(two.id, "pending", "down", now + 60)]
        deliveries.finish_many(conn, later, now)
        make_ready(conn, "c", now=now + DAY)
        assert waits.bound(conn, now) == 2
        assert waits.bound(conn, now) == 0
        assert [sent.ledger_id for sent in take(conn, now=now)] == [one.ledger_id], "the other waits as it should"
    setting.machine.running += 10
    assert setting.due_studies() == 1
