"""Memory that is free goes back to the system, even where it lies between what is in use, and threads share it."""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
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


THREADS = """
import ctypes, sys, threading
from orthanc_deid.tuning import share_memory
if sys.argv[1] == "shared":
    share_memory()
together = threading.Barrier(12)
def run():
    together.wait(60)
    kept = [bytes(9000) for _ in range(100)]
    together.wait(60)
threads = [threading.Thread(target=run) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
out = ctypes.c_void_p(libc.fdopen(1, b"w"))
libc.malloc_info(0, out)
libc.fflush(out)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="another C library than glibc")
def test_threads_take_memory_from_few_places() -> None:
    places = {
        how: len(re.findall(r"<heap nr=", subprocess.check_output([sys.executable, "-c", THREADS, how], text=True)))
        for how in ("shared", "apart")
    }
    assert places["shared"] <= 2 < places["apart"]
