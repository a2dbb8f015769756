"""Storage commitment: what is asked for when, whose word confirms, and what becomes of silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from orthanc_deid.config import Config
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.orthanc.settings import Modality, Receivers
from orthanc_deid.pipeline import commitment
from orthanc_deid.pipeline.commitment import Committer
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.send import commit
from orthanc_deid.store import Store, commitments, deliveries, ledger
from orthanc_deid.store.rows import Sent

from tests import builders
from tests.builders import Origin, person
from tests.ledgers import PROJECT, make_released, output, take

THERE = "modality:there"
DATA = builders.to_bytes(builders.ct(Origin(person(1)), rows=8, columns=8))


class Recorder:
    """Writes down at once."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store, self.clock = store, clock

    def sent(self, project: str, sent: Sent, told: Callable[[], None]) -> None:
        with self.store.begin() as conn:
            deliveries.finish_many(conn, [sent], self.clock())
        told()


class Setting:
    """A committer with its ledger, a receiver that only remembers, and a time of the test's own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        destination = {"Modality": "there", "StorageCommitment": True, "CommitmentSeconds": 600}
        section = {"Python": "python3", "Projects": {PROJECT: {"Profile": "basic", "Destinations": [destination]}}}
        config = Config.parse(section, data_directory=folder, load_profiles=False)
        self.now = 300.0
        self.store = Store.open(folder / "deid.sqlite3")
        keys = {PROJECT: MasterKey({1: bytes(range(32))}).project(PROJECT)}
        outbox = Outbox(folder / "outbox")
        outbox.prepare()
        self.shared = Shared(
            config, self.store, cast(Any, None), outbox, keys, "me", clock=lambda: self.now,
            receivers=Receivers({"there": Modality("there", "THERE", "127.0.0.1", 1)}),
        )  # fmt: skip
        self.takes = True
        self.asked: list[tuple[str, list[str]]] = []
        monkeypatch.setattr(commit, "ask", self._ask)
        recorder = Recorder(self.store, lambda: self.now)
        self.committer = Committer(self.shared, cast(Any, recorder))

    def _ask(self, link: Any, transaction: str, references: Mapping[str, str], *_: Any) -> bool:
        assert set(references.values()) == {"1.2.840.10008.5.1.4.1.1.2"}
        self.asked.append((transaction, sorted(references)))
        return self.takes

    def stored(self, *names: str) -> list[int]:
        """Instances that the receiver has stored."""
        with self.store.begin() as conn:
            rows = make_released(conn, *names, destinations=(THERE,))
            claimed = take(conn, THERE)
            deliveries.finish_many(conn, [Sent(one.id, "stored", "awaited", self.now) for one in claimed], self.now)
        for row, name in zip(rows, names, strict=True):
            file, part = self.shared.outbox.begin(row)
            file.write(DATA)
            file.close()
            self.shared.outbox.finish(part, row, output(name).digest)
        return rows

    def look(self) -> None:
        """Look once, and wait for what is asked."""
        self.committer._look()
        for asking in self.committer._asking.values():
            asking.result(10)

    def states(self, rows: Sequence[int]) -> list[str]:
        with self.store.read() as conn:
            return [row.state for row in (ledger.get(conn, one) for one in rows) if row is not None]


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    setting = Setting(tmp_path, monkeypatch)
    yield setting
    setting.store.close()


def sops(*names: str) -> list[str]:
    return [output(name).sop for name in names]


def test_stored_is_not_confirmed_until_the_receiver_says_so(setting: Setting) -> None:
    rows = setting.stored("a", "b", "c")
    assert setting.states(rows) == ["released"] * 3
    setting.look()
    ((transaction, asked),) = setting.asked
    assert asked == sorted(sops("a", "b", "c"))
    setting.look()
    assert len(setting.asked) == 1, "who was asked is not asked again"
    assert setting.committer.report(transaction, sops("a", "b"), {})
    assert setting.states(rows) == ["confirmed", "confirmed", "released"]
    setting.now += commitment.PAUSE[0]
    setting.look()
    assert setting.asked[1][1] == sops("c"), "what an answer leaves open is asked about again"


def test_a_study_is_asked_about_as_a_whole_but_not_for_ever(setting: Setting) -> None:
    setting.stored("a")
    with setting.store.begin() as conn:
        make_released(conn, "b", destinations=(THERE,))
    setting.look()
    assert setting.asked == []
    setting.now += commitment.PATIENCE_SECONDS
    setting.look()
    assert setting.asked[0][1] == sops("a")


def test_what_is_not_kept_is_offered_again_and_at_last_refused(setting: Setting) -> None:
    (row,) = setting.stored("a")
    for round_ in range(commitment.FAILURES):
        setting.look()
        transaction, _ = setting.asked[-1]
        assert setting.committer.report(transaction, [], dict.fromkeys(sops("a"), 0x0110))
        if round_ < commitment.FAILURES - 1:
            assert setting.states([row]) == ["released"]
            setting.now += 200
            with setting.store.begin() as conn:
                (again,) = take(conn, THERE, now=setting.now)
                deliveries.finish_many(conn, [Sent(again.id, "stored", "awaited", setting.now)], setting.now)
    assert setting.states([row]) == ["refused"]
    with setting.store.read() as conn:
        found = ledger.get(conn, row)
        assert found is not None and found.reason == "not-committed"


def test_a_full_receiver_is_asked_again_and_sent_nothing(setting: Setting) -> None:
    (row,) = setting.stored("a")
    setting.look()
    setting.committer.report(setting.asked[0][0], [], dict.fromkeys(sops("a"), commitment.NO_RESOURCES))
    with setting.store.begin() as conn:
        assert take(conn, THERE, now=setting.now + 10_000) == []
    setting.look()
    assert len(setting.asked) == 1
    setting.now += commitment.PAUSE[1]
    setting.look()
    assert len(setting.asked) == 2 and setting.states([row]) == ["released"]


def test_no_answer_in_time_is_asked_for_again_and_the_old_word_counts_no_more(setting: Setting) -> None:
    (row,) = setting.stored("a")
    setting.look()
    setting.now += 599
    setting.look()
    assert len(setting.asked) == 1
    setting.now += 1
    setting.look()
    (first, _), (second, _) = setting.asked
    assert first != second
    assert setting.committer.report(first, sops("a"), {}), "it is told that we have heard"
    assert setting.states([row]) == ["released"]
    assert setting.committer.report(second, sops("a"), {})
    assert setting.states([row]) == ["confirmed"]


def test_a_receiver_that_does_not_take_the_request_is_asked_again(setting: Setting) -> None:
    setting.stored("a")
    setting.takes = False
    setting.look()
    assert setting.shared.troubles.show()[0]["Part"] == f"commitment of {THERE}"
    with setting.store.read() as conn:
        assert commitments.overdue(conn, setting.now + 10_000) == [], "nobody waits for an answer"
    setting.takes = True
    setting.now += 10
    setting.committer._pauses.clear()
    setting.look()
    assert len(setting.asked) == 2 and setting.shared.troubles.show() == []


def test_nobody_confirms_what_nobody_asked(setting: Setting) -> None:
    (row,) = setting.stored("a")
    assert setting.committer.report("1.2.3", sops("a"), {})
    setting.look()
    assert setting.committer.report(setting.asked[0][0], sops("b"), {"2.25.9": 0x0110})
    assert setting.states([row]) == ["released"]


def test_an_answer_that_cannot_be_written_down_is_not_taken(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    (row,) = setting.stored("a")
    setting.look()
    monkeypatch.setattr(commitment, "WRITE_SECONDS", 0.05)
    monkeypatch.setattr(setting.committer._recorder, "sent", lambda *_: None)
    assert not setting.committer.report(setting.asked[0][0], sops("a"), {})
    monkeypatch.undo()
    assert setting.committer.report(setting.asked[0][0], sops("a"), {}), "said again, it counts"
    assert setting.states([row]) == ["confirmed"]


def test_a_variant_is_noted_once(setting: Setting) -> None:
    with setting.store.begin() as conn:
        make_released(conn, "a", destinations=(THERE,))
        (one,) = take(conn, THERE)
        for digest in ("d" * 64, "e" * 64, "d" * 64):
            deliveries.note_variant(conn, one, digest, "xnat", 1.0)
        found = conn.exec_driver_sql("SELECT count(*) FROM variants").scalar_one()
    assert found == 2
