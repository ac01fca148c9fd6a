"""What runs calls: the seam between a crew and its workers."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from cameo.workers.calls import Answer, Call, WorkerState


class Executor(Protocol):
    """Runs calls, several at once; any thread may use it.

    `ready` is done when the models are open, or has the error why they cannot be; `died` is done when it is no more,
    with a few words why. What was inside then has no answer.
    """

    ready: Future[None]
    died: Future[str]

    def start(self, call: Call) -> Future[Answer]:
        """The answer to a call, or one of our errors."""
        ...

    def give_up(self, call: Call) -> None:
        """Nobody wants the answer any more: what of it has not run shall not."""
        ...

    def state(self) -> WorkerState | None:
        """What is known of it now, without waiting; None before it is ready."""
        ...

    def end(self, patience_s: float) -> bool:
        """Finish what is inside, free everything, and end; False if that took longer, and goes on."""
        ...

    def kill(self) -> None:
        """End at once, whatever is inside."""
        ...
