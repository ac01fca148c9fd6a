"""`python -m cameo.workers.child FD LOG`: a worker, told by the front at the other end of a socket what to do.

    open       the models and options; the answer is "ready", or "failed" with the error
    call       a call by its number; the answer is "answer" or "error" with that number
    give_up    a call's number
    end        finish what is inside, and end; with exit code 1 if patience was too short for it

and every second it tells its state, and gives memory back when idle. When the other end is gone, it ends at once.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import cameo.errors
from cameo.errors import CameoError
from cameo.log_lines import log_on_stderr
from cameo.memory.heap import give_back
from cameo.workers.calls import Answer, Call, Served, WorkOptions
from cameo.workers.in_process import InProcess
from cameo.workers.wire import Message, receive, send

STATE_EVERY_S: Final = 1.0
_LOG: Final = logging.getLogger("cameo.worker")


class Child:
    """One worker: its end of the socket, and what it runs calls with."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._executor: InProcess | None = None
        self._calls: dict[int, Call] = {}
        self._was_busy = False

    def serve(self) -> None:
        """Do what is asked until the other end is gone, or says that it is enough."""
        while (message := receive(self._connection)) is not None:
            do = getattr(self, "_" + message.head["do"])
            do(message)

    def _open(self, message: Message) -> None:
        from cameo.workers.work import Work  # not before: what is wrong with it is then told

        served = [Served(**{**one, "bundle": Path(one["bundle"])}) for one in message.head["served"]]
        try:
            work = Work(served, WorkOptions(**message.head["options"]))
        except CameoError as error:
            self._tell({"say": "failed", **said(error)})
            return
        self._executor = InProcess(work)
        self._executor.ready.add_done_callback(self._opened)

    def _opened(self, ready: Future[None]) -> None:
        if (error := ready.exception()) is not None:
            self._tell({"say": "failed", **said(error)})
            return
        self._tell_state()
        self._tell({"say": "ready"})
        threading.Thread(target=self._keep_telling, name="cameo-state", daemon=True).start()

    def _keep_telling(self) -> None:
        while True:
            time.sleep(STATE_EVERY_S)
            try:
                self._turn()
            except Exception:
                _LOG.exception("the worker cannot tell its state")

    def _turn(self) -> None:
        """Tell the state; who has nothing to do any more gives back what photos left free (docs/decisions/171)."""
        self._tell_state()
        if self._was_busy and not self._calls:
            self._was_busy = False
            give_back()

    def _tell_state(self) -> None:
        if self._executor is not None and (state := self._executor.state()) is not None:
            self._tell({"say": "state", "state": asdict(state)})

    def _call(self, message: Message) -> None:
        number = message.head["number"]
        self._was_busy = True
        call = self._calls[number] = Call(files=message.files, **message.head["call"])
        assert self._executor is not None
        self._executor.start(call).add_done_callback(lambda answer: self._answered(number, answer))

    def _answered(self, number: int, answer: Future[Answer]) -> None:
        del self._calls[number]
        if answer.cancelled():
            self._tell({"say": "error", "number": number, **said(CameoError("the call was given up"))})
        elif (error := answer.exception()) is not None:
            self._tell({"say": "error", "number": number, **said(error)})
        else:
            made = answer.result()
            told = {"faces": made.faces, "note": made.note, "seconds": dict(made.seconds)}
            self._tell({"say": "answer", "number": number, "answer": told}, {"content": made.content})

    def _give_up(self, message: Message) -> None:
        call = self._calls.get(message.head["number"])
        if call is not None and self._executor is not None:
            self._executor.give_up(call)

    def _end(self, message: Message) -> None:
        ended = self._executor is None or self._executor.end(message.head["patience_s"])
        os._exit(0 if ended else 1)  # also with a thread that goes on

    def _tell(self, head: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> None:
        with self._sending:
            try:
                send(self._connection, head, files)
            except OSError:  # nobody there; or no memory for an answer, which would be waited for in vain
                os._exit(1)


def said(error: BaseException) -> dict[str, str]:
    """One of our errors by message and the nearest class that `cameo.errors` has; a bug is logged, and told as one."""
    if isinstance(error, CameoError):
        known = next(kind for kind in type(error).__mro__ if getattr(cameo.errors, kind.__name__, None) is kind)
        return {"error": known.__name__, "message": str(error)}
    _LOG.error("a call failed by a bug", exc_info=error)
    return {"error": "", "message": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Serve the front at the other end of the socket whose descriptor is the first argument; log as the second says."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal, or a service manager, sends them to all: the front
        signal.signal(number, signal.SIG_IGN)  # decides
    log_on_stderr(sys.argv[2])
    try:
        Child(socket.socket(fileno=int(sys.argv[1]))).serve()
    except Exception:
        _LOG.exception("the worker ends by a bug")
        os._exit(1)  # at once: an ordinary end would wait for what is inside, and the front for its answers
    os._exit(0)


if __name__ == "__main__":
    main()
