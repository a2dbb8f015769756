"""Carrying recalls out: a service that does not lead any more deletes nothing, and has no say in what is gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from orthanc_deid.config import Config
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.orthanc.peers import Gone
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.recall import Recalls
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.store import Store, deliveries, ledger, recalls, services
from orthanc_deid.store.rows import Sent, ToSend

from tests.ledgers import PROJECT, claim, finish, make_released, output, ready, sent, take
from tests.postgres import Postgres


class Setting:
    """One of two services, which leads, with outputs that were confirmed and are to make room for other ones."""

    def __init__(self, folder: Path, store: Store) -> None:
        section = {
            "Python": "python3",
            "Projects": {PROJECT: {"Profile": "basic", "Destinations": [{"Peer": "research"}]}},
        }
        config = Config.parse(section, data_directory=folder, load_profiles=False)
        keys = {PROJECT: MasterKey({1: bytes(range(32))}).project(PROJECT)}
        self.store = store
        self.shared = Shared(
            config, store, cast(Any, None), Outbox(folder / "outbox"), keys, "me", clock=lambda: 400.0,
            held=lambda: self.holds,
        )  # fmt: skip
        self.holds = True
        self.deleted: list[str] = []
        self.meanwhile: Callable[[], None] = lambda: None
        destination = SimpleNamespace(sender=self)
        self.recalls = Recalls(self.shared, cast(Any, SimpleNamespace(destination=lambda _: destination)))
        with store.aside() as conn:
            for owner in ("me", "other"):
                services.register(conn, owner, f"outbox of {owner}", "machine")
        self.names = ("a", "b", "c")
        with store.begin() as conn:
            rows = make_released(conn, *self.names)
            sent(conn, *(Sent(one.id, "confirmed") for one in take(conn)))
            recalls.replace(conn, rows, 300.0)
            claim(conn, now=301.0)
            finish(conn, *(ready(row, name, content="new") for row, name in zip(rows, self.names, strict=True)))
            ledger.release_rows(conn, rows, ["peer:research"], 302.0)

    def delete(self, one: ToSend) -> Gone:
        self.deleted.append(one.out_sop)
        self.meanwhile()
        return Gone.DELETED

    def replaced(self) -> None:
        """The other service does all of it: the new outputs are there."""
        with self.store.begin() as conn:
            recalls.gone(conn, recalls.due(conn, 402.0), 402.0)
            sent(conn, *(Sent(one.id, "confirmed") for one in take(conn, now=403.0)), now=404.0)

    def other_leads(self) -> None:
        with self.store.aside() as conn:
            services.leave(conn, "me")
            assert services.beat(conn, "other", 15.0).leads

    def states(self) -> dict[str, int]:
        with self.store.read() as conn:
            return deliveries.counts(conn)[PROJECT]["peer:research"]


@pytest.fixture
def setting(tmp_path: Path, store: Store) -> Setting:
    return Setting(tmp_path, store)


def test_all_of_it_is_deleted_and_goes_again(setting: Setting) -> None:
    assert setting.recalls._delete_some()
    assert setting.deleted == [output(name).sop for name in setting.names]
    assert setting.states() == {"pending": 3}


@pytest.mark.parametrize("sign", ["leads", "held", "stopping"])
def test_who_leads_no_more_stops_in_the_middle_of_the_list(setting: Setting, sign: str) -> None:
    def lose() -> None:
        if sign == "leads":
            setting.shared.leads.clear()
        elif sign == "held":
            setting.holds = False
        else:
            setting.shared.stopping.set()

    setting.meanwhile = lose
    setting.recalls._delete_some()
    assert setting.deleted == [output("a").sop]


def test_what_has_been_replaced_meanwhile_is_not_deleted(setting: Setting) -> None:
    setting.meanwhile = setting.replaced
    setting.recalls._delete_some()
    assert setting.deleted == [output("a").sop]
    assert setting.states() == {"confirmed": 3}


def test_what_another_leader_has_in_hand_is_not_called_gone(tmp_path: Path, postgres_server: Postgres) -> None:
    store = Store.open(postgres_server.url(postgres_server.emptied()))
    setting = Setting(tmp_path, store)
    setting.meanwhile = setting.other_leads
    assert not setting.recalls._delete_some()
    assert setting.states() == {"recalling": 3}, "the one that leads asks for itself"
    store.close()
