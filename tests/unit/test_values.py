"""Values of the subject: how they are harvested, spelled, searched for and judged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from orthanc_deid.core.values import Harvest, Known

MANUFACTURER, MODEL, KERNEL, MEANING = 0x00080070, 0x00081090, 0x00181210, 0x00080104


def known(*values: tuple[str, str]) -> Known:
    return Known(frozenset(values))


def hit(found: Known, text: str, vr: str = "LO", tag: int = MEANING) -> bool:
    return found.needles.hit(text, vr, tag)


@pytest.mark.parametrize(
    "text",
    [
        "Zzyzxson", "ZZYZXSON", "scan of zzyzxson, quentin", "xZzyzxsonx", "Quentin Z.", "zzyzxson^quentin",
        "QuentinZzyzxson",
    ],
)  # fmt: skip
def test_a_name_is_found_in_every_spelling(text: str) -> None:
    assert hit(known(("name", "Zzyzxson^Quentin")), text)


@pytest.mark.parametrize("text", ["Zzyz", "Quen", "CT CHEST", "", "son"])
def test_other_words_are_no_name(text: str) -> None:
    assert not hit(known(("name", "Zzyzxson^Quentin")), text)


@pytest.mark.parametrize(
    "text",
    [
        "19610704", "1961-07-04", "04.07.1961", "4.7.1961", "07/04/1961", "7/4/1961", "4 July 1961", "JUL 04, 1961",
        "4. July 1961", "04Jul1961", "born 1961/07/04.", "04.07.61", "7/4/61", "610704", "x19610704x",
    ],
)  # fmt: skip
def test_a_date_is_found_in_many_spellings(text: str) -> None:
    assert hit(known(("date", "19610704")), text)


@pytest.mark.parametrize("text", ["1961", "19610705", "July 1961", "2610704", "4.7.19610", "5.7.1961"])
def test_other_dates_are_not_found(text: str) -> None:
    assert not hit(known(("date", "19610704")), text)


@pytest.mark.parametrize("text", ["MRN-0012-3456", "00123456", "id 00123456.", "123456", "0012 3456", "00.12.34.56"])
def test_an_id_is_found_however_it_is_parted(text: str) -> None:
    assert hit(known(("id", "00123456")), text)


@pytest.mark.parametrize("text", ["17 Qzelm Lane", "lives at Qzelm Lane 17", "15 QZELM LANE", "Qzelm Lane"])
def test_a_street_is_found_whatever_its_house_number(text: str) -> None:
    assert hit(known(("phrase", "17 Qzelm Lane")), text)


@pytest.mark.parametrize("text", ["Radiology", "radiology 4", "Lane 17", "17"])
def test_a_single_word_before_a_number_is_no_street(text: str) -> None:
    assert not hit(known(("phrase", "Radiology 3"), ("phrase", "17 Qzelm Lane")), text)


def test_a_short_id_counts_as_a_whole_word_only() -> None:
    short = known(("id", "123"))
    assert hit(short, "patient 123")
    assert not hit(short, "version 1234")
    assert not hit(short, "123", "IS", 0x00200013)
    assert not hit(short, "123.0", "DS", 0x00180050)


def test_a_long_id_is_found_in_a_number() -> None:
    long = known(("id", "12345678"))
    assert hit(long, "12345678", "IS", 0x00200013)
    assert hit(long, "1\\12345678 ", "DS", 0x00180050)
    assert not hit(long, "0.12345678", "DS", 0x00180050)


def test_a_number_of_a_procedure_step_counts_as_a_whole_value_only() -> None:
    step = known(("step", "1"))
    assert hit(step, "1")
    assert hit(step, "A\\1")
    assert not hit(step, "version 1")


def test_words_at_home_in_an_attribute_are_no_name_there() -> None:
    philips = known(("name", "Philips^May"))
    assert not hit(philips, "Philips Medical Systems", tag=MANUFACTURER)
    assert hit(philips, "Philips Medical Systems", tag=KERNEL)
    assert hit(philips, "Philips May", tag=MANUFACTURER)
    assert not hit(known(("name", "Head^Ray")), "HEAD", "CS", 0x00180015)
    assert not hit(known(("name", "Head^Ray")), "X-Ray Tube", tag=MODEL)


@pytest.mark.parametrize(
    "name, text", [("Müller^Änne", "MULLER"), ("Müller^Änne", "mueller"), ("Müller^Änne", "MÜLLER")]
)
def test_letters_with_marks_are_found_without_them(name: str, text: str) -> None:
    assert hit(known(("name", name)), text)


def test_honorifics_and_initials_are_no_names() -> None:
    assert not hit(known(("name", "Zzyzxson^Q^^Dr^MD")), "DR Q MD")


def test_placeholders_are_not_searched_for() -> None:
    harvest = Harvest()
    harvest.raw += [("name", b"ANONYMOUS", ("ascii",)), ("id", b"", ("ascii",)), ("phrase", b"N/A", ("ascii",))]
    assert not harvest.known().values


def test_binary_is_searched_in_ascii_and_utf_16() -> None:
    name = known(("name", "Zzyzxson^Quentin"))
    assert name.needles.in_bytes(b"\1\2profile by Zzyzxson\0")
    assert name.needles.in_bytes("ZZYZXSON".encode("utf-16-le"))
    assert not name.needles.in_bytes(bytes(range(256)) * 40)


def test_the_fast_search_never_misses_what_the_judge_would_find() -> None:
    subject = known(
        ("name", "Zzyzxson^Li"), ("id", "00-12-34567"), ("date", "19610704"), ("phone", "+1 (555) 010-2030")
    )
    for text in ("li", "zzyzxson", "4.7.61", "001234567", "5550102030", "15550102030", "July 4, 1961", "00.12.34567"):
        assert hit(subject, text), text
        assert subject.needles.candidates(text.lower().encode()), text


@given(st.text(alphabet="zyx li1961-/.704", max_size=40))
def test_candidates_cover_hits(text: str) -> None:
    subject = known(("name", "Zyxzyx^Li"), ("date", "19610704"), ("id", "704-1961"))
    if hit(subject, text):
        assert subject.needles.candidates(text.encode())


def test_known_values_survive_sealing_and_hide_from_repr() -> None:
    one = known(("name", "Zzyzxson^Quentin"), ("date", "19610704"))
    assert Known.load(one.dump()) == one
    assert "Zzyzxson" not in repr(one)
    assert one.merge(known(("id", "77"))).values == one.values | {("id", "77")}


@pytest.mark.parametrize("kind", ["name", "id", "phrase", "phone", "step"])
@pytest.mark.parametrize("text", ["\u0301", "\u0301\u0308^\u0300", "e\u0301", "\u200b", "-", "="])
def test_a_value_of_accents_alone_is_found_nowhere(kind: str, text: str) -> None:
    needles = Known(frozenset({(kind, text)})).needles
    assert all(needle.text for needle in needles.all)
    assert not needles.hit("CHEST W CONTRAST", "LO", 0x00081030)
