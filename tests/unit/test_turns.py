"""Whose turn it is: what is fresh first, the rest in the order it came, and never more than may wait."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from orthanc_deid.pipeline.turns import Turns
from orthanc_deid.store.rows import BACKFILL, CATCH_UP, FRESH

PRIORITIES = st.sampled_from([FRESH, CATCH_UP, BACKFILL])


def drain(turns: Turns) -> list[str]:
    order = []
    while (name := turns.next([])) is not None:
        turns.take(name)
        order.append(name[0])
    return order


def test_the_best_priority_goes_first_and_who_asks_again_with_a_better_one_moves_up() -> None:
    turns = Turns(4, 2, 100)
    for name, priority in (("a", BACKFILL), ("b", FRESH), ("c", CATCH_UP), ("d", BACKFILL), ("e", FRESH)):
        assert turns.add((name,), priority)
    turns.add(("d",), FRESH)
    turns.add(("b",), BACKFILL)
    assert drain(turns) == ["b", "e", "d", "c", "a"]
    assert len(turns) == 0


def test_what_is_not_fresh_leaves_places_free() -> None:
    turns = Turns(4, 2, 100)
    turns.add(("old",), BACKFILL)
    assert turns.next([FRESH, FRESH, BACKFILL]) == ("old",)
    assert turns.next([BACKFILL, CATCH_UP]) is None
    turns.add(("new",), FRESH)
    assert turns.next([BACKFILL, CATCH_UP]) == ("new",)
    assert turns.next([BACKFILL, CATCH_UP], but={("new",)}) is None
    assert turns.next([BACKFILL, CATCH_UP, FRESH, FRESH]) is None


@given(st.lists(st.tuples(st.integers(0, 30), PRIORITIES), max_size=100))
def test_never_more_wait_than_may_and_only_the_least_urgent_are_sent_away(asked: list[tuple[int, int]]) -> None:
    turns = Turns(1, 1, 5)
    best: dict[str, int] = {}
    for number, priority in asked:
        turns.add((str(number),), priority)
        best[str(number)] = min(priority, best.get(str(number), priority))
        assert len(turns) <= 5
    order = drain(turns)
    assert len(order) == len(set(order)) == min(5, len(best))
    # A fresh one is sent away only where five fresh ones wait.
    fresh = [name for name, priority in best.items() if priority == FRESH]
    assert sum(best[name] == FRESH for name in order) == min(5, len(fresh))
