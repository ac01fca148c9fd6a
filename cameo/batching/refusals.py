"""What a device refused for want of memory, and for how long that is believed.

So many pixels at once were too many: less is run from then on. A neighbour may end, and memory come back, so after a
minute twice as much may be tried again, after two minutes four times as much; what is refused again within that is
believed twice as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

BELIEVED_S: Final = 60.0
LONGEST_S: Final = 3600.0


class Refusals:
    """The fewest pixels at once that a device refused; `pixels` is None where it refused nothing lately."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._least: int | None = None
        self._at, self._believed_s = 0.0, BELIEVED_S

    @property
    def pixels(self) -> int | None:
        """So many are not tried for now."""
        if self._least is None:
            return None
        return self._least << min(int((self._clock() - self._at) / self._believed_s), 60)

    def remember(self, pixels: int) -> None:
        """So many were refused."""
        known, now = self._least, self._clock()
        again = known is not None and now - self._at >= self._believed_s
        self._believed_s = min(2 * self._believed_s, LONGEST_S) if again else self._believed_s
        self._least = pixels if again or known is None else min(known, pixels)
        self._at = now

    def rows(self, pixels: int) -> int | None:
        """How many rows of so many pixels may be tried at once; None for any number."""
        refused = self.pixels
        return None if refused is None else (refused - 1) // max(pixels, 1)
