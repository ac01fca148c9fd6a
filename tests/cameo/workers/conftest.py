"""A crew whose workers are of the making of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from cameo.workers.breaker import Breaker
from cameo.workers.calls import Answer, Call, WorkerState
from cameo.workers.crew import Crew, CrewOptions
from tests.support.served import png, wait_for

EMPTY = WorkerState({}, (), {}, 0, 1)


PHOTO = png(9)


def call(name: str = "a", photo: bytes = PHOTO) -> Call:
    return Call("model", {"photo": photo}, {"name": name})


class Worker:
    """An executor that answers when the test says so; a call is known by its field `name`."""

    def __init__(self, error: Exception | None = None, opens: bool = True) -> None:
        self.ready: Future[None] = Future()
        self.died: Future[str] = Future()
        self.inside: dict[str, Future[Answer]] = {}
        self.given_up: list[str] = []
        self.killed = self.ended = False
        if error is not None:
            self.ready.set_exception(error)
        elif opens:
            self.ready.set_result(None)

    def start(self, call: Call) -> Future[Answer]:
        return self.inside.setdefault(call.fields["name"], Future())

    def answer(self, name: str, error: Exception | None = None) -> None:
        future = self.inside.pop(name)
        if error is None:
            future.set_result(Answer(name.encode(), 0, seconds={"ran": 1.0}))
        else:
            future.set_exception(error)

    def give_up(self, call: Call) -> None:
        self.given_up.append(call.fields["name"])

    def state(self) -> WorkerState:
        return EMPTY

    def die(self) -> None:
        self.died.set_result("the worker ended by signal 9")

    def end(self, patience_s: float) -> bool:
        self.ended = True
        return not self.inside

    def kill(self) -> None:
        self.killed = True


class Firm:
    """Crews that are closed with the test, and the workers that they hired."""

    def __init__(self) -> None:
        self.hired: list[Worker] = []
        self.next: list[Callable[[], Worker]] = []
        self.crews: list[Crew] = []

    def hire(self) -> Worker:
        worker = (self.next.pop(0) if self.next else Worker)()
        self.hired.append(worker)
        return worker

    def crew(self, seats: int = 1, breaker: Callable[[], Breaker] = Breaker, **options: Any) -> Crew:
        settings = {"queue": 20, "in_flight": 2, "grace_s": 0.2, **options}
        self.crews.append(Crew([self.hire] * seats, CrewOptions(**settings), breaker))
        return self.crews[-1]

    @property
    def worker(self) -> Worker:
        return self.hired[-1]

    def inside(self, *names: str) -> None:
        """Wait until just these are inside the newest worker."""
        wait_for(lambda: set(self.worker.inside) == set(names))


@pytest.fixture
def firm() -> Iterator[Firm]:
    made = Firm()
    yield made
    for crew in made.crews:
        crew.close(0)
