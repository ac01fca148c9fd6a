"""Time that grows with size, learned as `a * x + b` from the last fifty that were seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final, NamedTuple

WINDOW: Final = 50
FURTHEST: Final = 4  # times the largest that was seen (docs/decisions/183)


class Line(NamedTuple):
    """Seconds: `a * x + b`."""

    a: float
    b: float

    def each(self, n: float) -> float:
        """Seconds of one of `n` that share `b`."""
        return self.a + self.b / n


def fitted(points: Collection[tuple[float, float]]) -> Line | None:
    """The least squares of sizes and seconds, neither `a` nor `b` below 0; None before there are two sizes."""
    if len({x for x, _ in points}) < 2:
        return None
    count = len(points)
    middle, mean = sum(x for x, _ in points) / count, sum(s for _, s in points) / count
    spread = sum((x - middle) ** 2 for x, _ in points)
    a = sum((x - middle) * (s - mean) for x, s in points) / spread
    a = min(max(a, 0.0), mean / middle)  # so that b is not below 0
    return Line(a, mean - a * middle)


class LearnedLine:
    """What sizes took so far, and the `line` through it, None before two sizes were seen; `largest` of them, 0 before.

    One thread at a time learns; others may read meanwhile what does not go through all that was seen (`variance` does).
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self.line: Line | None = None
        self.largest = 0.0
        self._usual: Line | None = None

    def learn(self, x: float, seconds: float) -> None:
        """What was of size `x` took so long."""
        self._seen.append((x, seconds))
        self.largest = max(x for x, _ in self._seen)
        self.line = self._fitted()
        self._usual = self.line or Line(sum(s for _, s in self._seen) / sum(x for x, _ in self._seen), 0.0)

    def _fitted(self) -> Line | None:
        return fitted(self._seen)

    def usual(self, x: float) -> float | None:
        """Seconds at size `x`, by the line or by what was seen; None before anything was.

        Beyond `FURTHEST` times the largest that was seen, it is what that would take: more is not known.
        """
        line = self._usual
        return None if line is None else line.a * min(x, FURTHEST * self.largest) + line.b

    @property
    def variance(self) -> float:
        """Of what was seen around what is usual, seconds squared; 0 before anything was."""
        return sum((s - (self.usual(x) or 0.0)) ** 2 for x, s in self._seen) / max(len(self._seen), 1)
