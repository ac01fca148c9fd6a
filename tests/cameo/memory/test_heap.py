"""One heap for all threads of a process, told by what the C library says of its heaps."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from cameo.memory.heap import give_back, share_one_heap

_GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_info")

# Four threads, all there at once, each with memory of the C library's; how many heaps there are then.
COUNT = """
import ctypes, sys, threading
from cameo.memory.heap import share_one_heap

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.fopen.restype = ctypes.c_void_p, ctypes.c_void_p
all_there = threading.Barrier(4)

def take():
    libc.malloc(50_000)
    all_there.wait(20)

print(share_one_heap())
threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


@pytest.mark.skipif(not _GLIBC, reason="this C library does not tell of its heaps")
def test_threads_share_one_heap_unless_somebody_chose_otherwise(tmp_path: Path) -> None:
    heaps = []
    for said, chosen in (("True", {}), ("False", {"MALLOC_ARENA_MAX": "8"})):
        told = tmp_path / said
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")} | chosen
        done = subprocess.run(
            [sys.executable, "-c", COUNT, str(told)], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == said
        heaps.append(told.read_text().count("<heap nr="))
    assert heaps[0] == 1
    assert heaps[1] > 1


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert not share_one_heap()


class _Circle:
    """Holds itself, as an error and the frames that it came through do."""

    def __init__(self) -> None:
        self.itself = self


def test_what_only_holds_itself_is_given_back_too() -> None:
    gc.disable()
    try:
        left = weakref.ref(_Circle())
        assert left() is not None
        give_back()
        assert left() is None
    finally:
        gc.enable()
