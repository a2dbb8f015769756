"""Properties of what is derived, for any patient id: equal for equal ids, apart for others, and within the forms."""

from __future__ import annotations

import re
import unicodedata

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from orthanc_deid.core.errors import Quarantined
from orthanc_deid.identity import pseudonyms
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.identity.seal import seal, unseal
from orthanc_deid.identity.subjects import identity_of, link, subject_index_of

KEYS = MasterKey({1: bytes(range(32))}).project("lung")
OTHER = MasterKey({1: bytes(range(32))}).project("brain")
IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
WORDS = st.text("abcXYZ0189-_ ", min_size=1, max_size=12)


def subject(patient_id: str, domain: str = "default") -> bytes | None:
    try:
        return pseudonyms.subject_id(domain, patient_id)
    except Quarantined as error:
        assert error.reason == "identity-missing"
        return None


@given(IDS)
def test_an_id_is_held_or_becomes_one_subject_however_it_is_written(patient_id: str) -> None:
    plain = subject(patient_id)
    composed, apart = (unicodedata.normalize(form, patient_id) for form in ("NFC", "NFD"))
    for spelling in (f" {patient_id}\0", composed, apart):
        assert subject(spelling) == plain


@given(IDS, IDS, WORDS, WORDS)
def test_subjects_are_equal_only_for_equal_domain_and_id(one: str, two: str, here: str, there: str) -> None:
    first, second = subject(one, here), subject(two, there)
    assume(first is not None and second is not None)
    texts = [tuple(pseudonyms.canonical(text) for text in pair) for pair in ((here, one), (there, two))]
    assert (first == second) is (texts[0] == texts[1])


@given(IDS)
def test_derived_values_have_their_forms(patient_id: str) -> None:
    key = subject(patient_id)
    assume(key is not None)
    assert key is not None
    identity = identity_of(KEYS, "default", patient_id)
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{16}", identity.subject.pseudonym)
    assert -3650 <= identity.subject.date_offset <= -366
    assert -86399 <= identity.subject.time_offset <= -1
    assert identity.seen.index == subject_index_of(KEYS, "default", patient_id)
    assert re.fullmatch("[0-9a-f]{32}", identity.seen.index)
    assert link(KEYS, identity.seen.sealed) == ("default", patient_id)
    other = identity_of(OTHER, "default", patient_id)
    assert other.subject.pseudonym != identity.subject.pseudonym
    assert other.seen.index != identity.seen.index
    assert other.subject.uid_key != identity.subject.uid_key


@given(st.dates(), st.sampled_from("MFO"), WORDS)
def test_hashes_tell_birth_date_and_sex_apart_and_nothing_else(birth: object, sex: str, patient_id: str) -> None:
    assume(subject(patient_id) is not None)
    written = str(birth).replace("-", "")
    seen = identity_of(KEYS, "default", patient_id, written, sex).seen
    same = identity_of(KEYS, "default", patient_id, str(birth).replace("-", "."), f"{sex.lower()} ").seen
    assert (same.birth_hash, same.sex_hash) == (seen.birth_hash, seen.sex_hash)
    assert seen.birth_hash not in (None, seen.sex_hash)
    assert identity_of(KEYS, "default", f"{patient_id}7", written, sex).seen.birth_hash != seen.birth_hash
    assert identity_of(KEYS, "default", patient_id, "", "U").seen.sex_hash is None


@given(st.binary(max_size=2000), st.binary(max_size=50))
@settings(max_examples=50)
def test_what_is_sealed_opens_in_its_place(data: bytes, place: bytes) -> None:
    sealed = seal(KEYS.seal, data, place)
    assert unseal(KEYS.seal, sealed, place) == data
    assert len(data) < 8 or data not in sealed
