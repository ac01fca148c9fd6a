"""Many photos through one model: several in flight, results in order, memory bounded."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

from cameo.errors import CameoError
from cameo.flows import Outcome
from cameo.images import Photo

Call = Photo | Sequence[Photo] | Mapping[str, Photo]
"""What one call of a model takes."""
Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT: Final = min((os.cpu_count() or 1) + 1, 8)
"""While the device runs one photo's network, each core can read, paste or write another (docs/decisions/168)."""


@dataclass(frozen=True, eq=False)
class Made:
    """What became of one photo: its `outcome`, or the `error` why it has none."""

    photo: Call
    outcome: Outcome | None = None
    error: CameoError | None = None

    def result(self) -> Outcome:
        """The outcome.

        Raises:
            CameoError: there is none.
        """
        if self.outcome is None:
            raise self.error or CameoError("there is no outcome")
        return self.outcome


def run_many(run: Callable[[Call], Outcome], photos: Iterable[Call], in_flight: int = IN_FLIGHT) -> Iterator[Made]:
    """What `run` makes of each photo, in order."""

    def one(photo: Call) -> Made:
        try:
            return Made(photo, run(photo))
        except CameoError as error:
            return Made(photo, error=error)

    return in_order(one, photos, in_flight)


def in_order(work: Callable[[Item], Result], items: Iterable[Item], in_flight: int) -> Generator[Result]:
    """`work` of every item, in order, at most `in_flight` of them begun and not yet taken.

    Items are taken as there is room, and results as they are asked for. What is in work when the iterator is closed is
    waited for; an error of `work` comes at its item's place, and ends the rest.
    """
    jobs: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(max(in_flight, 1), "cameo-photo") as pool:
        try:
            for item in items:
                jobs.append(pool.submit(work, item))
                del item  # else this frame holds the newest photo while the oldest is waited for
                if len(jobs) >= in_flight:
                    yield jobs.popleft().result()
            while jobs:
                yield jobs.popleft().result()
        finally:
            for job in jobs:
                job.cancel()


class Waiting:
    """Threads for calls that are awaited, as many as photos are in flight; they begin with the first call."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[[], Result]) -> Result:
        """`work` in a thread; one that has not begun when the task is cancelled is not begun."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(IN_FLIGHT, "cameo-awaited")
        return await asyncio.wrap_future(self._pool.submit(work))

    def close(self) -> None:
        """Begin nothing more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
