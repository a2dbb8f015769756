"""UIDs by key."""

from __future__ import annotations

import hashlib
import hmac
import uuid

from hypothesis import given
from hypothesis import strategies as st
from orthanc_deid.core.uids import map_uid

KEY = bytes(range(32))


def test_a_mapped_uid_is_a_uuid_of_version_8_from_the_hmac() -> None:
    mapped = map_uid(KEY, "1.2.3.4")
    made = uuid.UUID(int=int(mapped.removeprefix("2.25.")))
    assert made.version == 8 and made.variant == uuid.RFC_4122
    expected = bytearray(hmac.new(KEY, b"1.2.3.4", hashlib.sha256).digest()[:16])
    expected[6] = expected[6] & 0x0F | 0x80
    expected[8] = expected[8] & 0x3F | 0x80
    assert made.bytes == bytes(expected)


def test_the_mapping_is_frozen() -> None:
    assert map_uid(KEY, "1.2.840.113619.2.1") == "2.25.340249535072035881261692664883877953758"


@given(st.lists(st.from_regex(r"[0-2](\.(0|[1-9][0-9]{0,8})){1,9}", fullmatch=True), unique=True, max_size=30))
def test_mapping_is_injective_and_short(uids: list[str]) -> None:
    mapped = [map_uid(KEY, uid) for uid in uids]
    assert len(set(mapped)) == len(uids)
    assert all(len(uid) <= 44 for uid in mapped)


def test_another_key_gives_another_uid() -> None:
    assert map_uid(KEY, "1.2.3") != map_uid(bytes(32), "1.2.3")
