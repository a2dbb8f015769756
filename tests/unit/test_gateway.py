"""The plugin's side of gateway mode: what it stores, what it spools, and that every accident is a refusal."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pydicom
import pytest
from orthanc_deid import gateway
from orthanc_deid.gateway import Gateway
from orthanc_deid.orthanc import changes
from orthanc_deid.orthanc.push import orthanc_ids

from tests.orthancs import until


class Actions:
    """As orthanc.ReceivedInstanceAction."""

    KEEP_AS_IS, MODIFY, DISCARD = 1, 2, 3


class Origins:
    """As orthanc.InstanceOrigin."""

    UNKNOWN, DICOM_PROTOCOL, REST_API, PLUGIN = 1, 2, 3, 4


CLOSED = (Actions.MODIFY, b"")
DISCARDED = (Actions.DISCARD, None)
KEPT = (Actions.KEEP_AS_IS, None)
DATA = b"an original" * 100


class Instance:
    """What Orthanc hands to its filter."""

    def __init__(self, size: int) -> None:
        self.size = size

    def GetInstanceSize(self) -> int:
        """Its size."""
        return self.size


class Case:
    """A gateway, with what it has told."""

    def __init__(self, folder: Path, **changes_: Any) -> None:
        settings = {"Spool": str(folder), "MaximumSize": 1 << 30, "MinimumFree": 0, "Titles": False, **changes_}
        self.nudges = 0
        self.warnings: list[str] = []
        self.gateway = Gateway(settings, Actions, Origins, self.nudge, self.warnings.append)
        self.folder = folder

    def nudge(self) -> None:
        """The service is told."""
        self.nudges += 1

    def files(self, part: str) -> list[bytes]:
        """What lies in a part of the spool."""
        return [path.read_bytes() for path in (self.folder / part).iterdir()]

    def all_files(self) -> list[Path]:
        """Every file of the spool but the announcements."""
        return [path for part in gateway.HOLDING for path in (self.folder / part).iterdir()]


@pytest.fixture
def case(tmp_path: Path) -> Case:
    """A gateway with a spool of its own."""
    return Case(tmp_path / "spool")


def test_it_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse(Path(gateway.__file__).read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("origin", [0, 1, 2, 3, 4, 5, 6])
def test_what_comes_is_spooled_and_discarded_wherever_it_comes_from(case: Case, origin: int) -> None:
    assert case.gateway.received(DATA, origin) == DISCARDED
    assert case.files(gateway.NEW) == [DATA]
    assert case.nudges == 1
    (path,) = case.all_files()
    assert len(path.name) == 32 and int(path.name, 16)
    assert path.stat().st_mode & 0o777 == 0o600
    assert all((case.folder / part).stat().st_mode & 0o777 == 0o700 for part in (*gateway.HOLDING, "."))


def test_a_file_is_on_the_disk_before_it_is_discarded(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(Path(f"/proc/self/fd/{fd}").readlink().name), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append("rename"), rename(a, b)))
    assert case.gateway.received(DATA, 2) == DISCARDED
    (path,) = case.all_files()
    assert done == [path.name, "rename", gateway.NEW]


def test_announced_bytes_are_stored_once_and_only_by_rest(case: Case) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    with gateway.announced(case.folder, digest):
        assert case.gateway.received(b"other bytes", 3) == DISCARDED
        assert case.gateway.received(DATA, 2) == DISCARDED, "we never send by DICOM"
        assert case.gateway.received(DATA, 3) == KEPT
        assert case.gateway.received(DATA, 3) == DISCARDED, "single use"
    assert sorted(case.files(gateway.NEW)) == sorted([b"other bytes", DATA, DATA])
    with gateway.announced(case.folder, digest):
        assert case.gateway.received(DATA, 3) == KEPT
    with gateway.announced(case.folder, digest):
        pass
    assert case.gateway.received(DATA, 3) == DISCARDED, "not after its time"


def test_an_announcement_expires(case: Case) -> None:
    digest = hashlib.sha256(DATA).hexdigest()
    with gateway.announced(case.folder, digest):
        os.utime(case.folder / gateway.ANNOUNCED / digest, (1e9, 1e9))
        assert case.gateway.received(DATA, 3) == DISCARDED
        assert not list((case.folder / gateway.ANNOUNCED).iterdir())
    (case.folder / gateway.ANNOUNCED / digest).touch()
    Case(case.folder)
    assert case.gateway.received(DATA, 3) == DISCARDED, "a new start knows no old announcement"


ACCIDENTS = [ValueError, OSError, MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit, RecursionError]


@pytest.mark.parametrize("error", ACCIDENTS)
@pytest.mark.parametrize(
    "where", ["statvfs", "open", "write", "fsync", "close", "rename", "scandir", "unlink", "token", "sha256", "nudge"]
)
def test_every_accident_is_a_refusal(
    case: Case, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], where: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    (case.folder / gateway.ANNOUNCED / hashlib.sha256(DATA).hexdigest()).touch()
    with monkeypatch.context() as patch:
        if where == "token":
            patch.setattr(gateway.secrets, "token_hex", fail)
        elif where == "sha256":
            patch.setattr(gateway.hashlib, "sha256", fail)
        elif where == "nudge":
            patch.setattr(case.gateway, "_nudge", fail)
        else:
            patch.setattr(gateway.os, where, fail)
        origin = 3 if where in ("scandir", "unlink", "sha256") else 2
        answer = case.gateway.received(DATA, origin)
    assert answer == CLOSED
    assert case.gateway.health()["Refused"] == 1
    # What is left over is complete, or will be removed at the next start; the same sent again is recognised.
    assert all(data == DATA for data in case.files(gateway.NEW))
    assert case.gateway.received(DATA, 2) == DISCARDED


@pytest.mark.parametrize("data", [None, "text", 3, bytearray(b"x"), b"", memoryview(b"x")])
def test_what_is_no_instance_is_refused(case: Case, data: Any) -> None:
    assert case.gateway.received(data, 2) == CLOSED
    assert not case.all_files()


@pytest.mark.parametrize("origin", [None, "DICOM", object()])
def test_an_origin_that_is_none_is_refused(case: Case, origin: Any) -> None:
    assert case.gateway.received(DATA, origin) == CLOSED


def test_a_refusal_needs_nothing_that_can_fail(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(case.gateway, "_take", fail)
    monkeypatch.setattr(case.gateway, "_count", fail)
    assert case.gateway.received(DATA, 2) == CLOSED


def test_a_missing_spool_refuses_and_is_not_made_again(case: Case) -> None:
    moved = case.folder.rename(case.folder.parent / "elsewhere")
    assert case.gateway.received(DATA, 2) == CLOSED
    assert not case.folder.exists()
    moved.rename(case.folder)
    assert case.gateway.received(DATA, 2) == DISCARDED


def test_a_spool_that_cannot_be_made_keeps_orthanc_from_starting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="Not a directory"):
        Case(tmp_path / "file" / "spool")


def test_a_full_spool_refuses_until_there_is_room(tmp_path: Path) -> None:
    case = Case(tmp_path / "spool", MaximumSize=2500)
    assert [case.gateway.received(DATA, 2) for _ in range(3)] == [DISCARDED, DISCARDED, CLOSED]
    case.all_files()[0].unlink()
    case.gateway.measure()
    assert case.gateway.received(DATA, 2) == DISCARDED
    assert case.gateway.health() == {"Used": 2200, "MaximumSize": 2500, "Refused": 1, "LastRefusal": ""}


def test_what_was_there_before_counts(tmp_path: Path) -> None:
    Case(tmp_path / "spool").gateway.received(DATA, 2)
    case = Case(tmp_path / "spool", MaximumSize=2000)
    assert case.gateway.received(DATA, 2) == CLOSED


def test_a_disk_with_too_little_room_refuses(tmp_path: Path) -> None:
    case = Case(tmp_path / "spool", MinimumFree=1 << 60)
    assert case.gateway.received(DATA, 2) == CLOSED
    assert not case.all_files()


def test_refusals_are_told_to_the_log_and_the_service(tmp_path: Path) -> None:
    case = Case(tmp_path / "spool", MaximumSize=1)
    case.gateway.start()
    try:
        assert case.gateway.received(DATA, 2) == CLOSED
        told = case.folder / gateway.STATE
        state = until(lambda: told.exists() and (json.loads(told.read_text()) or {}), 10, "the account")
        until(lambda: json.loads(told.read_text())["Refused"] == 1, 10, "the refusal")
        state = json.loads(told.read_text())
        assert state == {"Used": 0, "MaximumSize": 1, "Refused": 1, "LastRefusal": "full"}
        assert case.warnings == ["gateway mode has refused 1 instances since the start: full"]
    finally:
        case.gateway.stop()


def test_several_senders_at_once_are_all_kept(case: Case) -> None:
    files = [os.urandom(1000) for _ in range(60)]

    def send(part: list[bytes]) -> None:
        for data in part:
            assert case.gateway.received(data, 2) == DISCARDED

    threads = [threading.Thread(target=send, args=[files[n::4]]) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(case.files(gateway.NEW)) == sorted(files)
    assert case.gateway.health()["Used"] == 60_000


# AE titles


def test_where_rules_ask_for_titles_orthanc_gets_a_placeholder(tmp_path: Path) -> None:
    case = Case(tmp_path / "spool", Titles=True)
    action, data = case.gateway.received(DATA, Origins.DICOM_PROTOCOL)
    assert action == Actions.MODIFY and data
    (name,) = [path.name for path in (case.folder / gateway.WAITING).iterdir()]
    dataset = pydicom.dcmread(io.BytesIO(data))
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == gateway.placeholder_uid(name)
    assert len(data) < gateway.PLACEHOLDER_BYTES
    ids = orthanc_ids(dataset.PatientID, dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.SOPInstanceUID)
    assert ids[1:] == (changes.PLACEHOLDERS, changes.placeholder_id(name))
    assert case.gateway.by_dicom(Instance(len(data))) == 0
    assert case.gateway.received(DATA, Origins.REST_API) == DISCARDED, "there are no titles by REST"


def test_what_the_callback_was_passed_over_for_is_refused(tmp_path: Path) -> None:
    case = Case(tmp_path / "spool", Titles=True)
    assert case.gateway.by_dicom(Instance(500)) == 0xA700
    _, data = case.gateway.received(DATA, Origins.DICOM_PROTOCOL)
    assert case.gateway.by_dicom(Instance(len(DATA) + 5000)) == 0xA700, "not the placeholder"
    assert case.gateway.by_dicom(Instance(len(data or b""))) == 0xA700, "once"
    case.gateway.received(DATA, Origins.DICOM_PROTOCOL)
    answers: list[int] = []
    other = threading.Thread(target=lambda: answers.append(case.gateway.by_dicom(Instance(500))))
    other.start()
    other.join()
    assert answers == [0xA700], "another association"
    assert case.gateway.by_dicom(None) == 0xA700
    assert case.gateway.health()["Refused"] >= 3
