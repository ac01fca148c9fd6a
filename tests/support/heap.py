"""Time that the tests' processes spend on memory, not on networks, is spared.

By default glibc gives arrays of 32 MB and more back to the system at once and asks for them anew, page by page: 18 of
the 83 seconds of processor time of GPEN's tests, which take 4.3 GB with it instead of 3.7. And PyTorch's exports make
objects without number, which Python's collector goes through again and again: a seventh of their time.
"""

from __future__ import annotations

import ctypes
import gc

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = {MMAP_THRESHOLD: 2**30, TRIM_THRESHOLD: 2**31 - 1}
SELDOM = (50_000, 20, 50)


def keep_memory() -> None:
    """Keep what a network is done with for the next one, and collect seldom; of glibc alone the first."""
    gc.set_threshold(*SELDOM)
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for name, size in KEPT.items():
            library.mallopt(name, size)
