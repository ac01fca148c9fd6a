"""How many rows, and how large a picture, a budget leaves room for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cameo.memory.budget import Budget
from cameo.memory.need import Need


@dataclass(frozen=True)
class Room:
    """One network's room in a budget.

    All networks of a place take turns, so that rows of one have what all others' fixed memory leaves; `at_once` runs
    share it. Without a `need`, or a budget that is known, the room is not known (None). `more` frees something that
    others hold and do not use; False where there is nothing.
    """

    budget: Budget
    need: Need | None
    at_once: int = 1
    more: Callable[[], bool] = lambda: False

    @property
    def most_pixels(self) -> int | None:
        """The largest picture that one row may have; None where that is not known."""
        left = self.budget.left
        if left is None or self.need is None or not self.need.per_pixel:
            return None
        return int(left / self.at_once / self.need.per_pixel)

    def rows(self, pixels: int) -> int | None:
        """How many rows with pictures of so many pixels fit, 0 if not even one; None where that is not known."""
        most = self.most_pixels
        return None if most is None else most // max(pixels, 1)
