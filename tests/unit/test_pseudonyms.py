"""The subject key and what is derived from it are frozen, keyed and of the stated form."""

from __future__ import annotations

from pathlib import Path

import pytest
from orthanc_deid.core.errors import Quarantined
from orthanc_deid.identity import pseudonyms
from orthanc_deid.identity.keys import MasterKey

VECTORS = Path(__file__).with_name("subject_v1.txt")
MASTER = MasterKey({1: bytes(range(32))})


def vectors() -> list[list[str]]:
    lines = VECTORS.read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("row", vectors(), ids=lambda row: f"{row[0]}-{row[3][-8:]}")
def test_derived_values_are_the_frozen_ones(row: list[str]) -> None:
    project, domain, patient_id, subject_hex, index, name, days, seconds, uid_key = row
    keys = MASTER.project(project)
    subject = pseudonyms.subject_id(domain, patient_id)
    assert subject.hex() == subject_hex
    assert pseudonyms.subject_index(keys, subject) == index
    assert pseudonyms.pseudonym(keys, subject) == name
    assert pseudonyms.date_offset(keys, subject) == int(days)
    assert pseudonyms.time_offset(keys, subject) == int(seconds)
    assert keys.uid[:8].hex() == uid_key


def test_subject_id_is_written_as_documented() -> None:
    assert pseudonyms.subject_id("ab", "c") == b"\x01\x00\x00\x00\x02ab\x00\x00\x00\x01c"


def test_padding_and_composition_do_not_make_another_subject() -> None:
    plain = pseudonyms.subject_id("default", "Müller-7")
    for spelling in ("Müller-7 ", " Müller-7", "Mu\u0308ller-7", "Müller-7\0", "\u3000Müller-7\t"):
        assert pseudonyms.subject_id("default", spelling) == plain


def test_what_differs_is_another_subject() -> None:
    ids = [
        pseudonyms.subject_id(domain, patient)
        for domain, patient in [("d", "123"), ("d", "0123"), ("d", "12 3"), ("d1", "23"), ("d", "a1"), ("d", "A1")]
    ]
    assert len(set(ids)) == len(ids)


NOBODY = [
    *("", " ", "\0", "0", "000", "0000000000", "UNKNOWN", "unknown", " Unknown ", "ANONYMOUS", "NONE", "N/A", "na"),
    *("null", "X", "XXXX", "-", "?", "...", "*", "999999", "99999999999", "Anonymized", "deidentified"),
]


@pytest.mark.parametrize("patient_id", NOBODY)
def test_ids_that_stand_for_nobody_are_held(patient_id: str) -> None:
    with pytest.raises(Quarantined) as caught:
        pseudonyms.subject_id("default", patient_id)
    assert caught.value.reason == "identity-missing"
    assert caught.value.tag == 0x00100020
    assert caught.value.detail in ("no Patient ID", "the Patient ID is a placeholder")


@pytest.mark.parametrize(
    "patient_id", ["123", "1", "007", "100", "99", "99999", "X1", "NANCY", "0A", "1CT1", "May", "Null-7"]
)
def test_short_and_plain_ids_are_ids(patient_id: str) -> None:
    assert pseudonyms.subject_id("default", patient_id).endswith(patient_id.encode())


def test_an_id_that_does_not_decode_is_held() -> None:
    with pytest.raises(Quarantined, match="identity-missing"):
        pseudonyms.subject_id("default", "M\ufffdller")


def test_offsets_stay_in_their_ranges_and_use_them() -> None:
    keys = MASTER.project("lung")
    subjects = [pseudonyms.subject_id("default", f"P{number}") for number in range(5000)]
    days = [pseudonyms.date_offset(keys, subject) for subject in subjects]
    seconds = [pseudonyms.time_offset(keys, subject) for subject in subjects]
    assert -3650 <= min(days) < -3600
    assert -420 < max(days) <= -366
    assert -86399 <= min(seconds) < -86000
    assert -400 < max(seconds) <= -1


def test_pseudonyms_are_unlike_between_subjects_and_projects() -> None:
    names = {
        pseudonyms.pseudonym(MASTER.project(project), pseudonyms.subject_id("default", f"P{number}"))
        for project in ("lung", "brain")
        for number in range(1000)
    }
    assert len(names) == 2000
    assert {len(name) for name in names} == {16}
    assert set("".join(names)) == set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
