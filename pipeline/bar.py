"""Shows how far long work is, or that it goes on: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cameo.progress import Pace


class StageBar:
    """A bar per kind of step, with the time that is left; a pulse while a stage tells no progress.

    Where there is no terminal, `say` is told at a `pace`, if it is given; stages one after another share one.
    """

    def __init__(self, stage: str, say: Callable[[str], None] | None = None, pace: Pace | None = None) -> None:
        console = Console(stderr=True)
        steps = MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
        columns = (TextColumn("{task.description}"), BarColumn(), *steps)
        self._stage = stage
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._pulse: TaskID | None = None
        self._step = ""
        self._say = None if console.is_terminal else say
        self._pace = pace or Pace(monotonic)
        self._pace.begin()
        self._started = monotonic()

    def still(self) -> None:
        """Work goes on, and tells no step."""
        self._line(f"{self._step}{monotonic() - self._started:.0f} s so far")

    def show(self, what: str, done: int, of: int) -> None:
        """`done` of `of` steps of this kind are done."""
        if done < of:
            self._line(f"{what}, {done} of {of}")
        self._step = f"{what}, {done} of {of}, "
        if self._pulse is not None:
            self._bar.remove_task(self._pulse)
            self._pulse = None
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(f"{self._stage}: {what}", total=of)
        self._bar.update(self._tasks[what], completed=done, total=of)

    def _line(self, text: str) -> None:
        if self._say is not None and self._pace.is_due():
            self._say(f"{self._stage}: {text}")

    def __enter__(self) -> Self:
        self._pulse = self._bar.add_task(self._stage, total=None)
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
