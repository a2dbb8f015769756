"""An outcome is given up only for a source that is there: gone, or overwritten, it stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from orthanc_deid.pipeline.recall import Begun, Recalls
from orthanc_deid.store import ledger, recalls

from tests.ledgers import output
from tests.unit.test_intake import PROJECT, Setting

STUDY = output("a").study


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    """Three instances of a study that were confirmed."""
    setting = Setting(tmp_path)
    instances = [setting.orthanc.store(name) for name in "abc"]
    setting.compare()
    for instance in instances:
        setting.finish(instance, "confirmed")
    yield setting
    setting.intake._readers.shutdown()
    setting.store.close()


def orders(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> Recalls:
    """What takes orders, over a profile that has changed."""
    monkeypatch.setattr(Recalls, "_plans", lambda *_: {"another plan"})
    return Recalls(setting.shared, cast(Any, None))


def states(setting: Setting) -> list[tuple[str, ...]]:
    """The states of each instance's rows."""
    return [tuple(state for state, _ in setting.rows(instance)) for instance in setting.orthanc.files]


@pytest.mark.parametrize("order", ["replace", "resend"])
def test_what_other_content_has_taken_the_place_of_keeps_its_outcome(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    setting.orthanc.store("a", "other")
    setting.compare()
    assert states(setting) == [("confirmed", "quarantined"), ("confirmed",), ("confirmed",)]
    setting.orthanc.store("b")  # the same again, in another file
    assert getattr(orders(setting, monkeypatch), order)(PROJECT, STUDY) == Begun(2, 1)
    assert states(setting) == [("confirmed", "quarantined"), ("queued",), ("queued",)]


def test_only_other_files_are_compared(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    setting.orthanc.store("b")
    setting.orthanc.asked.clear()
    assert orders(setting, monkeypatch).replace(PROJECT, STUDY) == Begun(3, 0)
    assert setting.orthanc.asked["md5"] == 1


@pytest.mark.parametrize("source", ["there", "gone", "overwritten", "of no project"])
def test_a_conflict_is_left_where_the_output_could_not_be_made_again(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    instance = setting.orthanc.store("d")
    setting.compare()
    setting.finish(instance, "conflict")
    index = setting.shared.vaults[PROJECT].index("instance", instance)
    with setting.store.read() as conn:
        (row,) = ledger.find(conn, PROJECT, index)
    if source == "gone":
        del setting.orthanc.files[instance]
    elif source == "overwritten":
        setting.orthanc.store("d", "other")
    elif source == "of no project":
        setting.shared.config.projects.clear()
    done = orders(setting, monkeypatch).replace_conflict(row.id)
    assert done == (source == "there")
    with setting.store.read() as conn:
        assert len(recalls.due(conn, 200.0)) == done, "nothing is deleted there for nothing"
    assert setting.rows(instance) == [("released", None) if done else ("conflict", "conflict")]
    assert not orders(setting, monkeypatch).replace_conflict(4711)
