"""How long a call takes, by what it is at: each thread's call counts for itself.

with timed() as times_s:
    with spent("read"):
        ...
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_CALL: ContextVar[dict[str, float] | None] = ContextVar("cameo.spent", default=None)


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Seconds by name, which grow while the block lasts."""
    times_s: dict[str, float] = {}
    token = _CALL.set(times_s)
    try:
        yield times_s
    finally:
        _CALL.reset(token)


@contextmanager
def spent(on: str) -> Iterator[None]:
    """Count the block's time under this name, if a call of this thread counts."""
    times_s, started = _CALL.get(), time.perf_counter()
    try:
        yield
    finally:
        if times_s is not None:
            times_s[on] = times_s.get(on, 0.0) + time.perf_counter() - started
