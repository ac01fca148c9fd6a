"""The queue before the workers: it refuses what would come too late, and loses nothing that it took.

Only a few calls are inside a worker; the others wait here, where no engine can harm them. When a worker dies, the calls
inside are put first in line and run once more, each alone: so a photo that kills workers takes no other with it
(docs/decisions/184).

Everything happens in one thread, a step at a time: what came to pass, whose time is over, which seats to fill, what to
hand out. Whatever may take long, or call back, is done between two steps, without the lock (`_later`).
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from cameo.counting import count_of
from cameo.errors import Busy, EngineError, Late
from cameo.images import megapixels
from cameo.many import IN_FLIGHT
from cameo.workers.breaker import Breaker
from cameo.workers.calls import BROKEN, ENDING, FULL, TOO_LATE, Answer, Call, State
from cameo.workers.executor import Executor
from cameo.workers.forecast import Forecast
from cameo.workers.seat import Hire, Job, WorkerSeat

_LOG: Final = logging.getLogger(__name__)
FAILURES: Final = 5  # in a row, and a worker counts as broken: some errors of a GPU last as long as its process
_USUAL_TIMES: Final = 4
_LEAST_RETRY_S: Final = 1.0
_AFTER_BUG_S: Final = 1.0
_LOADED_S: Final = 0.01  # a call that found its model closed says nothing about others
_ENDED: Final = "the server ended before the photo was done: send it again when it is back"


@dataclass(frozen=True)
class CrewOptions:
    """`queue`: calls that are taken at once, those inside included; `in_flight` of them are inside each worker.

    A worker that is still at a call `grace_s` after nobody waited for it any more (or four times what it usually takes,
    if that is more) is wedged, and so is one that did not open its models in `start_s`: it is killed.
    """

    queue: int = 8
    in_flight: int = IN_FLIGHT
    grace_s: float = 10.0
    start_s: float = 120.0


class Crew:
    """Workers, one for each of `hires`, and the calls that wait for them; any thread may use it."""

    def __init__(
        self, hires: Sequence[Hire], options: CrewOptions | None = None, breaker: Callable[[], Breaker] = Breaker
    ) -> None:
        self._options = options or CrewOptions()
        self._seats = [WorkerSeat(hire, breaker()) for hire in hires]
        self._waiting: deque[Job] = deque()
        self._forecast = Forecast(self._seats, self._options.in_flight)
        self._changed = threading.Condition()
        self._happened: deque[Callable[[], None]] = deque()
        self._later: list[Callable[[], None]] = []
        self._alarm = math.inf
        self._ending = self._over = False
        self._first: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="cameo-crew", daemon=True)
        self._thread.start()

    def open(self) -> None:
        """Wait until the first worker has opened its models.

        Raises:
            CameoError: it could not.
        """
        self._first.result()

    def submit(self, call: Call, deadline_s: float) -> Future[Answer]:
        """The answer to a call, or one of our errors, `Late` after so many seconds. Cancelled, the call is given up.

        Raises:
            Busy: the queue is full, the answer would come too late, workers fail, or the crew is ending.
        """
        size = max(megapixels(call.files.values()), 1e-3)
        with self._changed:
            self._check_door(deadline_s, self._forecast.usual_s(call, size), self._forecast.doubt_s(self._waiting))
            now = time.monotonic()
            job = Job(call, size, now, now + deadline_s)
            self._waiting.append(job)
            self._changed.notify_all()
        job.answer.add_done_callback(self._wake)  # it may be cancelled
        return job.answer

    def check_door(self, deadline_s: float) -> None:
        """Whether a call would be taken at all, before its photos are there; `submit` looks once more.

        Raises:
            Busy: as `submit`.
        """
        with self._changed:
            self._check_door(deadline_s)

    def state(self) -> State:
        """What waits, and what workers hold."""
        with self._changed:
            return State(len(self._waiting), self._wait_s(), tuple(seat.seen() for seat in self._seats))

    def close(self, patience_s: float) -> bool:
        """Take nothing more, finish what was taken, end the workers; False if patience was too short for that.

        What is not finished then is answered with an error, and its worker killed.
        """
        until = time.monotonic() + patience_s
        with self._changed:
            self._ending = True
            done = self._changed.wait_for(lambda: not self._wanted(), patience_s)
            self._over = True
            self._changed.notify_all()
        self._thread.join()
        ended = [_end(seat.executor, until) for seat in self._seats if seat.executor]
        with self._changed:
            left = self._wanted()
            self._waiting.clear()
            for seat in self._seats:
                seat.inside.clear()
        for job in left:
            job.settle(EngineError(_ENDED))
        return done and all(ended)

    # -- at the door

    @property
    def _ahead(self) -> int:
        return len(self._waiting) + sum(len(seat.inside) for seat in self._seats)

    def _check_door(self, deadline_s: float, usual_s: float = 0.0, doubt_s: float = 0.0) -> None:
        """Raises Busy if there is no room, or a call that usually costs `usual_s` might come too late."""
        if self._ending:
            raise Busy("the server is ending: try again when it is back", _LEAST_RETRY_S, ENDING)
        if all(seat.shut for seat in self._seats):
            raise _busy("workers ended again and again, the next one is tried soon", self._wait_s(), BROKEN)
        if self._ahead >= self._options.queue:
            raise _busy(f"{_inside(self._ahead)} already, as many as are let in", self._wait_s(), FULL)
        self._check_time(deadline_s, usual_s, doubt_s)

    def _check_time(self, left_s: float, usual_s: float, doubt_s: float) -> None:
        """Raises Busy if a call that comes after others might not be done in `left_s`; one alone is always tried."""
        takes_s = self._forecast.done_in_s(usual_s, self._waiting) + doubt_s
        if self._ahead and takes_s > left_s:
            why = f"{_inside(self._ahead)}, so that this one might take {_brief(takes_s)} s of the {_brief(left_s)} s"
            raise _busy(f"{why} that it may", takes_s - left_s, TOO_LATE)

    def _judge_again(self) -> None:
        """Turn away what waits in vain: it was let in before anything told how long calls take."""
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            usual_s = self._usual_s(job)
            try:
                self._check_time(job.deadline - time.monotonic(), usual_s, self._forecast.doubt_s(self._waiting))
                self._waiting.append(job)
            except Busy as error:
                self._settle(job, error)

    def _wait_s(self) -> float:
        return self._forecast.wait_s(self._waiting)

    def _usual_s(self, job: Job) -> float:
        return self._forecast.usual_s(job.call, job.megapixels)

    def _wanted(self) -> list[Job]:
        """The calls whose answers are waited for."""
        return [*self._waiting, *(job for seat in self._seats for job in seat.inside if job.given_up_at is None)]

    # -- in the crew's thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._guarded(self._step)
                later, self._later = self._later, []
                if not later and not self._happened:
                    if self._over:
                        return
                    self._changed.wait(None if self._alarm == math.inf else max(self._alarm - time.monotonic(), 0))
            for do in later:
                self._guarded(do)

    def _guarded(self, do: Callable[[], None]) -> None:
        """A bug is logged: everybody's deadlines depend on this thread."""
        try:
            do()
        except Exception:
            _LOG.exception("a bug in the crew, which goes on")
            self._alarm = min(self._alarm, time.monotonic() + _AFTER_BUG_S)

    def _step(self) -> None:
        self._alarm = math.inf
        while self._happened:
            self._happened.popleft()()
        if self._over:
            return
        self._expire()
        for seat in self._seats:
            self._staff(seat)
        while self._waiting and (free := self._seat_for(self._waiting[0])):
            self._hand_out(self._waiting[0], free)
            self._waiting.popleft()
        self._changed.notify_all()

    def _due(self, at: float) -> bool:
        """Whether it is time; if not, the next step is no later."""
        if at <= time.monotonic():
            return True
        self._alarm = min(self._alarm, at)
        return False

    def _expire(self) -> None:
        """Tell those whose deadline passed, and drop what nobody waits for."""
        for job in list(self._waiting):
            if job.answer.cancelled() or self._due(job.deadline):
                self._waiting.remove(job)
                self._settle(job, _late(job, "waited"))
        for seat in self._seats:
            for job in seat.inside:
                if job.given_up_at is None and (job.answer.cancelled() or self._due(job.deadline)):
                    job.given_up_at = time.monotonic()
                    self._settle(job, _late(job, "ran"))
                    if seat.executor:
                        self._later.append(partial(seat.executor.give_up, job.call))

    def _staff(self, seat: WorkerSeat) -> None:
        """Fill a seat that is empty; empty one whose worker is wedged."""
        if seat.executor is None:
            if self._due(time.monotonic() + seat.breaker.wait_s):
                self._hire(seat)
        elif not seat.opened:
            if self._due(seat.hired_at + self._options.start_s):
                self._bury(seat, f"it did not open its models in {self._options.start_s:g} s")
        elif any(self._due(self._grace_until(job)) for job in seat.inside):
            self._bury(seat, "it was wedged")

    def _grace_until(self, job: Job) -> float:
        if job.given_up_at is None:
            return math.inf
        usual_s = self._usual_s(job) * self._options.in_flight
        return job.given_up_at + max(self._options.grace_s, _USUAL_TIMES * usual_s)

    def _hire(self, seat: WorkerSeat) -> None:
        try:
            worker = seat.fill()
        except Exception as error:  # of ours, of the system, or that there can be no more threads
            self._bury(seat, str(error))
            return
        self._when(worker.ready, seat, worker, self._opened)
        self._when(worker.died, seat, worker, self._died)

    def _seat_for(self, job: Job) -> WorkerSeat | None:
        """The seat with the fewest calls inside, of those that have room for one more."""
        free = [seat for seat in self._seats if seat.has_room(self._options.in_flight, job.deaths)]
        return min(free, key=lambda seat: len(seat.inside), default=None)

    def _hand_out(self, job: Job, seat: WorkerSeat) -> None:
        seat.enter(job)
        worker = seat.executor
        assert worker is not None
        answered = partial(self._answered, job=job)
        self._later.append(lambda: self._when(_started(worker, job.call), seat, worker, answered))

    def _when(self, future: Future[Any], seat: WorkerSeat, worker: Executor, do: Callable[..., None]) -> None:
        """When a future is done, `do(seat, future)` in the next step, unless the worker was replaced before."""

        def happened(future: Future[Any]) -> None:
            with self._changed:
                self._happened.append(lambda: do(seat, future) if seat.executor is worker else None)
                self._changed.notify_all()

        future.add_done_callback(happened)

    def _opened(self, seat: WorkerSeat, ready: Future[None]) -> None:
        if (error := ready.exception()) is not None:
            self._bury(seat, str(error), error)
            return
        seat.opened, seat.start_s = True, time.monotonic() - seat.hired_at
        if not self._first.done():
            self._first.set_result(None)

    def _died(self, seat: WorkerSeat, why: Future[str]) -> None:
        self._bury(seat, why.result(), suspects=seat.inside)

    def _answered(self, seat: WorkerSeat, answer: Future[Answer], job: Job) -> None:
        if answer.cancelled() and job.given_up_at is None:
            return  # its worker is being killed, and then the call runs again
        share_s = seat.leave(job)
        if job.given_up_at is not None:
            if share_s > self._usual_s(job):  # else only what comes in time would teach anything
                self._learn(job, share_s)
            return
        if (error := answer.exception()) is not None:
            self._settle(job, error)
            seat.failed = seat.failed + 1 if type(error) is EngineError else 0
            if seat.failed >= FAILURES:
                self._bury(seat, f"it failed {FAILURES} times in a row")
            return
        self._settle(job, answer.result())
        seat.failed = 0
        seat.breaker.succeeded()
        if answer.result().seconds.get("loaded", 0.0) < _LOADED_S:
            self._learn(job, share_s)

    def _learn(self, job: Job, share_s: float) -> None:
        if self._forecast.learn(job, share_s):
            self._judge_again()

    def _bury(
        self, seat: WorkerSeat, why: str, error: BaseException | None = None, suspects: Collection[Job] = ()
    ) -> None:
        """End the worker of a seat; its calls run again, but for those of `suspects` that were already."""
        if seat.executor is not None:
            self._later.append(seat.executor.kill)
        if seat.opened:
            _LOG.warning("a worker is replaced: %s", why)
        elif self._first.done():  # else `open` raises it
            _LOG.warning("a worker could not start: %s", why)
        left = seat.empty(suspects)
        for job in sorted(left, key=lambda job: -job.came):
            if job.deaths < 2:
                self._waiting.appendleft(job)
            else:
                self._settle(job, EngineError(_twice(why)))
        if not self._first.done():
            self._first.set_exception(error or EngineError(f"the worker could not start: {why}"))
        self._staff(seat)

    def _settle(self, job: Job, answer: Answer | BaseException) -> None:
        self._later.append(partial(job.settle, answer))

    def _wake(self, _: Future[Answer]) -> None:
        with self._changed:
            self._changed.notify_all()


def _started(worker: Executor, call: Call) -> Future[Answer]:
    """The answer to be; a bug in handing out the call is that call's error."""
    try:
        return worker.start(call)
    except Exception as error:
        answer: Future[Answer] = Future()
        answer.set_exception(error)
        return answer


def _end(worker: Executor, until: float) -> bool:
    if not worker.ready.done():
        worker.kill()  # there is nothing inside
    elif not worker.end(max(until - time.monotonic(), 0.1)):
        worker.kill()
        return False
    return True


def _busy(why: str, retry_s: float, reason: str) -> Busy:
    retry_s = max(retry_s, _LEAST_RETRY_S)
    return Busy(f"{why}: try again in {math.ceil(retry_s)} s", retry_s, reason)


def _late(job: Job, did: str) -> Late:
    limit = _brief(job.deadline - job.came)
    return Late(f"no result within {limit} s, in which the photo {did}: try again, or send a smaller photo")


def _inside(photos: int) -> str:
    return f"{count_of(photos, 'photo')} {'is' if photos == 1 else 'are'} inside"


def _brief(seconds: float) -> str:
    """Seconds as people say them: what is left of a limit is a little less than what was asked for."""
    return f"{round(seconds, 1 if seconds >= 1 else 2):g}"


def _twice(why: str) -> str:
    return f"the worker ended twice while it had this photo ({why}): send another, or report this as a bug"
