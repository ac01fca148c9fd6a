"""Memory that a full-size network is done with stays in the process of the tests, for its next picture.

By default glibc gives arrays of 32 MB and more back to the system at once and asks for them anew, page by page: 18 of
the 83 seconds of processor time of GPEN's tests, which take 4.3 GB with it instead of 3.7.
"""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = {MMAP_THRESHOLD: 2**30, TRIM_THRESHOLD: 2**31 - 1}


def keep_heap() -> None:
    """Keep it from now on; does nothing where the C library is another."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for name, size in KEPT.items():
            library.mallopt(name, size)
