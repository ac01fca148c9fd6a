"""One worker's place in a crew: who holds it, and the calls inside."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from cameo.workers.breaker import HALF_OPEN, OPEN, Breaker
from cameo.workers.calls import Answer, Call, Seat
from cameo.workers.executor import Executor

Hire = Callable[[], Executor]


@dataclass(eq=False)
class Job:
    """A call on its way: when it came, when it is too late, how often a worker died that had it, the answer to be.

    `given_up_at`: since when nobody waits for the answer of a call that is inside. `share`: where the clock of its seat
    was when it went there.
    """

    call: Call
    megapixels: float
    came: float
    deadline: float
    answer: Future[Answer] = field(default_factory=Future)
    began: float = 0.0
    share: float = 0.0
    deaths: int = 0
    given_up_at: float | None = None

    def settle(self, answer: Answer | BaseException) -> None:
        """Tell whoever waits, unless nobody does; once."""
        if not self.answer.set_running_or_notify_cancel():
            return
        if isinstance(answer, BaseException):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(replace(answer, seconds={"waited": self.began - self.came, **answer.seconds}))


class WorkerSeat:
    """A place that `hire` fills with workers, one after the other.

    Its clock runs by 1/n of the time while n calls are inside: by how far it went while a call was, the call is charged
    for its share of the worker, however many others were there. The shares of all calls add up to the time that the
    worker was busy, which is what those who wait will wait for (docs/decisions/183).
    """

    def __init__(self, hire: Hire, breaker: Breaker) -> None:
        self._hire, self.breaker = hire, breaker
        self.executor: Executor | None = None
        self.opened = False
        self.hired_at = self.start_s = 0.0  # when the newest was, and how long the last one took to open its models
        self.restarts = 0
        self.failed = 0  # calls in a row
        self.inside: list[Job] = []
        self._share, self._at = 0.0, time.monotonic()

    def fill(self) -> Executor:
        """A new worker.

        Raises:
            OSError, CameoError: it cannot be started.
        """
        self.breaker.try_one()
        self.hired_at = time.monotonic()
        self.executor = self._hire()
        return self.executor

    def empty(self, suspects: Collection[Job]) -> list[Job]:
        """The worker is no more: the calls whose answers are still waited for; of `suspects` one may have ended it."""
        for job in suspects:
            job.deaths += 1
        left = [job for job in self.inside if job.given_up_at is None]
        self.tick()
        self.executor, self.opened, self.inside, self.failed = None, False, [], 0
        self.restarts += 1
        self.breaker.failed()
        return left

    def tick(self) -> float:
        """Where its clock is now."""
        now = time.monotonic()
        self._share += (now - self._at) / max(len(self.inside), 1)
        self._at = now
        return self._share

    def enter(self, job: Job) -> None:
        """A call goes inside."""
        job.share, job.began = self.tick(), self._at
        self.inside.append(job)

    def leave(self, job: Job) -> float:
        """A call comes out: the seconds that it is charged."""
        share = self.tick() - job.share
        self.inside.remove(job)
        return share

    def has_room(self, in_flight: int, deaths: int = 0) -> bool:
        """Whether a call may go inside: one that was inside when a worker died, and the first of a new try, alone."""
        careful = self.breaker.state == HALF_OPEN or deaths or any(job.deaths for job in self.inside)
        return self.opened and len(self.inside) < (1 if careful else in_flight)

    @property
    def shut(self) -> bool:
        """Whether its breaker is open."""
        return self.breaker.state == OPEN

    def seen(self) -> Seat:
        """What is told of it."""
        worker = self.executor.state() if self.executor and self.opened else None
        return Seat(len(self.inside), self.breaker.state, self.restarts, worker)
