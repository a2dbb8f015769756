"""The spool is worked off: each file ends as a row, is known already, or waits for somebody; a crash loses none."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any, cast

import pytest
from orthanc_deid import gateway
from orthanc_deid.config import Config
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.orthanc import changes
from orthanc_deid.orthanc.changes import Stored
from orthanc_deid.orthanc.client import NotFound
from orthanc_deid.pipeline.messages import Item, ProjectSetup, Setup
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.recall import Begun, Recalls
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.spool import ORPHAN_SECONDS, SpoolIntake
from orthanc_deid.pipeline.spoolfolder import Spool
from orthanc_deid.pipeline.worker import Worker
from orthanc_deid.store import Store, expected, ledger, recalls, spooled
from orthanc_deid.store.rows import Outcome, Sent
from sqlalchemy.exc import OperationalError

from tests import builders, ledgers
from tests.builders import Origin, person

PROJECT = "lung"


class Orthanc:
    """Holds placeholders only."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, str]] = {}
        self.deleted: list[str] = []

    def post_json(self, path: str, body: Any) -> Any:
        """Instances in bulk."""
        assert path == "/tools/bulk-content"
        return [
            {"ID": one, "ParentSeries": changes.PLACEHOLDERS, "Metadata": self.held[one]}
            for one in body["Resources"]
            if one in self.held
        ]

    def change(self, method: str, path: str, body: bytes = b"") -> None:
        """Deletion; this version answers 404 where one is gone."""
        if path == "/tools/bulk-delete":
            names = json.loads(body)["Resources"]
            if not all(name in self.held for name in names):
                raise NotFound("gone", 404)
        else:
            names = [path.rpartition("/")[2]]
            if names[0] not in self.held:
                raise NotFound("gone", 404)
        for name in names:
            del self.held[name]
            self.deleted.append(name)


class Tasks:
    """Remembers what was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def ask(self, *name: str) -> None:
        """A task is wanted."""
        self.asked.append(name)


class Setting:
    """An intake with its spool and ledger; `again` is a new start over the same folders."""

    def __init__(self, folder: Path, match: dict[str, Any] | None = None, **mode: Any) -> None:
        self.folder = folder
        self.match, self.mode = match or {"Modality": "CT"}, mode
        self.orthanc = Orthanc()
        self.again()

    def again(self) -> None:
        """Start."""
        project = {"Profile": "basic", "Match": self.match, "Destinations": [{"Peer": "research"}]}
        section = {"Python": "python3", "Projects": {PROJECT: project}, "Gateway": self.mode}
        config = Config.parse(section, data_directory=self.folder, load_profiles=False)
        assert config.gateway is not None
        self.root = config.gateway.spool
        self.store = Store.open(self.folder / "deid.sqlite3")
        self.keys = MasterKey({1: bytes(range(32))}).project(PROJECT)
        self.now = 100.0
        outbox = Outbox(self.folder / "outbox")
        self.shared = Shared(
            config, self.store, cast(Any, self.orthanc), outbox, {PROJECT: self.keys}, "me", clock=lambda: self.now
        )
        self.tasks = Tasks()
        self.shared.tasks = cast(Any, self.tasks)
        rules = [rule.tag for rule in config.projects[PROJECT].match.conditions if rule.tag]
        self.spool = Spool(self.root, rules)
        self.intake = SpoolIntake(self.shared, self.spool, config.gateway)
        self.spool.prepare()
        self.intake.look_anew()

    def put(self, data: bytes, part: str = gateway.NEW) -> str:
        """Spool as the plugin does."""
        name = secrets.token_hex(16)
        (self.root / part / name).write_bytes(data)
        return name

    def look(self) -> None:
        """Do all there is to do."""
        self.intake._sweep_at = self.intake._orphans_at = self.intake._count_at = 0.0
        while self.intake.look():
            pass

    def parts(self) -> dict[str, list[str]]:
        """The files by part."""
        found = {part: self.spool.names(part) for part in gateway.HOLDING}
        return {part: names for part, names in found.items() if names}

    def rows(self) -> list[Any]:
        """The ledger."""
        with self.store.read() as conn:
            return [row for number in range(1, 20) if (row := ledger.get(conn, number)) is not None]

    def end(self, state: str) -> None:
        """Bring every queued row to an end."""
        with self.store.begin() as conn:
            for row in self.rows():
                if row.state == "queued":
                    ledger.claim(conn, PROJECT, row.series_index, 10, "me", 101.0)
                    ledger.finish_many(conn, PROJECT, [Outcome(row.id, state, "error")], 102.0)

    def confirm(self) -> list[int]:
        """Bring every queued row to its peer; returns them."""
        with self.store.begin() as conn:
            rows = [row for row in self.rows() if row.state == "queued"]
            for row in rows:
                ledger.claim(conn, PROJECT, row.series_index, 10, "me", 101.0)
                ledger.finish_many(conn, PROJECT, [ledgers.ready(row.id, str(row.id))], 102.0)
                ledger.release_rows(conn, [row.id], [ledgers.PEER], 103.0)
            ledgers.sent(conn, *(Sent(one.id, "confirmed") for one in ledgers.take(conn)))
        return [row.id for row in rows]

    def worker(self) -> Worker:
        """A worker of this service."""
        setup = ProjectSetup(PROJECT, Path("basic"), self.keys, {"*": "west", "EAST": "east"})
        outbox = self.folder / "outbox"
        return Worker(cast(Any, None), Setup("http://127.0.0.1:1", None, None, outbox, {PROJECT: setup}, self.root))


def ct(number: int = 1, n: int = 1) -> bytes:
    """A slice."""
    return builders.to_bytes(builders.ct(Origin(person(number), 1, 1, n), rows=16, columns=16))


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """A gateway that takes CT."""
    return Setting(tmp_path)


def test_a_file_becomes_a_row_under_the_ids_that_orthanc_would_have_given(setting: Setting) -> None:
    name = setting.put(ct())
    setting.look()
    (row,) = setting.rows()
    assert (row.state, row.origin, row.spool) == ("queued", "spool", name)
    dataset = builders.read(ct())
    told = "|".join([dataset.PatientID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID])
    sha = hashlib.sha1(told.encode()).hexdigest()
    instance = "-".join(sha[i : i + 8] for i in range(0, 40, 8))
    assert row.source_index == setting.shared.vaults[PROJECT].index("instance", instance)
    assert setting.parts() == {gateway.TAKEN: [name]}
    assert setting.tasks.asked == [("series", PROJECT, row.series_index)]
    item = Item(row.id, instance, row.source_digest, name)
    fetched = setting.worker()._fetch(item)
    assert fetched.data == ct() and fetched.md5 == hashlib.md5(ct(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("when", ["before the transaction", "before it is moved", "after it was moved"])
def test_a_crash_makes_no_second_row_and_loses_no_file(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    name = setting.put(ct())
    step = {"before the transaction": "_add", "before it is moved": "_move_on", "after it was moved": "_come_back"}[
        when
    ]

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(setting.intake, step, crash)
    with pytest.raises(KeyboardInterrupt):
        setting.look()
    setting.again()
    setting.look()
    (row,) = setting.rows()
    assert (row.state, row.spool) == ("queued", name) and setting.parts() == {gateway.TAKEN: [name]}


def test_a_database_of_yesterday_is_told_again(setting: Setting) -> None:
    name = setting.put(ct())
    setting.look()
    setting.store.close()
    for file in setting.folder.glob("deid.sqlite3*"):
        file.unlink()
    setting.again()
    setting.look()
    assert [row.spool for row in setting.rows()] == [name]


def test_the_same_again_is_dropped_and_what_was_lost_is_replaced(setting: Setting) -> None:
    first = setting.put(ct())
    setting.look()
    setting.put(ct())
    setting.put(ct())
    setting.look()
    assert setting.parts() == {gateway.TAKEN: [first]}
    (setting.root / gateway.TAKEN / first).unlink()
    again = setting.put(ct())
    setting.look()
    assert [row.spool for row in setting.rows()] == [again] and setting.parts() == {gateway.TAKEN: [again]}


def test_other_content_right_behind_takes_the_place_of_what_came_first(setting: Setting) -> None:
    other = builders.read(ct())
    other.PixelData = other.PixelData[2:] + other.PixelData[:2]
    names = [setting.put(data) for data in (ct(), ct(n=2), builders.to_bytes(other))]
    for number, name in enumerate(names):
        os.utime(setting.root / gateway.NEW / name, (1000 + number, 1000 + number))
    setting.look()
    assert [(row.state, row.spool) for row in setting.rows()] == [
        ("superseded", None),
        ("queued", names[1]),
        ("queued", names[2]),
    ]
    assert setting.parts() == {gateway.TAKEN: names[1:]}


@pytest.mark.parametrize(("state", "stays"), [("rejected", False), ("quarantined", True)])
def test_a_file_goes_when_its_row_is_done(setting: Setting, state: str, stays: bool) -> None:
    name = setting.put(ct())
    setting.look()
    setting.end(state)
    setting.look()
    assert setting.parts() == ({gateway.TAKEN: [name]} if stays else {})
    setting.put(ct())
    setting.look()
    assert [row.state for row in setting.rows()] == [state], "the outcome is known"
    assert len(setting.parts().get(gateway.TAKEN, [])) == stays


@pytest.mark.parametrize("when", ["before its turn", "while it is deleted"])
@pytest.mark.parametrize("order", ["replace", "resend"])
def test_what_is_asked_for_while_its_file_is_deleted_keeps_its_outcome(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, order: str, when: str
) -> None:
    name = setting.put(ct())
    setting.look()
    (row,) = setting.confirm()
    told: list[Begun | None] = []

    def ask() -> None:
        monkeypatch.setattr(Recalls, "_plans", lambda *_: {"another plan"})
        orders = Recalls(setting.shared, cast(Any, None))
        told.append(getattr(orders, order)(PROJECT, ledgers.output(str(row)).study))

    if when == "while it is deleted":
        drop = setting.spool.drop
        monkeypatch.setattr(setting.spool, "drop", lambda one: (ask(), drop(one)))
        setting.look()
        assert told == [Begun(0, 1)] and [row.state for row in setting.rows()] == ["confirmed"]
        assert setting.parts() == {}
    else:
        real = spooled.done

        def done(conn: Any, limit: int) -> list[str]:
            names = real(conn, limit)
            if not told:
                ask()
            return names

        monkeypatch.setattr(spooled, "done", done)
        setting.look()
        assert told == [Begun(1, 0)] and [(row.state, row.spool) for row in setting.rows()] == [("queued", name)]
        assert setting.parts() == {gateway.TAKEN: [name]}, "what is made again keeps its source"


def test_an_order_that_looked_before_the_file_was_let_go_finds_its_outcome_kept(setting: Setting) -> None:
    setting.put(ct())
    setting.look()
    rows = setting.confirm()
    setting.look()
    with setting.store.begin() as conn:
        assert recalls.replace(conn, rows, 110.0) == [] and recalls.resend(conn, rows, [ledgers.PEER], 110.0) == []
    assert [row.state for row in setting.rows()] == ["confirmed"] and setting.parts() == {}


@pytest.mark.parametrize("ends", ["killed", "the disk fails"])
def test_what_is_left_of_a_deletion_goes_and_is_not_taken_in_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    other = builders.read(ct(n=2))
    other.PixelData = other.PixelData[2:] + other.PixelData[:2]
    setting.put(ct())
    setting.look()
    setting.confirm()
    setting.put(ct(n=2))
    setting.intake._sweep_at = float("inf")
    setting.intake.look()
    newer = setting.put(builders.to_bytes(other))
    setting.intake.look()

    def fail(_name: str) -> None:
        raise KeyboardInterrupt if ends == "killed" else OSError

    with monkeypatch.context() as patch:
        patch.setattr(setting.spool, "drop", fail)
        with pytest.raises((KeyboardInterrupt, OSError)):
            setting.look()
    assert len(setting.parts()[gateway.TAKEN]) == 3
    if ends == "killed":
        setting.again()
    setting.look()
    assert setting.parts() == {gateway.TAKEN: [newer]}
    assert [(row.state, row.spool) for row in setting.rows()] == [
        ("confirmed", None),
        ("superseded", None),
        ("queued", newer),
    ]


def test_what_no_project_takes_waits_until_somebody_discards_it(setting: Setting) -> None:
    data = builders.to_bytes(builders.mr(Origin(person(1), 1, 1, 1), rows=16, columns=16))
    name, broken = setting.put(data), setting.put(b"no DICOM at all" * 20)
    setting.look()
    assert setting.rows() == []
    listed = {row["ID"]: (row["Reason"], row["Size"]) for row in setting.intake.unmatched()}
    assert listed == {name: ("unmatched", len(data)), broken: ("not-dicom", 300)}
    assert setting.intake.health()["Unmatched"] == {"unmatched": 1, "not-dicom": 1}
    assert [row["ID"] for row in setting.intake.unmatched(min(listed), 5)] == [max(listed)]
    assert setting.intake.discard(name) and not setting.intake.discard(name)
    assert setting.parts() == {gateway.UNMATCHED: [broken]}
    setting.match = {"Modality": "MR"}
    other = setting.put(data)
    setting.again()
    setting.look()
    assert [row.spool for row in setting.rows()] == [other], "rules are asked again at each start"


def test_discard_keeps_what_cannot_be_judged_and_what_refers_to_others(tmp_path: Path) -> None:
    setting = Setting(tmp_path, Unmatched="discard")
    setting.put(builders.to_bytes(builders.mr(Origin(person(1), 1, 1, 1), rows=16, columns=16)))
    broken = setting.put(b"no DICOM at all" * 20)
    report = setting.put(builders.to_bytes(builders.sr_basic(Origin(person(2), 1, 2, 1))))
    setting.look()
    assert sorted(setting.parts()[gateway.UNMATCHED]) == sorted([broken, report]) and len(setting.parts()) == 1
    setting.now += 90_000
    setting.look()
    assert setting.parts() == {gateway.UNMATCHED: [broken]}
    assert setting.intake.health()["Discarded"] == 2


@pytest.mark.parametrize("first", ["the report", "the slice"])
def test_what_refers_to_a_study_goes_with_it_whichever_comes_first(setting: Setting, first: str) -> None:
    report = builders.to_bytes(builders.sr_basic(Origin(person(1), 1, 2, 1)))
    for data in (report, ct()) if first == "the report" else (ct(), report):
        setting.put(data)
        setting.look()
    setting.look()
    assert len(setting.rows()) == 2
    setting.again()
    setting.put(builders.to_bytes(builders.sr_basic(Origin(person(1), 1, 2, 2))))
    setting.look()
    assert len(setting.rows()) == 3, "the ledger remembers the study"


def test_what_refers_to_a_study_goes_with_it_after_a_database_that_was_away(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting.put(builders.to_bytes(builders.sr_basic(Origin(person(1), 1, 2, 1))))
    setting.look()
    setting.put(ct())
    adds = ledger.add_many

    def away(*_: Any, **__: Any) -> Any:
        raise OperationalError("", {}, Exception())

    monkeypatch.setattr(ledger, "add_many", away)
    with pytest.raises(OperationalError):
        setting.intake.look()
    monkeypatch.setattr(ledger, "add_many", adds)
    setting.look()
    setting.look()
    assert len(setting.rows()) == 2 and not setting.intake.unmatched()


def test_an_output_of_our_own_is_dropped(setting: Setting) -> None:
    entry = setting.spool.read(setting.put(ct()))
    with setting.store.begin() as conn:
        expected.add_many(conn, PROJECT, [(entry.instance, hashlib.sha256(ct()).hexdigest())], 1.0)
    setting.look()
    assert setting.rows() == [] and setting.parts() == {}


# AE titles


def test_titles_come_from_the_placeholder_and_it_goes(tmp_path: Path) -> None:
    setting = Setting(tmp_path, {"CalledAET": "LUNG"})
    names = [setting.put(ct(n=n), gateway.WAITING) for n in (1, 2)]
    setting.look()
    assert setting.rows() == []
    for name, called in zip(names, ("LUNG", "BRAIN"), strict=True):
        one = changes.placeholder_id(name)
        setting.orthanc.held[one] = {"RemoteAET": "EAST", "CalledAET": called}
        setting.intake.titles([Stored(one, changes.PLACEHOLDERS, "", "EAST", called)])
    assert not setting.orthanc.held
    setting.look()
    (row,) = setting.rows()
    assert row.spool == names[0] and setting.parts() == {gateway.TAKEN: [names[0]], gateway.UNMATCHED: [names[1]]}
    project = setting.worker()._setup.projects[PROJECT]
    assert setting.worker()._domain(project, Item(1, "", "", names[0])) == "east"
    # Told again after a crash: the file has moved on, and the placeholder is gone.
    setting.intake.titles([Stored(changes.placeholder_id(names[0]), changes.PLACEHOLDERS, "", "EAST", "LUNG")])
    setting.end("rejected")
    setting.look()
    assert not list((setting.root / gateway.TAKEN).iterdir()), "the titles go with the file"


def test_a_file_without_its_placeholder_is_asked_after_and_kept(tmp_path: Path) -> None:
    setting = Setting(tmp_path, {"CalledAET": "LUNG"})
    there, gone = setting.put(ct(n=1), gateway.WAITING), setting.put(ct(n=2), gateway.WAITING)
    for name in (there, gone):
        old = (setting.root / gateway.WAITING / name).stat().st_mtime - ORPHAN_SECONDS - 1
        os.utime(setting.root / gateway.WAITING / name, (old, old))
    setting.orthanc.held[changes.placeholder_id(there)] = {"RemoteAET": "EAST", "CalledAET": "LUNG"}
    setting.look()
    setting.look()
    assert [row.spool for row in setting.rows()] == [there]
    assert [(row["ID"], row["Reason"]) for row in setting.intake.unmatched()] == [(gone, "sender-unknown")]
    again = setting.put(ct(n=2), gateway.WAITING)
    setting.intake.titles([Stored(changes.placeholder_id(again), changes.PLACEHOLDERS, "", "EAST", "LUNG")])
    setting.look()
    assert {row.spool for row in setting.rows()} == {there, again}
    setting.look()
    assert setting.intake.unmatched() == [] and gateway.WAITING not in setting.parts(), "the sender tried again"


def test_a_worker_waits_for_a_spool_that_is_away_and_loses_what_was_deleted(setting: Setting) -> None:
    name = setting.put(ct())
    item = Item(1, "", "", name)
    (setting.root / gateway.NEW / name).unlink()
    assert setting.worker().do(PROJECT, item).state == "source-lost"
    setting.root.rename(setting.folder / "elsewhere")
    done = setting.worker().do(PROJECT, item)
    assert (done.state, done.reason) == ("wait", "disk")


def test_a_file_that_was_damaged_is_told_from_one_of_other_content(setting: Setting) -> None:
    name = setting.put(ct())
    setting.look()
    (row,) = setting.rows()
    item = Item(row.id, "", row.source_digest, name)
    (setting.root / gateway.TAKEN / name).write_bytes(ct()[:-2])
    done = setting.worker().do(PROJECT, item)
    assert (done.state, done.reason, done.findings) == ("unreadable", "source-unreadable", {"alone": True})


def test_a_large_source_is_read_from_its_file(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orthanc_deid.pipeline.worker.MEMORY_BYTES", 100)
    name = setting.put(ct())
    fetched = setting.worker()._fetch(Item(1, "", "", name))
    assert fetched.data is None and fetched.file is not None
    assert fetched.file.read() == ct() and fetched.md5 == hashlib.md5(ct(), usedforsecurity=False).hexdigest()
    fetched.file.close()
