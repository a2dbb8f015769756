"""A name in the outbox stands for exact bytes."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

from orthanc_deid.pipeline.outbox import Outbox


def put(outbox: Outbox, row: int, data: bytes) -> str:
    file, part = outbox.begin(row)
    with file:
        file.write(data)
    digest = hashlib.sha256(data).hexdigest()
    outbox.finish(part, row, digest)
    return digest


def test_nobody_else_may_look(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    outbox.prepare()
    digest = put(outbox, 7, b"abc")
    assert stat.S_IMODE(outbox.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(outbox.path(7, digest).parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(outbox.path(7, digest).stat().st_mode) & 0o077 == 0


def test_intact_means_these_bytes(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    outbox.prepare()
    digest = put(outbox, 7, b"abc")
    assert outbox.intact(7, digest)
    outbox.path(7, digest).write_bytes(b"abd")
    assert not outbox.intact(7, digest)
    outbox.drop(7, digest)
    outbox.drop(7, digest)
    assert not outbox.intact(7, digest)


def test_other_bytes_of_a_row_have_another_name(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    outbox.prepare()
    first, second = put(outbox, 300, b"abc"), put(outbox, 300, b"abd")
    assert outbox.intact(300, first) and outbox.intact(300, second)
    assert sorted(row for row, _ in outbox.files()) == [300, 300]


def test_half_written_files_of_a_dead_worker_go(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox")
    outbox.prepare()
    file, part = outbox.begin(1)
    file.close()
    digest = put(outbox, 1, b"abc")
    outbox.prepare()
    assert not Path(part).exists()
    assert outbox.intact(1, digest)
