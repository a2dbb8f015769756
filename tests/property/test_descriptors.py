"""Cleaning of text, for any text: what must hold whatever is written."""

from __future__ import annotations

import csv
from functools import lru_cache

from hypothesis import example, given, settings
from hypothesis import strategies as st
from orthanc_deid.core import lexicon
from orthanc_deid.core.dates import Shift
from orthanc_deid.core.descriptors import NO_POLICY, clean_value
from orthanc_deid.core.text import decode, encode, readings
from orthanc_deid.core.values import NOTHING_KNOWN, Known

TAG = 0x0008103E
NOBODY = NOTHING_KNOWN.needles
LIMITS = {b"SH": 16, b"LO": 64, b"ST": 1024, b"CS": 16, b"AE": 16}
CHARSETS = [("ascii",), ("latin_1",), ("utf-8",), ("GB18030",), ("ascii", "iso2022_jp"), ("ascii", "euc_kr")]


@lru_cache(maxsize=1)
def plain_words() -> list[str]:
    """Words of the lists that name nobody, as they are written in descriptors."""
    found = set()
    for name in ("radiology", "vendors", "german", "french", "spanish", "italian", "dutch", "portuguese"):
        with (lexicon.FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            found |= {row["word"] for row in csv.DictReader(file) if not row["name"] and len(row["word"]) > 3}
    return sorted(word for word in found if lexicon.known(word) == lexicon.WORD and word.isalpha())


NAMES = ["Zorblatt", "Möritz", "Quimby-Feld", "Li", "Mark", "佐藤", "Ζορμπλατ", "O'Zork", "Wüst", "Head"]
PIECES = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(["CT", "Thorax", "Dr.", "Patient:", "ref by", "***", "1.0", "B30f", "3mm", "胸部", "J.", "12"]),
    st.sampled_from(["4711", "0221", "47788-12", "AB-0047.11", "2019-03-01", "17.4.1961", "20190301", "a@b.de", "0"]),
    st.text(max_size=6),
    st.integers(0, 10**9).map(str),
)
GLUE = st.sampled_from([" ", " ", " ", "", "-", "_", ", ", ".", "/", "\\", "\r\n", ": ", "^"])


@st.composite
def texts(draw) -> str:
    """Descriptors as people and machines write them, and worse."""
    return "".join(draw(PIECES) + draw(GLUE) for _ in range(draw(st.integers(0, 8))))


@st.composite
def subjects(draw) -> Known:
    """What is known of somebody."""
    values = {("name", draw(st.sampled_from(NAMES)) + "^" + draw(st.sampled_from(NAMES)))}
    values |= {("id", draw(st.sampled_from(["4711", "AB-004711", "19", "0815-4711-42"])))}
    values |= draw(st.sets(st.sampled_from([("date", "20190301"), ("date", "19610417"), ("phone", "0221 4778812")])))
    return Known(frozenset(values))


@settings(max_examples=200, deadline=None)
@given(texts(), subjects(), st.sampled_from([b"SH", b"LO", b"ST", b"LT", b"UT", b"UC"]))
def test_cleaning_a_cleaned_value_changes_nothing(text, known, vr):
    once = clean_value(vr, TAG, text.encode("utf-8", "replace"), ("utf-8",), known.needles, NO_POLICY, None)
    if once is not None:
        assert clean_value(vr, TAG, once, ("utf-8",), known.needles, NO_POLICY, None) is once


@settings(max_examples=200, deadline=None)
@given(
    texts(),
    subjects(),
    st.sampled_from([b"SH", b"LO", b"ST", b"UT", b"CS", b"AE", b"PN"]),
    st.sampled_from(CHARSETS),
    st.sampled_from([None, Shift(-700, 0, "keep", None), Shift(-1234, -4321, "shift", None)]),
)
def test_nothing_of_the_subject_is_left_and_the_length_is_legal(text, known, vr, charset, shift):
    value = encode(text, charset)
    if value is None:
        return
    made = clean_value(vr, TAG, value, charset, known.needles, NO_POLICY, shift)
    if made is None:
        return
    for reading in readings(made, charset):
        assert not known.needles.hit(reading.strip(" \0"), vr.decode(), TAG)
    if made is not value and vr in LIMITS:
        parts = [decode(made, charset)] if vr == b"ST" else decode(made, charset).split("\\")
        assert all(len(part) <= LIMITS[vr] for part in parts)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60), subjects(), st.sampled_from([b"LO", b"LT"]), st.sampled_from(CHARSETS))
def test_any_bytes_are_cleaned_without_an_error(value, known, vr, charset):
    made = clean_value(vr, TAG, value, charset, known.needles, NO_POLICY, None)
    if made is not None:
        for reading in readings(made, charset):
            assert not known.needles.hit(reading.strip(" \0"), vr.decode(), TAG)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_listed_words_come_back_bit_by_bit(data):
    words = data.draw(st.lists(st.sampled_from(plain_words()), min_size=1, max_size=7))
    written = [data.draw(st.sampled_from([str.lower, str.upper, str.title]))(word) for word in words]
    gaps = data.draw(st.lists(st.sampled_from([" ", "_", "-", "/", ", ", " x "]), min_size=7, max_size=7))
    value = "".join(word + gap for word, gap in zip(written, gaps, strict=False)).encode()
    assert clean_value(b"LO", TAG, value, ("utf-8",), NOBODY, NO_POLICY, None) is value


@settings(max_examples=150, deadline=None)
@given(texts(), st.text(alphabet="bcdfghjklmnpqrstvwxz", min_size=7, max_size=12))
def test_a_word_on_no_list_never_stays(text, name):
    value = f"{text} {name} {text}".encode("utf-8", "replace")
    made = clean_value(b"UT", TAG, value, ("utf-8",), NOBODY, NO_POLICY, None)
    assert made is None or name not in made.decode("utf-8", "replace")


@given(number=st.from_regex(r"[1-9][0-9]{4,14}", fullmatch=True))
@example(number="18152111")  # the year before what dates are moved from
@example(number="31272011")  # two days and no month
@example(number="201597143743")  # a date only with one-digit month and day
def test_long_numbers_never_stay_as_they_are(number):
    for shift in (None, Shift(days=-700, seconds=0, times="keep", zone=None)):
        made = clean_value(b"LO", TAG, f"lung {number}".encode(), ("ascii",), NOBODY, NO_POLICY, shift)
        assert made is None or number.encode() not in made
