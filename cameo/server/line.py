"""The model in one thread of its own, and the line of photos before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from cameo.loading import Loaded

Result = TypeVar("Result")
Sent = TypeVar("Sent")
_NEWEST: Final = 0.3  # how much the newest photo says about the next


class Line:
    """Opens, runs and closes a model in one thread: a CUDA context belongs to the thread that made it.

    `inside` counts the photos that wait or run; one that runs cannot be stopped and counts until it is done.
    """

    def __init__(self, open_model: Callable[[], Loaded]) -> None:
        self.inside = 0
        self._counting = threading.Lock()
        self._since: float | None = None
        self._usual_s = 0.0
        self._thread = ThreadPoolExecutor(1, "cameo")
        try:
            self.model = self._thread.submit(open_model).result()
        except BaseException:
            self._thread.shutdown()
            raise

    @property
    def running_s(self) -> float:
        """How long the photo in work has taken so far; 0 if there is none."""
        since = self._since
        return time.monotonic() - since if since is not None else 0.0

    @property
    def wait_s(self) -> float:
        """How long those inside will take, by what photos took so far; 0 before one was measured."""
        return max(self.inside * self._usual_s - min(self.running_s, self._usual_s), 0.0)

    @property
    def usual_s(self) -> float:
        """How long a photo takes, the newest counting most; 0 before one was measured."""
        return self._usual_s

    def enter(self, work: Callable[[Sent], Result], sent: Sent) -> Future[Result]:
        """What will be `work(sent)`, in its turn."""
        held = [sent]  # a cancelled job stays in the executor's queue: its bytes shall not
        self._count(1)
        job = self._thread.submit(lambda: self._timed(work, held.pop()))
        job.add_done_callback(lambda _: self._leave(held))
        return job

    def _timed(self, work: Callable[[Sent], Result], sent: Sent) -> Result:
        self._since = time.monotonic()
        try:
            result = work(sent)
            took = self.running_s  # of photos that cannot be read nothing is learnt
            self._usual_s = took if not self._usual_s else (1 - _NEWEST) * self._usual_s + _NEWEST * took
            return result
        finally:
            self._since = None

    def _leave(self, held: list[Any]) -> None:
        held.clear()
        self._count(-1)

    def _count(self, more: int) -> None:
        with self._counting:
            self.inside += more

    def close(self, patience_s: float | None = None) -> bool:
        """Free the model after the photo in work; False if that one is not done in time, and goes on."""
        closing = self._thread.submit(self.model.close)
        self._thread.shutdown(wait=False)
        try:
            closing.result(patience_s)
        except TimeoutError:
            return False
        self._thread.shutdown()
        return True
