"""Finds the fewest of many suspects that a condition needs, by halving: QuickXplain (Junker, AAAI 2004).

The condition holds with all of them. For k that are needed of n, about 2k log2(n/k) + 2k tries are made instead of n.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

log = logging.getLogger(__name__)

FIRST_PHOTOS = 2
"""Photos that a search looks at first, the worst ones; what it finds is held against all of them."""


@dataclass
class Fewest:
    """Searches with at most `most_tries` tries; what is undecided then counts as needed."""

    holds: Callable[[Sequence[str]], bool]
    most_tries: int
    tries: int = 0

    def of(self, suspects: Sequence[str], given: Sequence[str] = (), changed: bool = True) -> list[str]:
        """The suspects without any of which the condition fails; where there is a choice, the earlier ones are kept.

        `given` are already in, and `changed` says whether that has just grown, so that a try could tell something.
        """
        if changed and self._try(given, len(suspects)):
            return []
        if len(suspects) == 1 or self.tries >= self.most_tries:
            return list(suspects)
        first, second = suspects[: len(suspects) // 2], suspects[len(suspects) // 2 :]
        needed = self.of(second, [*given, *first])
        return [*self.of(first, [*given, *needed], changed=bool(needed)), *needed]

    def _try(self, given: Sequence[str], undecided: int) -> bool:
        if self.tries >= self.most_tries:
            return False
        self.tries += 1
        held = self.holds(given)
        log.info(
            "try %d: %d nodes in FP32 %s, %d undecided", self.tries, len(given), "pass" if held else "fail", undecided
        )
        return held
