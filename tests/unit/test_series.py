"""A series claims nothing more while what it had is queued again: the same servers would answer alike at once."""

from __future__ import annotations

import pytest
from orthanc_deid.pipeline.series import CHUNK, _Series
from orthanc_deid.store.rows import BACKFILL


@pytest.mark.parametrize("why", ["waits", "changed"])
def test_nothing_is_claimed_until_the_pause_is_over(why: str) -> None:
    series = _Series("lung", "s", workers=1)
    asked = series.ask(1)
    assert asked is not None
    series.answered([BACKFILL] * asked[0], *asked)
    assert series.ask(CHUNK) is not None, "more is there"
    if why == "waits":
        series.waits = True
    else:
        series.changed_sources.append("i")
    series.look()
    assert series.ask(1) is None and not series.stirs, "not even for what is fresh"
    for _ in range(asked[0]):
        series.landed(BACKFILL)
    assert series.stirs, "the task sees that it may pause now"
    series.waits, series.changed_sources = False, []
    assert series.ask(1) is not None
