"""The parent's end of `validate.worker`: a session in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import numpy as np

from cameo import errors
from cameo.errors import EngineError, PhotoError
from cameo.modes import MODES
from cameo.session import Tensor

_ROOT = Path(__file__).resolve().parents[1]
_CLOSING_S = 20.0


@dataclass(frozen=True)
class Spec:
    """What a worker loads: the original where `weights` is a path, else an engine of `bundle`.

    With `flow`, it is the whole flow of `bundle`, opened with `declaring`: on the checkpoints `originals`, by
    network, if there are some, else on its engines. `parts` says by network which weights of a checkpoint are meant.
    """

    subject: str
    network: str
    weights: str = ""
    bundle: str = ""
    engine: str = ""
    precision: str = "fp32"
    mode: str = MODES[0]
    device: str = ""
    threads: int = 0
    flow: bool = False
    originals: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    declaring: Mapping[str, Any] = field(default_factory=dict)


class RemoteSession:
    """A worker that loads as soon as it is made; several can load side by side until `wait` is called.

    `worker` is the module that it runs: `validate.worker`, or one that gives its `main` another session.

    Raises (from every method but `close`):
        EngineError: the worker crashed, was killed or was too slow.
        CameoError: the error that the worker raised, of its own class.
    """

    def __init__(self, spec: Spec, scratch: Path, timeout_s: float = 300.0, worker: str = "validate.worker") -> None:
        self.spec = spec
        self._timeout_s = timeout_s
        self._too_slow = False
        self._files = scratch / spec.subject.replace("/", "-")
        self._files.mkdir(parents=True)
        self.log = self._files / "log.txt"
        spec_file = self._files / "spec.json"
        spec_file.write_text(json.dumps(asdict(spec)))
        with self.log.open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, "-m", worker, str(spec_file)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(),
            )
        self._requests = cast(IO[str], self._child.stdin)
        self._answers = cast(IO[str], self._child.stdout)

    def wait(self) -> None:
        """Return when the session is loaded."""
        self._receive("loading")

    def time(self, feeds: Path) -> float:
        """Milliseconds that one run on the feeds in an `.npz` file takes."""
        return float(self._ask({"feeds": str(feeds), "out": ""})["latency_ms"])

    def timed(self, feeds: Path) -> Callable[[], float]:
        """What runs once on the feeds in an `.npz` file and returns the milliseconds that it took."""
        return partial(self.time, feeds)

    def run(self, feeds: Path) -> dict[str, Tensor]:
        """The outputs for the feeds in an `.npz` file."""
        out = self._files / "outputs.npz"
        self._ask({"feeds": str(feeds), "out": str(out)})
        with np.load(out) as stored:
            return dict(stored)

    def memory(self) -> dict[str, float | None]:
        """`peak_rss_mib` since the process started, `vram_mib` now (None without a GPU)."""
        return self._ask({"memory": True})

    def close(self) -> None:
        """End the worker; calling it twice does no harm."""
        with suppress(BrokenPipeError):
            self._requests.close()
        try:
            self._child.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._answers.close()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        try:
            self._requests.write(json.dumps(request) + "\n")
            self._requests.flush()
        except BrokenPipeError:
            raise self._death("between two requests") from None
        return self._receive("running")

    def _receive(self, doing: str) -> dict[str, Any]:
        watchdog = threading.Timer(self._timeout_s, self._give_up)
        watchdog.start()
        try:
            line = self._answers.readline()
        finally:
            watchdog.cancel()
        if not line:
            raise self._death(f"while {doing}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = getattr(errors, answer["error"], EngineError)
            if kind is PhotoError:  # about the photo, whoever looked at it
                raise PhotoError(answer["message"])
            raise kind(f"{self.spec.subject} failed while {doing}: {answer['message']}")
        return answer

    def _give_up(self) -> None:
        self._too_slow = True
        self._child.kill()

    def _death(self, when: str) -> EngineError:
        code = self._child.wait()
        if self._too_slow:
            how = f"was stopped after {self._timeout_s:g} s without an answer"
        elif code == -signal.SIGKILL:
            how = "was killed, most likely for want of memory"
        elif code < 0:
            how = f"crashed ({signal.Signals(-code).name})"
        else:
            how = f"ended with exit code {code}"
        subject, output = self.spec.subject, self._last_output()
        return EngineError(f"the process of {subject} {how} {when}; its last output was: {output}")

    def _last_output(self) -> str:
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-600:] or "(nothing)"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _environment() -> dict[str, str]:
    """This process's environment, in which the worker finds the project."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
