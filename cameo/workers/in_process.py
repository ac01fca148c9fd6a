"""Calls run in threads of this process: what a worker does, and what stands in for one in tests."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Protocol

from cameo.many import IN_FLIGHT
from cameo.workers.calls import Answer, Call, WorkerState


class Works(Protocol):
    """What answers calls: `cameo.workers.work.Work`, or a fake."""

    def open(self) -> None:
        """Open what is served, as far as there is room."""
        ...

    def answer(self, call: Call) -> Answer:
        """The answer to a call, from any thread."""
        ...

    def give_up(self, call: Call) -> None:
        """Drop what waits of a call."""
        ...

    def state(self) -> WorkerState:
        """What it holds now."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class InProcess:
    """An `Executor` in a few threads of this process; `kill` only forgets them, as nothing can end a thread."""

    def __init__(self, work: Works, threads: int = IN_FLIGHT) -> None:
        self._work = work
        self._threads = ThreadPoolExecutor(threads, "cameo-call")
        self._inside: dict[Call, Future[Answer]] = {}
        self._counting = threading.Lock()
        self.died: Future[str] = Future()
        self.ready: Future[None] = self._threads.submit(work.open)

    def start(self, call: Call) -> Future[Answer]:
        with self._counting:
            self._inside[call] = answer = self._threads.submit(self._work.answer, call)
        answer.add_done_callback(lambda _: self._leave(call))
        return answer

    def _leave(self, call: Call) -> None:
        with self._counting:
            self._inside.pop(call, None)

    def give_up(self, call: Call) -> None:
        with self._counting:
            answer = self._inside.get(call)
        if answer is not None and not answer.cancel():
            self._work.give_up(call)

    def state(self) -> WorkerState | None:
        return self._work.state() if self.ready.done() and self.ready.exception() is None else None

    def end(self, patience_s: float) -> bool:
        with self._counting:
            inside = list(self._inside.values())
        if wait(inside, patience_s).not_done:
            return False
        self._threads.shutdown()
        self._work.close()
        self._die("it was told to end")
        return True

    def kill(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._die("it was killed")

    def _die(self, why: str) -> None:
        with self._counting:
            if not self.died.done():
                self.died.set_result(why)
