"""Lets all threads of a process share one heap, where the C library is glibc (docs/decisions/171).

glibc gives each thread a heap of its own, and gives back to the system what lies free at the end of the first one only:
what a network's compilation took stays behind in as many heaps as threads ran one.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from typing import Final

_ARENA_MAX: Final = -8  # M_ARENA_MAX of glibc's malloc.h
_BY_HAND: Final = "MALLOC_ARENA_MAX"


def give_back() -> None:
    """Return what is free to the system, as far as this C library can.

    Errors hold the frames that they came through, and these the error: what such a circle has of photos is freed first.
    """
    gc.collect()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def share_one_heap() -> bool:
    """Keep threads that begin from now on to the first heap; whether this C library could.

    It counts for the whole process, so it is for commands, which have one of their own. Who set MALLOC_ARENA_MAX knows
    better, and keeps it.
    """
    if sys.platform != "linux" or _BY_HAND in os.environ:
        return False
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return set_option is not None and bool(set_option(_ARENA_MAX, 1))
