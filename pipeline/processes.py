"""The processes in which stages run: one for each, started anew or forked.

What passes import takes seconds, and passes take none, so theirs are forked from a process that has imported it
(`pipeline/zygote.py`). What loads PyTorch, TensorFlow or an engine starts anew (docs/decisions/208).
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol

from pipeline.stage import Stage

_PASSES_REST_ON: Final = frozenset({"onnx", "onnx-ir", "onnxsim"})
_KIB_OF_MIB: Final = 1024
LARGEST_REQUEST: Final = 2**20


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or minus the signal, and the most memory that it took."""

    code: int
    peak_rss_mib: float

    @classmethod
    def of(cls, status: int, peak_kib: int) -> Ended:
        """What `os.wait4` says."""
        return cls(os.waitstatus_to_exitcode(status), round(peak_kib / _KIB_OF_MIB, 1))


class Running(Protocol):
    """A process that runs a stage."""

    def wait(self) -> Ended:
        """Wait for its end."""
        ...

    def kill(self) -> None:
        """End it now."""
        ...


def run(stage: Stage, command: Sequence[str], output: int, answers: int) -> Running:
    """Run `stage`, whose own `command` is `python -m pipeline.child ...`, with these file descriptors.

    What it prints goes to `output`; `answers` is handed over as its last argument.
    """
    if frozenset(stage.tools) <= _PASSES_REST_ON and (forked := _zygote().fork(command[3:], output, answers)):
        return forked
    return _Started(command, output, answers)


def environment() -> dict[str, str]:
    """Of every process that runs stages: libraries in C++ take paths as UTF-8, also in the C locale."""
    return {**os.environ, "PYTHONUTF8": "1"}


class _Started:
    def __init__(self, command: Sequence[str], output: int, answers: int) -> None:
        self._process = subprocess.Popen(
            [*command, str(answers)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            pass_fds=(answers,),
            env=environment(),
        )

    def wait(self) -> Ended:
        _, status, usage = os.wait4(self._process.pid, 0)
        ended = Ended.of(status, usage.ru_maxrss)
        self._process.returncode = ended.code  # wait4 took it from Popen
        return ended

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class _Forked:
    def __init__(self, zygote: _Zygote, pid: int) -> None:
        self._zygote, self._pid = zygote, pid

    def wait(self) -> Ended:
        ended = self._zygote.told()
        if ended is None:
            self._zygote.end()
            return Ended(-signal.SIGKILL, 0.0)
        self._zygote.free.release()
        return Ended.of(*ended)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self.wait()


class _Zygote:
    """The process that is forked, for one stage at a time."""

    def __init__(self) -> None:
        self.free = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.zygote", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=environment(),
            )
        atexit.register(self.end)

    def fork(self, arguments: Sequence[str], output: int, answers: int) -> _Forked | None:
        """A process that is given these arguments; None where it is busy, or cannot."""
        if not self.free.acquire(blocking=False):
            return None
        request = json.dumps([os.getcwd(), environment(), list(arguments)]).encode()
        try:
            socket.send_fds(self._socket, [request], [output, answers])
            told = self.told()
        except OSError:
            told = None
        if told is None:
            self.end()
            return None
        return _Forked(self, *told)

    def told(self) -> list[int] | None:
        """What it says next; None where it died."""
        with suppress(ConnectionError):
            if message := self._socket.recv(LARGEST_REQUEST):
                numbers: list[int] = json.loads(message)
                return numbers
        return None

    def end(self) -> None:
        """End it; the next stage starts another."""
        _zygote.cache_clear()
        atexit.unregister(self.end)
        self._socket.close()
        self._process.wait()


@cache
def _zygote() -> _Zygote:
    return _Zygote()
