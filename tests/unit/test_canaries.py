"""The sweep finds what it is there to find: in every spelling, in every reading, and by place."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import builders, raw
from tests.canaries import Canary, Index, Mint, leaks, of_person, sweep_tree

READINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda value: value,
    "lower case": bytes.lower,
    "UTF-16 little endian": lambda value: value.decode("latin-1").encode("utf-16-le"),
    "UTF-16 big endian": lambda value: value.decode("latin-1").encode("utf-16-be"),
    "byte pairs swapped": lambda value: raw.swap("OW", value + b" " * (len(value) % 2)),
    "reversed": lambda value: value[::-1],
    "zlib": zlib.compress,
    "gzip": gzip.compress,
}


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("kind", ["token", "uid", "date", "time", "text"])
@pytest.mark.parametrize("lead", [b"\1\2\3\4", b"\1\2\3\4\5"])
def test_every_kind_is_found_in_every_reading(reading: str, kind: str, lead: bytes) -> None:
    mint = Mint()
    for _ in range(5):
        mint.token("elsewhere")
    value = mint.text("here", "Zzyzxley of Ward") if kind == "text" else getattr(mint, kind)("here")
    assert [leak.canary.place for leak in leaks(lead + READINGS[reading](value.encode()) + b"\1\2", mint.made)] == [
        "here"
    ]


@pytest.mark.parametrize("spelling", ["1931-02-07", "07.02.1931", "07/02/1931", "02/07/1931", "1931.02.07", "07021931"])
def test_dates_are_found_in_other_spellings(spelling: str) -> None:
    assert leaks(b"on " + spelling.encode() + b".", [Canary("here", "19310207", "date")])


@pytest.mark.parametrize("codec", ["utf-8", "latin-1", "gb18030", "iso8859_2"])
def test_texts_are_found_in_other_character_sets(codec: str) -> None:
    assert leaks(b"PN " + "Bürömäkster".encode(codec), [Canary("here", "Bürömäkster")])


def test_texts_are_found_as_json_escapes_them() -> None:
    assert leaks(json.dumps({"name": "Bürömäkster"}).encode(), [Canary("here", "Bürömäkster")])


def test_short_texts_count_as_whole_words() -> None:
    assert leaks(b"id 4711.", [Canary("here", "4711")])
    assert not leaks(b"1.2.84711.5", [Canary("here", "4711")])


def test_a_deflated_file_is_looked_into() -> None:
    mint = Mint()
    dataset = builders.mr()
    dataset.ProtocolName = mint.token("protocol")
    data = builders.to_bytes(dataset, builders.NATIVE[3])
    assert mint.made[0].value.encode() not in data
    assert leaks(data, mint.made)


def test_in_much_the_same_is_found_as_in_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.canaries._WINDOW", 1000)  # so that texts stand across its borders, too
    rng = random.Random(3)
    texts = ("Brimvexton", "Zoë Ünlü", "4711", "Lane 5", "Qy", "never")
    known = [Canary(f"place {n}", text) for n, text in enumerate(texts)]
    index = Index(known)
    data = bytearray(rng.randbytes(1 << 18))
    for at in range(990, 100_000, 1003):
        text = rng.choice(known[:-1]).value.encode(rng.choice(("utf-8", "latin-1")))
        data[at : at + len(text) + 2] = b"/" + text + b"x" if rng.random() < 0.3 else b" " + text + b" "
    much = {(canary, at) for canary, at in index.find(bytes(data))}
    monkeypatch.setattr("tests.canaries._LARGE", 1 << 30)
    assert much == {(canary, at) for canary, at in index.find(bytes(data))}
    assert {canary for canary, _ in much} == set(known[:-1])


def test_nothing_is_found_where_nothing_is() -> None:
    mint = Mint()
    for vr in ("LO", "UI", "DA", "TM", "DT"):
        for _ in range(500):
            mint.value(vr, "nowhere")
    assert not leaks(builders.to_bytes(builders.ct(rows=128, columns=128)), mint.made)


def test_canaries_are_distinct_and_findable_by_the_ten_thousand() -> None:
    mint = Mint()
    body = b"\\".join(mint.value(vr, f"{vr} {n}") for n in range(3000) for vr in ("LO", "UI", "DA", "TM"))
    assert len({canary.value for canary in mint.made}) == len(mint.made) == 12_000
    assert len(leaks(body, Index(mint.made))) == 12_000


def test_a_tree_is_swept_with_its_file_names(tmp_path: Path) -> None:
    mint = Mint()
    inside, outside = mint.token("inside"), mint.token("name")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{outside}.dcm").write_bytes(b"\0" + inside.encode())
    assert {leak.canary.place for leak in sweep_tree(tmp_path, mint.made)} == {"inside", "name"}


def test_a_persons_values_are_found_in_her_own_object() -> None:
    origin = builders.origin(7)
    canaries = of_person(origin.person, origin)
    places = {leak.canary.place for leak in leaks(builders.to_bytes(builders.ct(origin, rows=8, columns=8)), canaries)}
    assert places == {canary.place for canary in canaries}
