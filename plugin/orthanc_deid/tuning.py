"""Settings of the interpreter for processes that de-identify many files, and for a service that runs for years."""

from __future__ import annotations

import ctypes
import gc
import os
from contextlib import suppress

_YOUNG_OBJECTS = 100_000
_M_ARENA_MAX, _ARENAS = -8, 2


def settle() -> None:
    """Tell the garbage collector that what is loaded stays, and to look less often for cycles: the engine makes none.

    By default it looks at the young objects twice for each CT slice, and finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


def stand_back(niceness: int) -> None:
    """Let this process stand behind others where processors are short, and never interrupt what runs."""
    if niceness:
        os.nice(niceness)
        with suppress(OSError):  # not allowed in this container: being nice is what matters
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def share_memory() -> None:
    """Have all threads take memory from few places (M_ARENA_MAX of mallopt(3)); to be called before they are many.

    Otherwise the C library opens one for each thread, up to eight for each processor, and what is free in one is of no
    use to the others: a third of what it had taken for a service of forty threads. Does nothing where it is not glibc.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def trim() -> None:
    """Give the system back what is free of this process's memory but lies between what is in use (malloc_trim(3)).

    The C library keeps it for each thread that has ever needed it: a service of forty threads would grow for days by
    nothing but holes. Does nothing where the C library is not glibc.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
