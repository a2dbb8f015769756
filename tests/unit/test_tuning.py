"""Memory that is free goes back to the system, even where it lies between what is in use."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest
from orthanc_deid.tuning import trim

MB = 1 << 20


def resident() -> int:
    """Bytes of memory that this process holds."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="another C library than glibc")
def test_holes_between_what_is_in_use_are_given_back() -> None:
    blocks = [bytes(9000) for _ in range(12_000)]  # each on pages of its own, and too small for a mapping of its own
    kept = blocks[::50]
    full = resident()
    blocks.clear()
    held = resident()
    trim()
    assert full - resident() > 60 * MB, "most of it is back"
    assert held - resident() > 60 * MB, "and was not before"
    assert len(kept) == 240
