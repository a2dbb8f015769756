"""A folder as receiver: what it writes where, what it never overwrites, and where no link leads it."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from orthanc_deid.send import below, names
from orthanc_deid.send.base import Gone, Reply
from orthanc_deid.send.folder import FolderSender
from orthanc_deid.store.rows import ToSend

from tests import builders
from tests.builders import Origin, person


def output(folder: Path, study: int = 1, series: int = 1, instance: int = 1, **changes: Any) -> tuple[Path, ToSend]:
    """A file as an output is, and the delivery of it."""
    dataset = builders.ct(Origin(person(1), study, series, instance), rows=8, columns=8)
    dataset.PatientID = "0ABC"
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    data = builders.to_bytes(dataset)
    path = folder / f"{study}-{series}-{instance}.dcm"
    path.write_bytes(data)
    return path, ToSend(
        id=1, ledger_id=instance, project="p", destination="folder:f", out_study=dataset.StudyInstanceUID,
        out_series=dataset.SeriesInstanceUID, out_sop=dataset.SOPInstanceUID, out_orthanc_id="x",
        out_digest=hashlib.sha256(data).hexdigest(), out_size=len(data), attempts=1, history="never",
        out_patient="0ABC",
    )  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != below.LOCK)


def test_files_are_named_by_pseudonym_and_uids(tmp_path: Path, root: Path) -> None:
    path, one = output(tmp_path)
    sender = FolderSender(root)
    assert sender.alive()
    assert sender.send(path, one) == (Reply.STORED, True)
    (name,) = files(root)
    assert name == f"0ABC/{one.out_study}/{one.out_series}/{one.out_sop}.dcm"
    assert (root / name).read_bytes() == path.read_bytes()
    assert sender.send(path, one)[0] is Reply.STORED, "the same bytes under the same name are there already"
    assert files(root) == [name]


def test_other_content_is_a_conflict_and_stays(tmp_path: Path, root: Path) -> None:
    path, one = output(tmp_path)
    sender = FolderSender(root)
    sender.send(path, one)
    held = root / files(root)[0]
    held.write_bytes(b"somebody else's")
    assert sender.send(path, one)[0] is Reply.OTHER
    assert held.read_bytes() == b"somebody else's"


def test_what_a_crash_has_left_is_written_over_and_does_not_stay(tmp_path: Path, root: Path) -> None:
    path, one = output(tmp_path)
    folder = root / "0ABC" / one.out_study / one.out_series
    folder.mkdir(parents=True)
    (folder / f".{one.out_sop}.dcm.part").write_bytes(b"half" * 100_000)
    assert FolderSender(root).send(path, one)[0] is Reply.STORED
    assert len(files(root)) == 1
    assert (root / files(root)[0]).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("place", ["patient", "study", "file"])
def test_no_link_leads_out_of_the_folder(tmp_path: Path, root: Path, place: str) -> None:
    path, one = output(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    series = root / "0ABC" / one.out_study / one.out_series
    link = {"patient": root / "0ABC", "study": root / "0ABC" / one.out_study, "file": series / f"{one.out_sop}.dcm"}[
        place
    ]
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside if place != "file" else outside / "target")
    assert FolderSender(root).send(path, one) == (Reply.ASTRAY, False)
    assert list(outside.iterdir()) == []


def test_a_missing_a_full_and_a_read_only_disk_are_down(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, one = output(tmp_path)
    missing = FolderSender(tmp_path / "not-mounted")
    assert missing.send(path, one)[0] is Reply.DOWN
    assert not missing.alive()
    assert not (tmp_path / "not-mounted").exists(), "it is never made: the disk may come back"

    def fails(number: int) -> Any:
        def fsync(_: int) -> None:
            raise OSError(number, os.strerror(number))

        return fsync

    sender = FolderSender(root)
    for number, reply in ((errno.ENOSPC, Reply.NO_ROOM), (errno.EROFS, Reply.DOWN), (errno.EIO, Reply.DOWN)):
        with monkeypatch.context() as patched:
            patched.setattr(below.os, "fsync", fails(number))
            assert sender.send(path, one)[0] is reply
        assert files(root) == [], "nothing half-written stays"
    assert sender.send(path, one)[0] is Reply.STORED


def test_a_bids_tree_and_its_lists(tmp_path: Path, root: Path) -> None:
    sender = FolderSender(root, "bids")
    first = output(tmp_path, 1, 1, 1, StudyDate="20110203", StudyTime="040506")
    second = output(tmp_path, 2, 1, 1, StudyDate="", StudyTime="")
    for path, one in (first, second, first):
        assert sender.send(path, one)[0] is Reply.STORED
    sessions = [names.session(one.out_study) for _, one in (first, second)]
    assert len(set(sessions)) == 2
    series = names.acquisition("1", "CT", first[1].out_series)
    assert (root / "sourcedata/sub-0ABC" / sessions[0] / series / f"{first[1].out_sop}.dcm").exists()
    for part in (*sessions, "sub-0ABC"):
        assert part.split("-")[1].isalnum()
    assert (root / "participants.tsv").read_text() == "participant_id\nsub-0ABC\n"
    table = (root / "sub-0ABC/sub-0ABC_sessions.tsv").read_text().splitlines()
    assert table[0] == "session_id\tacq_time"
    assert sorted(table[1:]) == sorted([f"{sessions[0]}\t2011-02-03T04:05:06", f"{sessions[1]}\tn/a"])
    assert json.loads((root / "dataset_description.json").read_text())["BIDSVersion"]


def test_what_others_wrote_into_the_lists_stays(tmp_path: Path, root: Path) -> None:
    (root / "participants.tsv").write_text("participant_id\tage\nsub-other\t041\n")
    (root / "dataset_description.json").write_text('{"Name": "ours"}')
    path, one = output(tmp_path)
    FolderSender(root, "bids").send(path, one)
    assert (root / "participants.tsv").read_text() == "participant_id\tage\nsub-0ABC\tn/a\nsub-other\t041\n"
    assert json.loads((root / "dataset_description.json").read_text()) == {"Name": "ours"}


def test_a_later_study_renames_nothing(tmp_path: Path, root: Path) -> None:
    sender = FolderSender(root, "bids")
    sender.send(*output(tmp_path, 2, 1, 1, StudyDate="20120101"))
    before = set(files(root))
    sender.send(*output(tmp_path, 1, 1, 1, StudyDate="20100101"))
    assert before <= set(files(root))


def test_two_series_of_one_number_keep_apart(tmp_path: Path, root: Path) -> None:
    sender = FolderSender(root, "bids")
    for series in (1, 2):
        sender.send(*output(tmp_path, 1, series, 1, SeriesNumber="3"))
    folders = {Path(name).parent.name for name in files(root) if name.endswith(".dcm")}
    assert len(folders) == 2 and all(name.startswith("003_CT_") for name in folders)


@pytest.mark.parametrize("layout", ["dicom", "bids"])
def test_what_is_taken_back_leaves_nothing(tmp_path: Path, root: Path, layout: Any) -> None:
    sender = FolderSender(root, layout)
    one, other = output(tmp_path, 1, 1, 1), output(tmp_path, 1, 1, 2)
    sender.send(*one)
    sender.send(*other)
    assert sender.delete(one[1]) is Gone.DELETED
    assert [name for name in files(root) if one[1].out_sop in name] == []
    assert [name for name in files(root) if other[1].out_sop in name]
    assert sender.delete(one[1]) in (Gone.DELETED, Gone.ABSENT), "what is not there any more is taken back"
    assert sender.delete(other[1]) is Gone.DELETED
    assert [name for name in files(root) if name.endswith(".dcm")] == []
    if layout == "bids":
        assert "sub-0ABC" not in (root / "participants.tsv").read_text()
        assert not (root / "sub-0ABC").exists()
        assert sender.send(*one)[0] is Reply.STORED
        assert "sub-0ABC" in (root / "participants.tsv").read_text()
    assert FolderSender(tmp_path / "gone", layout).delete(one[1]) is Gone.WAITS, "a disk that is not there has it still"


@pytest.mark.parametrize("layout", ["dicom", "bids"])
def test_no_time_tells_when_something_was_written_or_taken_back(tmp_path: Path, root: Path, layout: Any) -> None:
    sender = FolderSender(root, layout)
    one, other = output(tmp_path, 1, 1, 1), output(tmp_path, 2, 1, 1)

    def times() -> set[float]:
        return {path.stat().st_mtime for path in (root, *root.rglob("*"))}

    for path, what in (one, other):
        assert sender.send(path, what)[0] is Reply.STORED
        assert times() == {below.WHEN}
    assert sender.delete(one[1]) is Gone.DELETED
    assert times() == {below.WHEN}
    assert time.gmtime(below.WHEN - 12 * 3600).tm_year == 1980, "an archive holds it in every time zone"


def test_a_folder_whose_time_others_keep_is_no_obstacle(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EPERM, "not the owner")

    monkeypatch.setattr(below.os, "utime", refused)
    assert FolderSender(root).send(*output(tmp_path))[0] is Reply.STORED


def test_names_never_lead_elsewhere() -> None:
    for text in ("../..", "a/b", "", ".", "\0", ".hidden"):
        name = names.component(text)
        assert name and "/" not in name and "\0" not in name and not name.startswith(".")
    assert names.subject("AB-C") != names.subject("ABC")
    assert names.subject("AB-C").removeprefix("sub-").isalnum()
