"""The master key file is made once, for its owner alone, and never replaced; project keys are derived by RFC 5869."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import pickle
import stat
import threading
from pathlib import Path

import pytest
from orthanc_deid.errors import KeyFileError
from orthanc_deid.identity.keys import PURPOSES, MasterKey


def rfc5869(master: bytes, info: bytes) -> bytes:
    """HKDF-SHA-256 in its two steps, for one block of output."""
    extracted = hmac.new(b"\0" * 32, master, hashlib.sha256).digest()
    return hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_project_keys_are_hkdf_of_project_and_purpose() -> None:
    keys = MasterKey({1: bytes(range(32))}).project("lung")
    for purpose in PURPOSES:
        info = b"orthanc-deid v1" + b"\x00\x00\x00\x04lung" + purpose.encode()
        assert getattr(keys, purpose) == rfc5869(bytes(range(32)), info)


def test_no_two_projects_or_purposes_share_a_key() -> None:
    master = MasterKey.random()
    projects = [master.project(name) for name in ("lung", "lun", "brain", "lunguid")]
    derived = [getattr(keys, purpose) for keys in projects for purpose in PURPOSES]
    assert len(set(derived)) == len(derived)


def test_keys_show_nothing_when_printed() -> None:
    master = MasterKey({1: b"\x41" * 32})
    keys = master.project("lung")
    printed = repr(master) + repr(keys) + str(keys)
    assert "A" * 8 not in printed
    assert not any(repr(getattr(keys, purpose)) in printed for purpose in PURPOSES)


def test_project_keys_travel_to_worker_processes() -> None:
    keys = MasterKey.random().project("lung")
    assert pickle.loads(pickle.dumps(keys)) == keys


def test_file_is_created_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "master.key"
    old = os.umask(0)
    try:
        made = MasterKey.open(path, create=True)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    assert MasterKey.open(path).project("lung") == made.project("lung")
    assert MasterKey.open(path, create=True).project("lung") == made.project("lung")
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["master.key"]


def test_a_missing_file_is_not_made_anew_unless_asked(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="missing"):
        MasterKey.open(tmp_path / "master.key")
    assert not list(tmp_path.iterdir())


def test_processes_that_create_at_once_agree(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    start = threading.Barrier(8)
    seen: list[bytes] = []

    def create() -> None:
        start.wait(10)
        seen.append(MasterKey.open(path, create=True).project("lung").uid)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(seen) == 8
    assert len(set(seen)) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["master.key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "master.key"
    MasterKey.open(path, create=True)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match=f"{mode:04o}"):
        MasterKey.open(path)


def test_every_truncation_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    MasterKey.open(path, create=True)
    whole = path.read_bytes()
    for length in range(len(whole) - 1):  # the last byte is a line feed
        path.write_bytes(whole[:length])
        with pytest.raises(KeyFileError, match="truncated or damaged"):
            MasterKey.open(path)
        with pytest.raises(KeyFileError, match="truncated or damaged"):
            MasterKey.open(path, create=True)
    assert path.read_bytes() == whole[: len(whole) - 2]


def test_an_edited_key_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    MasterKey.open(path, create=True)
    document = json.loads(path.read_bytes())
    document["keys"]["1"] = MasterKey.random() and "A" * 43 + "="
    path.write_text(json.dumps(document))
    with pytest.raises(KeyFileError, match="damaged"):
        MasterKey.open(path)


def test_errors_do_not_tell_the_key(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    path.write_bytes(b"5ecre7" * 10)
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        MasterKey.open(path)
    assert "5ecre7" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_secret_of_64_hexadecimal_digits_serves_as_key(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("00" * 31 + "ff\n")
    path.chmod(0o400)
    assert MasterKey.open(path).project("lung") == MasterKey({1: b"\0" * 31 + b"\xff"}).project("lung")


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="cannot be read"):
        MasterKey.open(tmp_path)


def test_an_added_key_leaves_started_projects_alone(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    before = MasterKey.open(path, create=True)
    MasterKey.rotate(path)
    after = MasterKey.open(path)
    assert (before.current, after.current) == (1, 2)
    assert after.project("lung", before.current) == before.project("lung")
    assert after.project("lung").uid != before.project("lung").uid
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert after.fingerprint(1) == before.fingerprint(1) != after.fingerprint(2)
    with pytest.raises(KeyFileError, match="no key 2"):
        before.project("lung", 2)
