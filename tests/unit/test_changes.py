"""What is read out of a page of the change log, and when it says that rows may be missing."""

from __future__ import annotations

from typing import Any

import pytest
from orthanc_deid.orthanc import changes
from orthanc_deid.orthanc.client import NotFound


class Rest:
    """Answers with what it was given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get_json(self, path: str, params: dict[str, Any] | None = None) -> Any:
        return self.answer


def log(*rows: tuple[int, str, str], last: int | None = None, done: bool = True) -> Rest:
    entries = [{"Seq": seq, "ChangeType": kind, "ID": name, "ResourceType": "x"} for seq, kind, name in rows]
    return Rest({"Changes": entries, "Last": rows[-1][0] if last is None else last, "Done": done})


def test_new_instances_in_order_and_once() -> None:
    rest = log((4, "NewInstance", "b"), (5, "NewSeries", "s"), (6, "NewInstance", "a"), (7, "NewInstance", "b"))
    page = changes.read(rest, 3)  # type: ignore[arg-type]
    assert page == changes.Page(("b", "a"), 7, gap=False, done=True)


@pytest.mark.parametrize(
    ("since", "sequences", "gap"),
    [
        pytest.param(0, (1, 2, 3), False, id="from the beginning"),
        pytest.param(3, (4, 5), False, id="goes on"),
        pytest.param(3, (5, 6), True, id="rows missing before"),
        pytest.param(3, (4, 6), True, id="rows missing between"),
        pytest.param(0, (7,), True, id="the beginning is missing"),
    ],
)
def test_a_gap_is_seen(since: int, sequences: tuple[int, ...], gap: bool) -> None:
    rest = log(*((n, "StableStudy", "x") for n in sequences))
    page = changes.read(rest, since)  # type: ignore[arg-type]
    assert (page.gap, page.cursor, page.instances) == (gap, sequences[-1], ())


@pytest.mark.parametrize(("since", "last", "gap"), [(9, 9, False), (9, 12, True), (9, 2, True), (0, 0, False)])
def test_an_empty_page_tells_whether_rows_were_removed_or_the_database_is_another(
    since: int, last: int, gap: bool
) -> None:
    page = changes.read(Rest({"Changes": [], "Last": last, "Done": True}), since)  # type: ignore[arg-type]
    assert (page.gap, page.cursor, page.done) == (gap, last, True)


def test_instances_that_are_gone_are_left_out_even_where_the_server_refuses_them_all() -> None:
    class Strict:
        def post_json(self, path: str, body: dict[str, Any]) -> Any:
            if "gone" in body["Resources"]:
                raise NotFound("gone", 404)
            return [{"ID": name, "ParentSeries": "s", "FileUuid": "u"} for name in body["Resources"]]

    found = changes.describe(Strict(), ["a", "b", "gone", "c", "d"])  # type: ignore[arg-type]
    assert sorted(found) == ["a", "b", "c", "d"]
    assert found["a"] == changes.Stored("a", "s", "u", "", "")


def test_only_texts_have_values() -> None:
    assert list(changes.values_of("CT \\MR\0")) == ["CT", "MR"]
    assert list(changes.values_of([{"0008,0060": "CT"}])) == []
