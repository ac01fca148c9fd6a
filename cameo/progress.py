"""A progress bar on the terminal; elsewhere (a pipe, a log) nothing is written."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Self

_WIDTH = 30


class ProgressBar:
    """Call it with what is done and what there is to do; it draws on standard error and wipes itself out at the end."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._started = time.monotonic()
        self._shown = sys.stderr.isatty()

    def __call__(self, done: int, total: int) -> None:
        if self._shown:
            self._draw(bar_text(self._what, done, total, time.monotonic() - self._started))

    def _draw(self, text: str) -> None:
        columns = shutil.get_terminal_size().columns - 1
        print(f"\r{text[:columns]:{columns}}", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._draw("")
            print("\r", end="", file=sys.stderr, flush=True)


def bar_text(what: str, done: int, total: int, elapsed_s: float) -> str:
    """ "group.jpg [#######...............] 4/12, 9 s left": the rest is as fast as what is done."""
    filled = _WIDTH * done // max(total, 1)
    left = f", {elapsed_s / done * (total - done):.0f} s left" if 0 < done < total else ""
    return f"{what} [{'#' * filled}{'.' * (_WIDTH - filled)}] {done}/{total}{left}"
