"""A worker in a process of its own, which can be killed (docs/decisions/182)."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import cameo.errors
from cameo.backends import backend, backend_names
from cameo.bundle import Bundle
from cameo.cuda_driver import devices
from cameo.errors import CameoError
from cameo.memory.free import CUDA
from cameo.runtime import place_of
from cameo.schema import parse
from cameo.workers.calls import Answer, Call, Served, WorkerState, WorkOptions
from cameo.workers.wire import Message, receive, send

_HEAP: Final = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": str(2**20)}  # docs/decisions/171
_LOG: Final = logging.getLogger(__name__)
_ROOT: Final = Path(cameo.errors.__file__).parents[1]


class ChildProcess:
    """An `Executor`: `python -m cameo.workers.child`, with the models `served` and more of the environment if given."""

    def __init__(
        self, served: Sequence[Served], options: WorkOptions, environment: Mapping[str, str] | None = None
    ) -> None:
        self.ready: Future[None] = Future()
        self.died: Future[str] = Future()
        self._state: WorkerState | None = None
        self._waiting: dict[int, Future[Answer]] = {}
        self._numbers: dict[Call, int] = {}
        self._count = 0
        self._sending = threading.Lock()
        self._connection, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "cameo.workers.child", str(theirs.fileno()), options.log],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                env={**_HEAP, **os.environ, "PYTHONPATH": _path(), **(environment or {})},
            )
        models = [{**asdict(one), "bundle": str(one.bundle)} for one in served]
        self._tell({"do": "open", "served": models, "options": asdict(options)})
        threading.Thread(target=self._listen, name="cameo-worker", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def start(self, call: Call) -> Future[Answer]:
        answer: Future[Answer] = Future()
        with self._sending:
            self._count += 1
            number = self._count
            self._waiting[number], self._numbers[call] = answer, number
        answer.add_done_callback(lambda _: self._numbers.pop(call, None))
        told = {name: value for name, value in vars(call).items() if name != "files"}
        self._tell({"do": "call", "number": number, "call": {**told, "fields": dict(call.fields)}}, call.files)
        return answer

    def give_up(self, call: Call) -> None:
        if (number := self._numbers.get(call)) is not None:
            self._tell({"do": "give_up", "number": number})

    def state(self) -> WorkerState | None:
        return self._state

    def end(self, patience_s: float) -> bool:
        self._tell({"do": "end", "patience_s": patience_s})
        try:
            return self._process.wait(patience_s) != 1
        except subprocess.TimeoutExpired:
            return False

    def kill(self) -> None:
        self._process.kill()

    def _tell(self, head: Mapping[str, Any], files: Mapping[str, bytes] | None = None) -> None:
        with self._sending:
            try:
                send(self._connection, head, files)
            except OSError:  # it is gone, as `died` says; or memory for a photo is: then it had better go
                self._process.kill()

    def _listen(self) -> None:
        with self._connection:
            try:
                while (message := receive(self._connection)) is not None:
                    self._hear(message)
            except Exception:  # no descriptor was free for a message, perhaps: what it said is lost
                _LOG.exception("a worker cannot be understood")
        self._process.kill()  # it has no way back
        code = self._process.wait()
        why = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        if not self.ready.done():
            self.ready.set_exception(cameo.errors.EngineError(f"the worker ended {why} while it opened the models"))
        self.died.set_result(f"the worker ended {why}")

    def _hear(self, message: Message) -> None:
        head = message.head
        match head["say"]:
            case "state":
                self._state = parse(WorkerState, head["state"])
            case "ready":
                self.ready.set_result(None)
            case "failed":
                self.ready.set_exception(_error(head))
            case "answer":
                self._waiting.pop(head["number"]).set_result(Answer(message.files["content"], **head["answer"]))
            case "error":
                self._waiting.pop(head["number"]).set_exception(_error(head))


def hires(served: Sequence[Served], options: WorkOptions) -> list[Callable[[], ChildProcess]]:
    """What starts each worker: one, or one for each GPU where there are several and a model runs on them."""
    gpus = gpus_of(served)
    places = [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus] if len(gpus) > 1 else [{}]
    return [partial(ChildProcess, served, options, place) for place in places]


def gpus_of(served: Sequence[Served]) -> list[str]:
    """The GPUs that the models may run on, as CUDA_VISIBLE_DEVICES names them."""
    on_gpu = any(
        place_of(entry, str(one.loading.get("device", ""))) == CUDA
        and backend(entry.engine).why_unavailable(entry.precision) is None
        for one in served
        for network in Bundle(one.bundle).networks.values()
        for entry in network.engines
        if entry.engine in backend_names()
    )
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (visible.split(",") if visible else list(map(str, range(len(devices()))))) if on_gpu else []


def _error(head: Mapping[str, Any]) -> Exception:
    """One of our errors; what was a bug in the worker is no better here."""
    kind = getattr(cameo.errors, head["error"], None) if head["error"] else None
    if isinstance(kind, type) and issubclass(kind, CameoError):
        return kind(head["message"])
    return RuntimeError(f"a bug in the worker, whose log has more: {head['message']}")


def _path() -> str:
    """Where the child finds this very package, also when it runs from a checkout; never in the working directory."""
    return os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
