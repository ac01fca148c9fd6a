"""When a worker that died is replaced: at once, unless workers die in a row (docs/decisions/184).

closed       at once
open         after a pause
half-open    it was, to try: its first good answer closes, its death opens for twice as long
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"
DEATHS: Final = 3
WITHIN_S: Final = 60.0
PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class Breaker:
    """Opens when so many `deaths` (or starts that failed) came within a time, and no good answer between them."""

    def __init__(
        self,
        deaths: int = DEATHS,
        within_s: float = WITHIN_S,
        pause_s: float = PAUSE_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.state = CLOSED
        self._within_s, self._first_pause_s, self._pause_s, self._clock = within_s, pause_s, pause_s, clock
        self._deaths: deque[float] = deque(maxlen=deaths)
        self._opened_at = 0.0

    @property
    def wait_s(self) -> float:
        """How long until a worker may be tried; 0 for at once."""
        return max(self._opened_at + self._pause_s - self._clock(), 0.0) if self.state == OPEN else 0.0

    def try_one(self) -> None:
        """A worker is being started."""
        if self.state == OPEN:
            self.state = HALF_OPEN

    def failed(self) -> None:
        """It died, or did not start."""
        now = self._clock()
        self._deaths.append(now)
        if self.state == HALF_OPEN:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        elif len(self._deaths) < (self._deaths.maxlen or 0) or now - self._deaths[0] > self._within_s:
            return
        self.state, self._opened_at = OPEN, now

    def succeeded(self) -> None:
        """It gave a good answer."""
        self.state, self._pause_s = CLOSED, self._first_pause_s
        self._deaths.clear()
