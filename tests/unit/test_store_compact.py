"""What is kept as bytes comes back as the same text, whatever it is, and two texts never become one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from orthanc_deid.store.compact import pack, unpack

hexadecimal = st.binary(min_size=1, max_size=32).map(bytes.hex)
uids = st.integers(min_value=0, max_value=1 << 129).map("2.25.{}".format)
orthanc_ids = st.binary(min_size=20, max_size=20).map(
    lambda data: "-".join(data.hex()[at : at + 8] for at in range(0, 40, 8))
)
odd = st.sampled_from(["", "A0", "a", "2.25.01", "2.25.", "2.25.340282366920938463463374607431768211456", "é", "\0"])
texts = st.one_of(hexadecimal, uids, orthanc_ids, st.uuids().map(str), odd, st.text(max_size=20))


@given(texts)
def test_a_text_comes_back_as_it_was(text: str) -> None:
    assert unpack(pack(text)) == text


@given(texts, texts)
def test_two_texts_stay_two(one: str, other: str) -> None:
    assert (pack(one) == pack(other)) == (one == other)


def test_what_the_ledger_is_full_of_is_short() -> None:
    lengths = {"ab" * 16: 17, "ab" * 32: 33, "2.25." + "9" * 38: 17, "-".join(["0123abcd"] * 5): 21}
    lengths["12345678-1234-4234-8234-123456789abc"] = 17
    assert {text: len(pack(text)) for text in lengths} == lengths


@given(st.integers(0, (1 << 128) - 1), st.integers(0, (1 << 128) - 1))
def test_uids_are_in_the_order_of_their_numbers(one: int, other: int) -> None:
    assert (pack(f"2.25.{one}") < pack(f"2.25.{other}")) == (one < other)
