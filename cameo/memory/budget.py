"""What may be used of a place's memory: a fixed amount, or a share of what is free."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final

from cameo.memory.amounts import in_words
from cameo.memory.free import CPU, Memory, memory_of

SHARE: Final = 0.8  # of what is free: the rest is for whatever else runs there (docs/decisions/166)
SMOOTH_S: Final = 10.0
EVERY_S: Final = 1.0


class Budget:
    """The bytes that this process may hold at `place`: `given`, or what it holds and `SHARE` of what is free there.

    Without `given`, free memory is read at most once a second and smoothed over ten, so that a passing neighbour does
    not change batches back and forth. Any thread may ask.
    """

    def __init__(
        self,
        place: str = CPU,
        given: int | None = None,
        read: Callable[[str], Memory | None] = memory_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place, self.given = place, given
        self._read, self._clock = read, clock
        self._reading = threading.Lock()
        self._base, self._held = 0.0, 0.0
        self._read_at = -math.inf
        self._smooth: float | None = None

    @property
    def bytes(self) -> int | None:
        """What may be held in all; None where nothing tells what is free."""
        if self.given is not None:
            return self.given
        with self._reading:
            now = self._clock()
            if now - self._read_at >= EVERY_S:
                self._take_in(self._read(self.place), now)
            return None if self._smooth is None else int(self._smooth)

    @property
    def left(self) -> float | None:
        """What running networks may take: all but what is held throughout; None where the budget is not known."""
        size = self.bytes
        return None if size is None else max(size - self._base - self._held, 0.0)

    @property
    def free(self) -> float | None:
        """What another model may take in all, itself included; None where the budget is not known."""
        size = self.bytes
        return None if size is None else size - self._held

    def hold(self, fixed: float, base: float = 0.0) -> None:
        """So many more bytes are held from now on (below 0: fewer), in a process that takes `base` without a model."""
        with self._reading:
            self._held += fixed
            self._base = max(self._base, base)

    @property
    def own(self) -> int:
        """What this process holds there now; 0 where nothing tells."""
        memory = self._read(self.place)
        return memory.own if memory else 0

    def _take_in(self, memory: Memory | None, now: float) -> None:
        if memory is None:
            self._smooth = None
        else:
            seen = memory.own + SHARE * memory.free
            newest = 1 - math.exp(-(now - self._read_at) / SMOOTH_S) if self._smooth is not None else 1.0
            self._smooth = seen if self._smooth is None else self._smooth + newest * (seen - self._smooth)
        self._read_at = now

    def describe(self) -> str:
        """How much, and why: "12.3 GiB, 0.8 of what is free"."""
        size = self.bytes
        if size is None:
            return "not known, as nothing here tells what is free"
        return in_words(size) + (" as given" if self.given is not None else f", {SHARE} of what is free")
