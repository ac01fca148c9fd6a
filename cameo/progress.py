"""How far long work is: a bar on a terminal, elsewhere (a pipe, a log) a line now and then; on standard error."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

FIRST_S, MOST_S = 5.0, 15.0
"""Where there is no terminal, the first line comes after so long, and no two are further apart than the second."""
_WIDTH: Final = 30


class Pace:
    """When to say a line where there is no terminal: 5 s after work began, then after pauses that double up to 15 s."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._pause_s = clock, FIRST_S
        self.begin()

    def begin(self) -> None:
        """Something was said by others, so nothing is due for a while."""
        self._said_at = self._clock()

    def is_due(self) -> bool:
        """Whether to say a line now; who is told so says it."""
        now = self._clock()
        if now - self._said_at < self._pause_s:
            return False
        self._said_at, self._pause_s = now, min(2 * self._pause_s, MOST_S)
        return True


class ProgressBar:
    """Call it with what is done and what there is to do; at the end it wipes itself out. Not `shown`, it is silent."""

    def __init__(self, what: str, shown: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._shown, self._clock = what, shown, clock
        self._terminal = sys.stderr.isatty()
        self._pace = Pace(clock)
        self._started = clock()
        self._total = 0

    def __call__(self, done: int, total: int, more: str = "") -> None:
        """`more` is said behind it."""
        now = self._clock()
        if total != self._total and self._total:
            self._started = now  # other steps, which take another time
        self._total = total
        if not self._shown:
            return
        if self._terminal:
            self._draw(bar_text(self._what, done, total, now - self._started) + more)
        elif done < total and self._pace.is_due():
            print(bar_text(self._what, done, total, now - self._started) + more, file=sys.stderr, flush=True)

    def _draw(self, text: str) -> None:
        columns = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:columns]:{columns}}", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown and self._terminal:
            self._draw("")
            print("\r", end="", file=sys.stderr, flush=True)


def bar_text(what: str, done: int, total: int, elapsed_s: float) -> str:
    """ "group.jpg [#######...............] 4/12, 9 s left": the rest is as fast as what is done."""
    filled = _WIDTH * done // max(total, 1)
    left = f", {elapsed_s / done * (total - done):.0f} s left" if 0 < done < total else ""
    return f"{what} [{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{total}{left}"
