"""Storage commitment: what is asked for when, whose word confirms, and what becomes of silence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
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
from orthanc_deid.store import Store, commitments, deliveries, ledger, services
from orthanc_deid.store.rows import Outcome, Sent, ToCommit

from tests import builders
from tests.builders import Origin, person
from tests.ledgers import PROJECT, claim, finish, make_released, output, ready, source, take
from tests.postgres import Postgres

THERE = "modality:there"
DATA = builders.to_bytes(builders.ct(Origin(person(1)), rows=8, columns=8))


WANTED = {"Modality": "there", "StorageCommitment": True, "CommitmentSeconds": 600}


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

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        store: Store | None = None,
        destination: Mapping[str, Any] = WANTED,
    ) -> None:
        section = {"Python": "python3", "Projects": {PROJECT: {"Profile": "basic", "Destinations": [destination]}}}
        config = Config.parse(section, data_directory=folder, load_profiles=False)
        self.now = 300.0
        self.store = store or Store.open(folder / "deid.sqlite3")
        keys = {PROJECT: MasterKey({1: bytes(range(32))}).project(PROJECT)}
        outbox = Outbox(folder / "outbox")
        outbox.prepare()
        self.shared = Shared(
            config, self.store, cast(Any, None), outbox, keys, "me", clock=lambda: self.now,
            receivers=Receivers({"there": Modality("there", "THERE", "127.0.0.1", 1)}),
        )  # fmt: skip
        self.series: list[tuple[str, ...]] = []
        self.shared.tasks = cast(Any, SimpleNamespace(ask=lambda *key: self.series.append(key)))
        self.takes = True
        self.asked: list[tuple[str, list[str]]] = []
        monkeypatch.setattr(commit, "ask", self._ask)
        recorder = Recorder(self.store, lambda: self.now)
        self.committer = Committer(self.shared, cast(Any, recorder))

    def _ask(self, link: Any, transaction: str, references: Mapping[str, str], *_: Any) -> bool:
        assert set(references.values()) == {"1.2.840.10008.5.1.4.1.1.2"}
        self.asked.append((transaction, sorted(references)))
        return self.takes

    def stored(self, *names: str, study: str = "1.2.3") -> list[int]:
        """Instances that the receiver has stored."""
        with self.store.begin() as conn:
            added = ledger.add_many(conn, PROJECT, [source(name, study=study) for name in names], 100.0)
            claim(conn)
            made = [ready(row.id, name, study=study) for row, name in zip(added, names, strict=True)]
            ledger.finish_many(conn, PROJECT, made, 102.0, outbox=self.shared.here)
            rows = ledger.release_rows(conn, [row.id for row in added], (THERE,), 100.0)
            claimed = take(conn, THERE)
            deliveries.finish_many(conn, [Sent(one.id, "stored", "awaited", self.now) for one in claimed], self.now)
        for row, name in zip(rows, names, strict=True):
            self.put(row, name)
        return rows

    def put(self, row: int, name: str, data: bytes = DATA) -> None:
        """Put an output into the outbox."""
        file, part = self.shared.outbox.begin(row)
        file.write(data)
        file.close()
        self.shared.outbox.finish(part, row, output(name).digest)
        self.shared.fresh[row] = output(name).digest

    def look(self) -> None:
        """Look once, and wait for what is asked."""
        self.committer._look()
        for asking in self.committer._asking.values():
            asking.result(10)

    def run(self) -> None:
        """Let the committer's thread run until it has nothing to do."""
        self.committer.start()
        self.committer._thread.join(10)
        assert not self.committer._thread.is_alive()

    def states(self, rows: Sequence[int]) -> list[str]:
        with self.store.read() as conn:
            return [row.state for row in (ledger.get(conn, one) for one in rows) if row is not None]


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setting]:
    setting = Setting(tmp_path, monkeypatch)
    yield setting
    setting.store.close()


def remade(setting: Setting, row: int, name: str) -> None:
    """The workers make an output again, with the same bytes."""
    with setting.store.begin() as conn:
        claim(conn, now=setting.now)
        finish(conn, ready(row, name), now=setting.now)
        ledger.release_rows(conn, [row], [THERE], setting.now)
    setting.put(row, name)


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


@pytest.mark.parametrize("damage", ["empty", "torn", "other bytes", "missing", "a folder"])
def test_a_file_that_is_not_intact_is_made_again_and_others_have_their_turn(setting: Setting, damage: str) -> None:
    (bad,) = setting.stored("a")
    setting.stored("b", study="4.5.6")
    del setting.shared.fresh[bad]  # it was made before this start
    path = setting.shared.outbox.path(bad, output("a").digest)
    if damage in ("missing", "a folder"):
        path.unlink()
        if damage == "a folder":
            path.mkdir()
    else:
        path.write_bytes({"empty": b"", "torn": DATA[:200], "other bytes": DATA}[damage])
    for _ in range(3):
        setting.look()
    assert [asked for _, asked in setting.asked] == [sops("b")]
    assert setting.states([bad]) == ["queued"]
    assert [key[:2] for key in setting.series] == [("series", PROJECT)]
    if damage == "a folder":
        path.rmdir()
    remade(setting, bad, "a")
    setting.now += commitment.PATIENCE_SECONDS
    setting.look()
    assert setting.asked[1][1] == sops("a")
    assert setting.committer.report(setting.asked[1][0], sops("a"), {})
    assert setting.states([bad]) == ["confirmed"]


@pytest.mark.parametrize("end", ["quarantined", "source-lost"])
def test_what_was_held_or_lost_when_it_was_made_again_is_not_asked_about(setting: Setting, end: str) -> None:
    (row,) = setting.stored("a")
    setting.stored("b", study="4.5.6")
    with setting.store.begin() as conn:
        ledger.renew(conn, [row], setting.now)
        if end == "quarantined":
            claim(conn, now=setting.now)
            finish(conn, Outcome(row, "quarantined", reason="unparsable"))
        else:
            ledger.mark_lost(conn, PROJECT, [source("a").instance.index], setting.now)
    setting.shared.outbox.drop(row, output("a").digest)
    for _ in range(3):
        setting.look()
    assert [asked for _, asked in setting.asked] == [sops("b")]
    assert setting.states([row]) == [end], "that is its outcome, and the only one"
    with setting.store.begin() as conn:
        assert ledger.retry(conn, [row], setting.now)
    remade(setting, row, "a")
    setting.look()
    assert setting.asked[1][1] == sops("a"), "a person brought it back"


def test_a_study_that_cannot_be_asked_about_does_not_come_first_for_ever(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting.stored("a")
    setting.stored("b", study="4.5.6")

    def broken(some: Sequence[ToCommit]) -> dict[str, str]:
        if sops("a")[0] in {one.out_sop for one in some}:
            raise RuntimeError("a fault of ours")
        return {one.out_sop: "1.2.840.10008.5.1.4.1.1.2" for one in some}

    monkeypatch.setattr(setting.committer, "_references", broken)
    setting.look()
    assert setting.shared.troubles.show()[0]["Reason"] == "RuntimeError"
    setting.now += 10
    setting.committer._pauses.clear()
    setting.look()
    assert [asked for _, asked in setting.asked] == [sops("b")]


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_server: Postgres) -> Iterator[tuple[Setting, ...]]:
    """Two services on one database, of which the first leads."""
    store = Store.open(postgres_server.url(postgres_server.emptied()))
    first, second = (Setting(tmp_path / name, monkeypatch, store) for name in ("first", "second"))
    second.shared.leads.clear()
    monkeypatch.setattr(
        commit, "ask", lambda *call: (first if call[3] == first.committer.report else second)._ask(*call)
    )
    yield first, second
    store.close()


def test_each_of_several_services_asks_about_what_it_has(two: tuple[Setting, Setting]) -> None:
    leader, other = two
    here, there = leader.stored("a"), other.stored("b", "c")
    leader.look()
    other.look()
    assert [asked for _, asked in leader.asked] == [sops("a")], "of one study, the part that it has"
    assert [asked for _, asked in other.asked] == [sorted(sops("b", "c"))]
    assert leader.series == other.series == [], "nothing is made again that is there"
    assert leader.committer.report(other.asked[0][0], sops("b", "c"), {}), "the answer may come to any of them"
    assert other.states(there) == ["confirmed"] * 2
    assert leader.committer.report(leader.asked[0][0], sops("a"), {})
    assert leader.states(here) == ["confirmed"]
    assert sorted(row for row, _ in other.shared.outbox.files()) == there
    other.committer._drop_at = 0.0
    other.look()
    assert not list(other.shared.outbox.files()), "their files are dropped by whoever has them"
    assert not other.shared.fresh


def test_what_is_overdue_is_asked_again_by_whoever_has_it(two: tuple[Setting, Setting]) -> None:
    leader, other = two
    other.stored("b")
    other.look()
    leader.now = other.now = 901.0
    other.look()
    assert len(other.asked) == 1, "the one that leads sees to that"
    leader.look()
    other.look()
    assert (len(other.asked), len(leader.asked)) == (2, 0)


def test_what_a_dead_service_had_is_made_again_and_asked_about(two: tuple[Setting, Setting]) -> None:
    leader, other = two
    (row,) = other.stored("b")
    with leader.store.begin() as conn:
        services.register(conn, "me", leader.shared.outbox.name, "machine")
        services.inherit(conn, leader.now)
    leader.look()
    assert leader.states([row]) == ["queued"] and len(leader.series) == 1
    remade(leader, row, "b")
    leader.now += commitment.PATIENCE_SECONDS
    leader.look()
    assert [asked for _, asked in leader.asked] == [sops("b")]


def test_what_is_stored_is_confirmed_when_no_commitment_is_wanted_any_more(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = setting.stored("a", "b")
    setting.look()
    rows += setting.stored("c", study="4.5.6")
    monkeypatch.setattr(commitment, "MOST", 2)
    plain = Setting(tmp_path, monkeypatch, setting.store, {"Modality": "there"})
    plain.run()
    assert plain.states(rows) == ["confirmed"] * 3
    assert plain.asked == [] and not list(plain.shared.outbox.files())
    with plain.store.begin() as conn:
        assert take(conn, THERE, now=10_000.0) == [], "it is not sent again"
        assert commitments.overdue(conn, 10_000.0) == []
        assert list(deliveries.counts(conn)[PROJECT].values()) == [{"confirmed": 3}]
    assert plain.committer.report(setting.asked[0][0], [], dict.fromkeys(sops("a"), 0x0110))
    assert plain.states(rows) == ["confirmed"] * 3, "what is said later changes nothing"


def test_what_is_made_again_when_commitment_is_given_up_is_confirmed_once_it_is_there(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same, other = setting.stored("a", "b")
    with setting.store.begin() as conn:
        ledger.renew(conn, [same, other], setting.now)
    plain = Setting(tmp_path, monkeypatch, setting.store, {"Modality": "there"})
    plain.run()
    assert plain.states([same, other]) == ["queued"] * 2
    with setting.store.begin() as conn:
        claim(conn, now=setting.now)
        finish(conn, ready(same, "a"), ready(other, "b", content="learnt"), now=setting.now)
        ledger.release_rows(conn, [same, other], [THERE], setting.now)
    assert plain.states([same, other]) == ["confirmed", "released"]
    with setting.store.begin() as conn:
        assert [one.ledger_id for one in take(conn, THERE, now=setting.now)] == [other], "other bytes are sent"


def test_what_is_stored_at_a_destination_that_is_gone_waits_for_it(
    setting: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = setting.stored("a")
    setting.look()
    without = Setting(tmp_path, monkeypatch, setting.store, {"Peer": "research"})
    without.run()
    assert without.states(rows) == ["released"], "nobody has said that its word is enough"
    (trouble,) = without.shared.troubles.show()
    assert (trouble["Part"], trouble["Reason"]) == (f"commitment of {THERE}", "not-configured")
    back = Setting(tmp_path, monkeypatch, setting.store)
    back.shared.fresh.update(setting.shared.fresh)
    back.look()
    assert [asked for _, asked in back.asked] == [sops("a")]


def test_a_variant_is_noted_once(setting: Setting) -> None:
    with setting.store.begin() as conn:
        make_released(conn, "a", destinations=(THERE,))
        (one,) = take(conn, THERE)
        for digest in ("d" * 64, "e" * 64, "d" * 64):
            deliveries.note_variant(conn, one, digest, "xnat", 1.0)
        found = conn.exec_driver_sql("SELECT count(*) FROM variants").scalar_one()
    assert found == 2
