"""What a batch costs: the time of `n` rows of one shape is learned as `a * n + b` from the last fifty.

`b` is what every run costs whatever it holds, so it is what rows save that run together. From n to 2 n rows the time of
a row falls from `a + b / n` to `a + b / 2 n`; doubling pays while that is at least a twentieth.

After BentoML's dispatcher (`marshal/dispatcher.py`), which fits the same line, also without the first runs: those load
or compile. It waits by a mean of waits; here the rule is what one more row costs the others, and what it saves.
"""

from __future__ import annotations

from typing import Final

from cameo.learned_line import LearnedLine, Line, fitted

WORTH: Final = 0.95  # of a row's time at half the batch: more is no gain that rounds of measuring could tell
TIMINGS: Final = 3  # of batches before they count as not worth it: one of them may have met a busy moment
LARGEST: Final = 32  # rows of a batch, however cheap: by then `b` is shared among so many that it hardly shows


class Cost(LearnedLine):
    """The costs of one network at one shape, by the number of rows; `same`: those whose batches gave the bits of single
    rows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.same: set[int] = set()
        self._begun: set[float] = set()
        self._timed = 0

    def learn(self, x: float, seconds: float) -> None:
        """A batch of `x` rows took so long; the first of its size counts for nothing."""
        if x in self._begun:
            super().learn(x, seconds)
            self._timed += x > 1
        self._begun.add(x)

    def _fitted(self) -> Line | None:
        """As of the shortest of each size, because whatever else the machine does only adds."""
        least: dict[float, float] = {}
        for n, seconds in self._seen:
            least[n] = min(seconds, least.get(n, seconds))
        return fitted([(n, least[n]) for n, _ in self._seen])

    def worth(self) -> int:
        """The largest batch that pays, a power of two; where that is not known, the size that is missing to know.

        So what does not pay is tried once more when the last fifty have only single rows.
        """
        line = self.line
        if line is None:
            return 2 if self.largest < 2 else 1
        n = 1
        while n < min(LARGEST, 2 * max(self._begun)) and line.each(2 * n) <= WORTH * line.each(n):
            n *= 2
        return n if n > 1 or self._is_sure else 2

    @property
    def _is_sure(self) -> bool:
        """Whether enough batches were timed to say that none pays."""
        return self._timed >= TIMINGS

    @property
    def pays(self) -> bool | None:
        """Whether any batch pays; None while that is not known."""
        if (line := self.line) is None:
            return None
        pays = line.each(2) <= WORTH * line.each(1)
        return pays if pays or self._is_sure else None

    def patience_s(self, waiting: int, gap_s: float) -> float:
        """How long `waiting` rows gain by waiting for one more, if rows come every `gap_s`; 0 where they do not.

        That one costs each of them the gap, and saves the device `b`.
        """
        line = self.line
        if line is None or waiting >= self.worth() or waiting * gap_s >= line.b:
            return 0.0
        return line.b / waiting
