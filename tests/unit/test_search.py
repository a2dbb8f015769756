"""The search of kept values: many numbers at once, many UIDs in many texts."""

from __future__ import annotations

import pytest
from orthanc_deid.core.actions import Kept, KeptValues
from orthanc_deid.core.search import find
from orthanc_deid.core.values import NOTHING_KNOWN, Known

NEEDLES = Known(frozenset({("name", "Vorxxander^Milda"), ("id", "PAT-778812")})).needles
UIDS = [f"1.2.826.0.1.3680043.10.9999.{number}" for number in range(5000)]


def one(value: bytes, place: int, vr: bytes = b"LO", tag: int = 0x00081030) -> Kept:
    return (0, place), tag, vr, value, ("iso8859",)


def kept(words: list[Kept] | None = None, binary: list[Kept] | None = None) -> KeptValues:
    return words or [], [], [], binary or []


def places(hits: list[Kept]) -> list[int]:
    return [hit[0][1] for hit in hits]


def test_the_one_binary_value_that_tells_is_found_among_many() -> None:
    values = [one(b"\0\0\x80\x3f" * 3, number, b"FL", 0x00191001) for number in range(200)]
    values[77] = one(b"Vorxxander ", 77, b"FL", 0x00191001)
    values[78] = one(b"V\0o\0r\0x\0x\0a\0n\0d\0e\0r\0", 78, b"FL", 0x00191001)
    assert places(find(kept(binary=values), NEEDLES, [])) == [77, 78]


@pytest.mark.parametrize(
    "text",
    [
        "Vorx\u200bxander",
        "Vorx\u00adxander",
        "Ｖｏｒｘｘａｎｄｅｒ",
        "Vórxxander",
        "Vo\u0301rxxander",
        "Mílda",
        "PAT-77\u200b8812",
    ],
)
def test_a_name_is_found_however_its_letters_are_made(text: str) -> None:
    value = (0, 1), 0x00181210, b"SH", text.encode(), ("utf-8",)
    assert find(kept([value]), NEEDLES, []) == [value]


def test_a_name_without_umlauts_is_found_with_them() -> None:
    value = (0, 1), 0x00181210, b"SH", "Müller".encode("latin-1"), ("iso8859",)
    assert find(kept([value]), Known(frozenset({("name", "Mueller^Milda")})).needles, []) == [value]
    assert find(kept([value]), Known(frozenset({("name", "Muller^Milda")})).needles, []) == [value]


@pytest.mark.parametrize("odd", [False, True])
def test_neighbours_do_not_make_up_a_value_between_them(odd: bool) -> None:
    parts = [b"xVorx", b"xander"] if odd else [b"Vorx", b"xander"]
    values = [one(part, number, b"OB", 0x00191001) for number, part in enumerate(parts)]
    assert find(kept(binary=values), NEEDLES, []) == []


def test_pairs_in_the_other_order_are_found_behind_values_of_odd_length() -> None:
    text = b"Vorxxander"
    swapped = bytes(text[index ^ 1] for index in range(len(text)))
    values = [one(b"abc", 0, b"OB", 0x00191001), one(swapped, 1, b"OB", 0x00191001), one(b"x", 2, b"OB", 0x00191001)]
    assert places(find(kept(binary=values), NEEDLES, [])) == [1]


def test_a_uid_of_the_source_is_found_in_the_text_that_holds_it() -> None:
    words = [one(f"measured in slice {number}".encode(), number) for number in range(500)]
    words[123] = one(f"see {UIDS[4321]}, please".encode(), 123)
    assert places(find(kept(words), NOTHING_KNOWN.needles, UIDS)) == [123]
    words[124] = one(b"see 12345678901 and 1.5", 124)
    assert places(find(kept(words), NOTHING_KNOWN.needles, UIDS)) == [123]


def test_a_uid_that_is_none_by_its_letters_is_found_too() -> None:
    words = [one(b"made of STUDY-77-Q", 0), one(b"made of 77", 1)]
    assert places(find(kept(words), NOTHING_KNOWN.needles, [*UIDS, "STUDY-77-Q"])) == [0]


def test_a_short_uid_is_not_looked_for() -> None:
    assert find(kept([one(b"1.2.3 of 4", 0)]), NOTHING_KNOWN.needles, ["1.2.3"]) == []
