"""What comparing all instances with the ledger finds: what is new, what came back, and other bytes under a known id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from orthanc_deid.config import Config
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.orthanc.client import UNREADABLE, Failed, NotFound
from orthanc_deid.pipeline.intake import Intake
from orthanc_deid.pipeline.outbox import Outbox
from orthanc_deid.pipeline.shared import Shared
from orthanc_deid.pipeline.tasks import SERIES
from orthanc_deid.store import Store, expected, ledger, meta, recalls
from orthanc_deid.store.rows import CATCH_UP

from tests import ledgers
from tests.ledgers import sha

PROJECT = "lung"
SERIES_ID, STUDY_ID = sha("series")[:40], sha("study")[:40]


class Orthanc:
    """One series of instances in memory, each with the file that holds it; counts what is asked."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[str, str]] = {}
        self.trouble: Failed | None = None
        self.asked: Counter[str] = Counter()
        self.number = 0

    def store(self, name: str, content: str = "") -> str:
        """Store an instance, or other (or the same) bytes in its place; returns its id."""
        self.number += 1
        instance = sha(name)[:40]
        self.files[instance] = (f"{self.number:08x}-0000-4000-8000-000000000000", sha(name + content)[:32])
        return instance

    def get_json(self, path: str, params: Any = None) -> Any:
        """What the intake reads."""
        self.asked[path.split("/")[1]] += 1
        if path == "/instances":
            return list(self.files)
        if path.endswith("/tags"):
            if self.trouble is not None:
                raise self.trouble
            return {"0018,1210": "B30f"}
        if path == f"/series/{SERIES_ID}":
            return {"ParentStudy": STUDY_ID, "MainDicomTags": {"Modality": "CT"}, "Instances": list(self.files)}
        assert path == f"/studies/{STUDY_ID}"
        return {"ID": STUDY_ID, "MainDicomTags": {"StudyInstanceUID": "1.2.3"}, "Series": [SERIES_ID]}

    def post_json(self, path: str, body: Any) -> Any:
        """Instances in bulk."""
        assert path == "/tools/bulk-content"
        self.asked["bulk"] += 1
        return [
            {"ID": one, "ParentSeries": SERIES_ID, "FileUuid": self.files[one][0]}
            for one in body["Resources"]
            if one in self.files
        ]

    def content_name(self, instance: str) -> str:
        """The digest of one instance's bytes."""
        self.asked["md5"] += 1
        if instance not in self.files:
            raise NotFound("not here", 404)
        return self.files[instance][1]


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
    """An intake with its Orthanc and ledger."""

    def __init__(self, folder: Path, **match: str) -> None:
        rules = match or {"Modality": "CT"}
        project = {"Profile": "basic", "Match": rules, "Destinations": [{"Peer": "research"}]}
        section = {"Python": "python3", "Projects": {PROJECT: project}}
        config = Config.parse(section, data_directory=folder, load_profiles=False)
        self.store = Store.open(folder / "deid.sqlite3")
        self.orthanc = Orthanc()
        keys = {PROJECT: MasterKey({1: bytes(range(32))}).project(PROJECT)}
        self.shared = Shared(
            config, self.store, cast(Any, self.orthanc), Outbox(folder / "outbox"), keys, "me", clock=lambda: 100.0
        )
        self.tasks = Tasks()
        self.shared.tasks = cast(Any, self.tasks)
        self.intake = Intake(self.shared)

    def compare(self, thorough: bool = False) -> Counter[str]:
        """Compare everything; returns what Orthanc was asked."""
        self.orthanc.asked.clear()
        self.tasks.asked.clear()
        self.intake._compare(thorough)
        return self.orthanc.asked

    def rows(self, instance: str) -> list[tuple[str, str | None]]:
        """State and reason of an instance's rows."""
        index = self.shared.vaults[PROJECT].index("instance", instance)
        with self.store.read() as conn:
            return [(row.state, row.reason) for row in ledger.find(conn, PROJECT, index)]

    def finish(self, instance: str, state: str) -> None:
        """Bring the newest row of an instance into a state."""
        index = self.shared.vaults[PROJECT].index("instance", instance)
        with self.store.begin() as conn:
            row = ledger.find(conn, PROJECT, index)[-1]
            ledger.claim(conn, PROJECT, row.series_index, 10, "me", 101.0)
            if state == "source-lost":
                ledger.mark_lost(conn, PROJECT, [index], 102.0)
                return
            ledger.finish_many(conn, PROJECT, [ledgers.ready(row.id, instance)], 102.0)
            ledger.release_rows(conn, [row.id], [ledgers.PEER], 103.0)
            (one,) = ledgers.take(conn)
            ledgers.sent(conn, ledgers.Sent(one.id, state))


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    setting = Setting(tmp_path)
    yield setting
    setting.intake._readers.shutdown()
    setting.store.close()


def test_what_is_new_is_taken_and_what_is_known_costs_a_request_per_page(setting: Setting) -> None:
    instances = [setting.orthanc.store(f"i{number}") for number in range(30)]
    assert setting.compare()["md5"] == 30
    assert all(setting.rows(one) == [("queued", None)] for one in instances)
    assert {name[0] for name in setting.tasks.asked} == {SERIES}
    asked = setting.compare()
    assert asked["md5"] == 0 and asked["bulk"] == 2, "one for the files, one for what is still needed"
    assert setting.tasks.asked == []


def test_a_source_that_was_lost_and_came_back_is_queued_again(setting: Setting) -> None:
    instance = setting.orthanc.store("a")
    setting.compare()
    setting.finish(instance, "source-lost")
    assert setting.rows(instance) == [("source-lost", "source-lost")]
    setting.compare()
    assert setting.rows(instance) == [("queued", None)]
    assert len(setting.tasks.asked) == 1


def test_other_bytes_under_a_known_id_are_seen(setting: Setting) -> None:
    left, here = setting.orthanc.store("a"), setting.orthanc.store("b")
    setting.compare()
    setting.finish(left, "confirmed")
    setting.orthanc.store("a", "other"), setting.orthanc.store("b", "other")
    setting.compare()
    assert setting.rows(left) == [("confirmed", None), ("quarantined", "source-changed")]
    assert [state for state, _ in setting.rows(here)] == ["superseded", "queued"]
    assert setting.compare()["md5"] == 0, "seen once"


def test_the_same_bytes_in_another_file_are_compared_once(setting: Setting) -> None:
    instance = setting.orthanc.store("a")
    setting.compare()
    setting.finish(instance, "confirmed")
    setting.orthanc.store("a")
    assert setting.compare()["md5"] == 1
    assert setting.rows(instance) == [("confirmed", None)]
    assert setting.compare()["md5"] == 0


def test_rows_from_before_files_were_noted_are_compared_once(setting: Setting) -> None:
    instance = setting.orthanc.store("a")
    setting.compare()
    with setting.store.begin() as conn:
        conn.exec_driver_sql("UPDATE ledger SET source_version = NULL")
    assert setting.compare()["md5"] == 1
    assert setting.compare()["md5"] == 0
    assert setting.rows(instance) == [("queued", None)]


def test_a_thorough_comparison_asks_for_all_bytes(setting: Setting) -> None:
    for number in range(3):
        setting.orthanc.store(f"i{number}")
    setting.compare()
    assert setting.compare(thorough=True)["md5"] == 3


def test_a_lost_content_that_is_tried_again_ends_where_another_is_there_that_is_done(setting: Setting) -> None:
    instance = setting.orthanc.store("a")
    setting.compare()
    setting.finish(instance, "source-lost")
    setting.orthanc.store("a", "other")
    setting.compare()
    setting.finish(instance, "confirmed")
    assert setting.rows(instance) == [("source-lost", "source-lost"), ("confirmed", None)]
    with setting.store.begin() as conn:
        assert ledger.retry(conn, [1], 110.0)
    setting.intake.look_again(PROJECT, [instance])  # as the series does when a worker finds the other content
    assert setting.rows(instance) == [("source-lost", "source-lost"), ("confirmed", None)]


def test_a_content_that_is_made_again_ends_where_the_other_is_held(setting: Setting) -> None:
    instance = setting.orthanc.store("a")
    setting.compare()
    setting.finish(instance, "confirmed")
    with setting.store.begin() as conn:
        assert recalls.replace(conn, [1], 110.0)
    setting.orthanc.store("a", "other")
    setting.intake.look_again(PROJECT, [instance])
    assert setting.rows(instance) == [("source-lost", "source-lost"), ("quarantined", "source-changed")]


def test_a_content_ends_that_an_output_of_our_own_has_taken_the_place_of(setting: Setting) -> None:
    instance = setting.orthanc.store("a")
    setting.compare()
    with setting.store.begin() as conn:
        expected.add_many(conn, PROJECT, [(instance, sha("ours"))], 101.0)
    setting.intake.look_again(PROJECT, [instance])
    assert setting.rows(instance) == [("queued", None)], "it is what is there"
    setting.orthanc.store("a", "ours")
    setting.intake.look_again(PROJECT, [instance])
    assert setting.rows(instance) == [("source-lost", "source-lost")]


@pytest.fixture
def picky(tmp_path: Path) -> Iterator[Setting]:
    """An intake whose rule asks for an attribute that Orthanc reads from the file."""
    setting = Setting(tmp_path, ConvolutionKernel="B30f")
    yield setting
    setting.intake._readers.shutdown()
    setting.store.close()


def test_arrivals_are_counted_as_they_come_and_not_what_is_found_by_comparing(setting: Setting) -> None:
    told: list[int] = []
    setting.intake._arrived = told.append
    instances = [setting.orthanc.store(f"i{number}") for number in range(3)]
    setting.intake.take(instances[:2], cursor=7)
    setting.intake.take(instances[2:], cursor=8, priority=CATCH_UP)
    setting.compare(thorough=True)
    assert told == [2]


@pytest.mark.parametrize("number", sorted(UNREADABLE))
def test_an_instance_that_orthanc_cannot_read_is_passed_by_until_it_can(picky: Setting, number: int) -> None:
    instance = picky.orthanc.store("a")
    picky.orthanc.trouble = Failed("GET", 500, number)
    picky.intake.take([instance], cursor=7)
    assert picky.rows(instance) == []
    assert [trouble["Part"] for trouble in picky.shared.troubles.show()] == ["sources"]
    picky.orthanc.trouble = None
    picky.compare()
    assert picky.rows(instance) == [("queued", None)]
    assert picky.shared.troubles.show() == []


@pytest.mark.parametrize(("status", "number"), [(500, 11), (500, None), (401, None), (500, 1006)])
def test_an_orthanc_that_is_ailing_is_waited_for(picky: Setting, status: int, number: int | None) -> None:
    picky.orthanc.trouble = Failed("GET", status, number)
    with pytest.raises(Failed):
        picky.intake.take([picky.orthanc.store("a")], cursor=7)
    with picky.store.read() as conn:
        assert meta.cursor(conn) != 7
