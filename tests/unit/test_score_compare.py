"""The semantics of MIDI-B's ten actions, one by one."""

from __future__ import annotations

import hashlib

import pytest
from pydicom.dataset import Dataset

from benchmarks.score import compare
from benchmarks.score.key import Category, Check, index
from benchmarks.score.scorer import FAILED, NOT_APPLICABLE, Score, judge, score_one
from benchmarks.score.studies import patient_instances


def check(action: str, value: str = "", text: str = "", path: str = "<(0010,0010)>") -> Check:
    return Check(action, path, "Name", value, text, Category())


def passes(action: str, found: str | None, value: str = "", text: str = "", **maps: dict[str, str]) -> bool:
    dataset = Dataset()
    return judge(check(action, value, text), found, dataset, maps.get("uids", {}), maps.get("patients", {}))


@pytest.mark.parametrize(
    ("found", "wanted", "kept"),
    [
        ("CT CHEST W CONTRAST", "chest w contrast", True),  # substring, without case
        ("CT CHEST *** CONTRAST", "CHEST W CONTRAST", False),  # w is no stop word
        ("*** liver is normal", "The liver is normal", True),  # stop words do not count
        ("normal: liver", "liver normal", True),  # tokens in any order
        ("liver", "liver normal", False),  # all of them
        ("12", "12.0", True),  # numbers as numbers
        ("12", "12.5", False),
        ("120", "20", False),
        ("['1', '0']", "['1', '0']", True),
        ("***", "the", False),  # nothing but stop words needs the text itself
    ],
)
def test_retained(found: str, wanted: str, kept: bool) -> None:
    assert compare.retained(found, wanted) is kept


@pytest.mark.parametrize(
    ("found", "unwanted", "gone"),
    [
        ("CHEST for ***", "Grovay", True),
        ("CHEST for GROVAY", "Grovay", False),
        ("1261 AR 72223", "1261 Leafwood Street, Big Rock AR 72223", False),  # one token is enough to fail
        ("Big deal", "Big^Grovay", False),  # parts of a person's name are tokens
        ("the of", "Grovay of the Hill", True),  # stop words may stay
        ("4711", "4711.0", False),
        ("47112", "4711", True),  # another number
        ("id 47112", "4711", False),  # but a substring of a text
        ("", "Grovay", True),
    ],
)
def test_removed(found: str, unwanted: str, gone: bool) -> None:
    assert compare.removed(found, unwanted) is gone


def test_dates_and_uids_pass_when_the_original_is_no_substring_or_there_is_nothing() -> None:
    assert passes("date_shifted", "20110203", value="20120304")
    assert passes("date_shifted", None, value="20120304")
    assert not passes("date_shifted", "20120304101500", value="20120304")
    assert passes("uid_changed", "2.25.9", value="1.2.3")
    assert not passes("uid_changed", "1.2.3.4", value="1.2.3")


def test_tags_need_an_element_and_texts_a_value() -> None:
    assert passes("tag_retained", "") and not passes("tag_retained", None)
    assert passes("text_notnull", "x") and not passes("text_notnull", "") and not passes("text_notnull", None)
    assert not passes("text_retained", None, text="x") and not passes("text_retained", "", text="x")
    assert passes("text_removed", None, text="x")


def test_consistency_is_judged_by_the_mapping() -> None:
    uids = {"1.2.3": "2.25.9"}
    assert passes("uid_consistent", "2.25.9", value="1.2.3", uids=uids)
    assert passes("uid_consistent", None, value="1.2.3", uids=uids)
    assert not passes("uid_consistent", "2.25.8", value="1.2.3", uids=uids)
    assert not passes("uid_consistent", "", value="1.2.4", uids=uids)
    assert passes("patid_consistent", "SUBJ1", value="77", patients={"77": "SUBJ1"})
    assert not passes("patid_consistent", "SUBJ2", value="77", patients={"77": "SUBJ1"})
    assert not passes("patid_consistent", "SUBJ2", value="77")


def test_pixels_are_compared_as_the_bytes_that_they_are() -> None:
    dataset = Dataset()
    dataset.add_new(0x7FE00010, "OW", b"\1\2\3\4")
    wanted = check("pixels_retained", text=hashlib.md5(b"\1\2\3\4").hexdigest())
    assert judge(wanted, "", dataset, {}, {})
    dataset.PixelData = b"\1\2\3\5"
    assert not judge(wanted, "", dataset, {}, {})
    assert not judge(wanted, None, Dataset(), {}, {})


def test_an_instance_without_output_fails_unless_text_in_its_pixels_held_it() -> None:
    ultrasound = next(i for n in range(9) for i in patient_instances("held", n) if i.answer.modality == "US")
    score = score_one(ultrasound.answer, None, {}, {})
    assert score.held == {"US": 1} and not score.lost and score.total() == 0
    assert score.counts["pixels_hidden"][NOT_APPLICABLE] == 1, "never as passed"
    other = next(i for i in patient_instances("held", 0) if i.answer.modality != "US")
    score = score_one(other.answer, None, {}, {})
    assert score.lost == {other.answer.modality: 1} and score.passed() == 0
    assert sum(count[FAILED] for count in score.counts.values()) == len(other.answer.checks)


def test_nothing_scored_is_no_full_score() -> None:
    assert Score().percentage() == 0.0


def test_places_are_written_as_published() -> None:
    dataset, item = Dataset(), Dataset()
    item.ReferencedSOPInstanceUID = "1.2.3"
    dataset.ReferencedImageSequence = [Dataset(), item]
    dataset.private_block(0x0029, "Some Creator", create=True).add_new(0x08, "LO", "x")
    assert [place for place, _ in index(dataset)] == [
        "<(0008,1140)>",
        "<(0008,1140)>[<0001>]<(0008,1155)>",
        "<(0029,0010)>",
        '<(0029,"SOME CREATOR",08)>',
    ]
