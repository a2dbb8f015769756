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


# An index that several Orthancs share


class Index:
    """A change log whose numbers are committed in any order."""

    def __init__(self) -> None:
        self.rows: dict[int, str] = {}
        self.asked: list[int] = []

    def get_json(self, path: str, params: dict[str, Any] | None = None) -> Any:
        if path == "/system":
            return {"DatabaseBackendPlugin": "libOrthancPostgreSQLIndex.so"}
        assert params is not None
        self.asked.append(params["since"])
        behind = sorted(number for number in self.rows if number > params["since"])
        page = behind[: params["limit"]]
        changes = [{"Seq": n, "ChangeType": "NewInstance", "ID": self.rows[n]} for n in page]
        return {"Changes": changes, "Last": max(self.rows, default=0), "Done": len(page) == len(behind)}


def test_what_is_committed_late_is_found_and_nothing_is_told_twice() -> None:
    index, now = Index(), [0.0]
    shared = changes.SharedLog(index, lambda: now[0])  # type: ignore[arg-type]
    index.rows = {1: "a", 2: "b", 5: "e"}
    assert shared.read(0) == changes.Page(("a", "b", "e"), 5, gap=False, done=True)
    index.rows |= {4: "d", 6: "f"}
    assert shared.read(5) == changes.Page(("d", "f"), 6, gap=False, done=True)
    now[0] = changes.MISSING_SECONDS - 1
    shared.taken()
    index.rows[3] = "c"
    assert shared.read(6) == changes.Page(("c",), 6, gap=False, done=True)
    shared.taken()
    index.asked.clear()
    assert shared.read(6) == changes.Page((), 6, gap=False, done=True)
    assert index.asked == [6], "nothing is missing any more"


def test_what_came_late_is_told_until_it_is_taken() -> None:
    index = Index()
    shared = changes.SharedLog(index)  # type: ignore[arg-type]
    index.rows = {1: "a", 3: "c"}
    assert shared.read(0).instances == ("a", "c")
    shared.taken()
    index.rows[2] = "b"
    assert shared.read(3).instances == ("b",)
    assert shared.read(3).instances == ("b",), "it did not get into the ledger"
    shared.taken()
    assert shared.read(3).instances == ()


def test_a_number_that_never_comes_is_not_looked_for_for_ever() -> None:
    index, now = Index(), [0.0]
    shared = changes.SharedLog(index, lambda: now[0])  # type: ignore[arg-type]
    index.rows = {1: "a", 3: "c"}
    shared.read(0)
    now[0] = changes.MISSING_SECONDS + 1
    shared.read(3)
    index.asked.clear()
    assert shared.read(3) == changes.Page((), 3, gap=False, done=True)
    assert index.asked == [3]


def test_who_begins_to_read_looks_at_what_came_before_the_cursor_too() -> None:
    index = Index()
    index.rows = {number: f"i{number}" for number in range(1, 2001) if number != 1500}
    shared = changes.SharedLog(index)  # type: ignore[arg-type]
    first = shared.read(2000)
    assert first.instances == tuple(f"i{number}" for number in range(1001, 2001) if number != 1500)
    shared.taken()
    assert shared.read(2000).instances == ()
    index.rows[1500] = "late"
    assert shared.read(2000).instances == ("late",)


def test_holes_that_lie_far_apart_are_all_looked_for() -> None:
    index = Index()
    holes = (10, 900, 1800)
    index.rows = {number: f"i{number}" for number in range(1, 2501) if number not in holes}
    shared = changes.SharedLog(index)  # type: ignore[arg-type]
    cursor, told = 0, []
    while not (page := shared.read(cursor)).done:
        cursor, told = page.cursor, [*told, *page.instances]
    assert len(told) + len(page.instances) == 2497
    index.rows |= {number: f"late{number}" for number in holes}
    assert shared.read(page.cursor).instances == ("late10", "late900", "late1800")


def test_another_database_than_the_one_that_was_read_is_a_gap() -> None:
    index = Index()
    index.rows = {1: "a"}
    page = changes.SharedLog(index).read(50)  # type: ignore[arg-type]
    assert (page.gap, page.cursor) == (True, 1)


def test_the_index_says_how_its_log_is_read() -> None:
    assert isinstance(changes.open_log(Index()), changes.SharedLog)  # type: ignore[arg-type]
    assert type(changes.open_log(Rest({"DatabaseBackendPlugin": None}))) is changes.Log  # type: ignore[arg-type]
