"""A sealed value opens only with its key, in its place, and unchanged."""

from __future__ import annotations

import pytest
from orthanc_deid.errors import SealError
from orthanc_deid.identity.keys import MasterKey
from orthanc_deid.identity.seal import seal, unseal
from orthanc_deid.identity.vault import Vault

KEY = bytes(range(32))


def test_opens_to_what_was_sealed() -> None:
    for text in (b"", b"x", b"a sealed value" * 999):
        assert unseal(KEY, seal(KEY, text, b"place"), b"place") == text


def test_equal_values_look_different_each_time() -> None:
    assert seal(KEY, b"same", b"") != seal(KEY, b"same", b"")


def test_any_changed_byte_is_seen() -> None:
    sealed = seal(KEY, b"value", b"place")
    for position in range(len(sealed)):
        changed = bytearray(sealed)
        changed[position] ^= 1
        with pytest.raises(SealError):
            unseal(KEY, bytes(changed), b"place")
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            unseal(KEY, sealed[:length], b"place")


def test_opens_nowhere_else_and_with_no_other_key() -> None:
    sealed = seal(KEY, b"value", b"place")
    with pytest.raises(SealError):
        unseal(KEY, sealed, b"elsewhere")
    with pytest.raises(SealError):
        unseal(bytes(32), sealed, b"place")


def test_vault_finds_by_index_and_reads_by_seal() -> None:
    vault = Vault(MasterKey.random().project("lung"))
    ref = vault.ref("instance", "0123-4567")
    assert ref.index == vault.index("instance", "0123-4567")
    assert vault.open("instance", ref.sealed) == "0123-4567"
    assert len(ref.index) == 32
    assert b"0123" not in ref.sealed


def test_index_tells_kinds_values_and_projects_apart() -> None:
    master = MasterKey.random()
    lung, brain = Vault(master.project("lung")), Vault(master.project("brain"))
    indexes = [
        lung.index("instance", "a"),
        lung.index("instance", "b"),
        lung.index("series", "a"),
        brain.index("instance", "a"),
    ]
    assert len(set(indexes)) == 4


def test_a_sealed_value_opens_only_as_its_kind_in_its_project() -> None:
    master = MasterKey.random()
    lung = Vault(master.project("lung"))
    sealed = lung.ref("instance", "a").sealed
    with pytest.raises(SealError):
        lung.open("series", sealed)
    with pytest.raises(SealError):
        Vault(master.project("brain")).open("instance", sealed)
