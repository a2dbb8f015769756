"""The keeper starts what is due, and leaves alone who is down however much waits for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from orthanc_deid.config import Config
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.pipeline.messages import Done, Made
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.recorder import Recorder
from orthanc_deid.pipeline.release import Keeper
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.tasks import DELIVERY, SERIES
from orthanc_deid.store import Store, deliveries, ledger, studies
from orthanc_deid.store.rows import Outcome

from tests.ledgers import (
    KEYS,
    PEER,
    PROJECT,
    VAULT,
    add,
    claim,
    finish,
    make_ready,
    make_released,
    output,
    state,
    subject,
)  # fmt: skip


class Tasks:
    """Remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.priorities: list[int] = []

    def ask(self, *name: str, priority: int = 0) -> None:
        """A task is wanted."""
        self.asked.append(name)
        self.priorities.append(priority)


class Setting:
    """A keeper with its ledger, at a time of the test's own."""

    def __init__(self, folder: Path) -> None:
        project = {"Profile": "basic", "Destinations": [{"Peer": "research"}], "Release": "study", "QuietSeconds": 10}
        section = {"Python": "python3", "Projects": {PROJECT: project}}
        config = Config.parse(section, data_directory=folder, load_profiles=False)
        self.now = 200.0
        self.store = Store.open(folder / "deid.sqlite3")
        keys = {PROJECT: MasterKey({1: bytes(range(32))}).project(PROJECT)}
        assert keys[PROJECT] == KEYS
        self.shared = Shared(
            config, self.store, cast(Any, None), Outbox(folder / "outbox"), keys, "me", clock=lambda: self.now
        )
        self.tasks = Tasks()
        self.shared.tasks = cast(Any, self.tasks)
        self.down: list[str] = []
        self.keeper = Keeper(self.shared, lambda: self.down)


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    setting = Setting(tmp_path)
    yield setting
    setting.store.close()


def test_what_is_due_is_started_and_who_is_down_is_left_alone(setting: Setting) -> None:
    with setting.store.begin() as conn:
        make_released(conn, "a")
        add(conn, "b")
    setting.down = [PEER]
    setting.keeper._start_due()
    assert setting.tasks.asked == [(SERIES, PROJECT, VAULT.index("series", "series-a"))]
    setting.down = []
    setting.keeper._start_due()
    assert setting.tasks.asked[1:] == [(DELIVERY, PROJECT, PEER, output("a").study)]


def test_a_quiet_study_is_released_as_a_whole_once_none_of_it_is_behind(setting: Setting) -> None:
    with setting.store.begin() as conn:
        (early,) = make_ready(conn, "a")
        (late,) = add(conn, "b")
        claim(conn)
        known = [VAULT.ref_bytes("known", b"a late name")]
        told = Outcome(late.id, "ready", output=output("b"), subject=subject().seen, known=known, knew=[known[0].index])
        finish(conn, told)
    setting.keeper._release_due()
    with setting.store.begin() as conn:
        assert ledger.counts(conn) == {PROJECT: {"queued": 1, "ready": 1}}
        assert studies.page(conn, PROJECT)[0].state == "open"
        claim(conn)
        finish(conn, Outcome(early, "ready", output=output("a"), subject=subject().seen, revision=1))
    assert setting.tasks.asked == [(SERIES, PROJECT, VAULT.index("series", "series-a"))]
    setting.keeper._release_due()
    with setting.store.read() as conn:
        assert ledger.counts(conn) == {PROJECT: {"released": 2}}


@pytest.mark.parametrize("release", ["instance", "study"])
def test_what_is_held_back_is_not_released_when_it_is_made(setting: Setting, release: str) -> None:
    project = dataclasses.replace(setting.shared.config.projects[PROJECT], release=release)
    setting.shared.config.projects[PROJECT] = project
    recorder = Recorder(setting.shared)
    with setting.store.begin() as conn:
        (before,) = make_released(conn, "a")  # so that what has to be made again would go by itself, too
        assert studies.hold(conn, PROJECT, output("a").study, 150.0)
        ledger.renew(conn, [before], 160.0)
        add(conn, "b")
        names = {row.id: name for row, name in zip(claim_as(conn, "me"), "ab", strict=True)}
    for row, name in names.items():
        recorder.outcome(PROJECT, Done(row, "ready", made=made(name), subject=subject().seen), lambda: None)
    recorder.start()
    recorder.stop(10)
    with setting.store.begin() as conn:
        assert ledger.counts(conn) == {PROJECT: {"ready": 2}}
        assert len(studies.release_out(conn, PROJECT, output("a").study, [PEER], 300.0)) == 2


def claim_as(conn: Any, owner: str) -> list[Any]:
    """Take what is queued for a service, in the order of its ids."""
    found = ledger.claim(conn, PROJECT, VAULT.index("series", "series-a"), 10, owner, 170.0)
    return sorted(found, key=lambda one: one.id)


def made(name: str) -> Made:
    """What a worker says of an output."""
    o = output(name)
    return Made(o.patient, o.study, o.series, o.sop, o.orthanc_id, "c" * 40, "d" * 40, o.digest, o.size, o.plan_digest)


def test_a_claim_whose_answer_was_lost_is_given_back_and_one_in_hand_is_not(setting: Setting) -> None:
    with setting.store.begin() as conn:
        first, second, third = (row.id for row in add(conn, "a", "b", "c"))
        ledger.claim(conn, PROJECT, VAULT.index("series", "series-a"), 2, "me", 150.0)
        ledger.claim(conn, PROJECT, VAULT.index("series", "series-a"), 1, "me", 199.0)
        rows = make_released(conn, "d", "e")
        sent = deliveries.claim(conn, PROJECT, PEER, 2, "me", 150.0)
    setting.shared.in_hand.add(first)
    setting.shared.sending.add(sent[0].id)
    setting.keeper._give_back_forgotten()
    with setting.store.begin() as conn:
        assert [state(conn, row) for row in (first, second, third)] == ["working", "queued", "working"]
        (again,) = deliveries.claim(conn, PROJECT, PEER, 2, "other", 201.0)
        assert (again.id, again.ledger_id, again.history) == (sent[1].id, rows[1], "same")
