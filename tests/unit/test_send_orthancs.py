"""Research copies: what is remembered of them stays small, however many there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from orthanc_deid.orthanc.client import OrthancClient
from orthanc_deid.orthanc.push import Reply
from orthanc_deid.send import orthancs as module
from orthanc_deid.send.base import ToSend
from orthanc_deid.send.orthancs import CopySender


class Copy:
    """One output; what is not asked for is missing."""

    out_digest = out_patient = out_study = project = "x"

    def __init__(self, number: int) -> None:
        self.out_orthanc_id = self.out_sop = f"i{number}"
        self.out_series = f"s{number // 3}"


def test_what_is_remembered_of_copies_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(module, "MOST_REMEMBERED", 6)
    monkeypatch.setattr(module.push, "store_copy", lambda *_: Reply.STORED)
    monkeypatch.setattr(module.push, "mark_copy", lambda *said: marked.append(said))
    here: dict[str, None] = {}
    sender = CopySender(cast(OrthancClient, None), here)
    for number in range(60):
        assert sender.send(Path("x"), cast(ToSend, Copy(number))) == (Reply.STORED, True)
        assert f"i{number}" in here and len(here) <= 6
        assert len(sender._marked) <= 6
    assert len(marked) == 2 * 20, "study and series, once for each series"
