"""Shows how far a long stage is, on terminals only."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class StageBar:
    """A bar per kind of step, with the time that is left; nothing for a stage that tells no progress."""

    def __init__(self, stage: str) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._stage = stage
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def show(self, what: str, done: int, of: int) -> None:
        """`done` of `of` steps of this kind are done."""
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(f"{self._stage}: {what}", total=of)
        self._bar.update(self._tasks[what], completed=done, total=of)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
