"""Runs one stage in a process of its own, so that its memory is measured and its crash stays there.

    python -m pipeline.child MODULE:CLASS PARAMETERS_JSON SOURCE OUT [ANSWER_FD]

is also what the `reproduce.sh` beside each artifact says. The answer (facts or error, as JSON) comes back through a
pipe: it must arrive even if the disk is full. Before it, one line of JSON for each step of a long stage that logs its
progress (`optimize/precision/progress.py`).
"""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from cameo import errors
from cameo.errors import CameoError, OutputError, StageError
from pipeline.fingerprint import stage_parameters
from pipeline.stage import Stage


@dataclass(frozen=True)
class ChildResult:
    """What a stage returned, and what running it took."""

    facts: dict[str, Any]
    seconds: float
    peak_rss_mib: float


def stage_command(stage: Stage, source: Path, out: Path) -> list[str]:
    """The command that runs `stage` on its own."""
    name = f"{type(stage).__module__}:{type(stage).__qualname__}"
    return [sys.executable, "-m", "pipeline.child", name, stage_parameters(stage), str(source), str(out)]


def run_in_child(
    stage: Stage,
    source: Path,
    out: Path,
    log: Path,
    show: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> ChildResult:
    """Run `stage` in a child process whose output goes to `log`; `show` is told its progress.

    Raises:
        CameoError: the error that the stage raised, of its own class.
        StageError: the child died without one (killed, out of memory, crashed).
    """
    started = time.monotonic()
    reader, writer = os.pipe()
    with log.open("wb") as output, os.fdopen(reader) as answers:
        child = subprocess.Popen(
            [*stage_command(stage, source, out), str(writer)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            pass_fds=(writer,),
        )
        os.close(writer)
        try:
            answer: dict[str, Any] = {}
            for line in answers:
                if not line.endswith("\n"):
                    break  # the child died over it
                answer = json.loads(line)
                if "progress" in answer:
                    show(*answer.pop("progress"))
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            raise
        child.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it from Popen
    if "error" in answer:
        kind = getattr(errors, answer["error"], StageError)
        raise kind(answer["message"])
    if child.returncode != 0 or "facts" not in answer:
        raise StageError(f"{stage.name} {_death(child.returncode)}: its last output was '{_last_line(log)}'")
    return ChildResult(answer["facts"], round(time.monotonic() - started, 2), round(usage.ru_maxrss / 1024, 1))


def _death(code: int) -> str:
    if code == -9:
        return "was killed, most likely for want of memory (signal 9)"
    return f"crashed (signal {-code})" if code < 0 else f"failed (exit code {code})"


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][-300:] if lines else ""


def main(name: str, parameters: str, source: str, out: str, answer_fd: str = "1") -> int:
    """Run the stage and write its facts, or its error, to the file descriptor `answer_fd`."""
    from pydantic import TypeAdapter

    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    answers = os.fdopen(int(answer_fd), "w", buffering=1)
    handler = _AnswerHandler(answers)
    logging.getLogger().addHandler(handler)
    module, _, attribute = name.partition(":")
    stage = TypeAdapter(getattr(importlib.import_module(module), attribute)).validate_json(parameters)
    try:
        facts = dict(stage.run(Path(source), Path(out)))
        answer: dict[str, Any] = {"facts": facts | ({"notes": handler.notes} if handler.notes else {})}
    except (CameoError, OSError) as error:
        traceback.print_exc()
        known = error if isinstance(error, CameoError) else _output_error(error, Path(out))
        answer = {"error": type(known).__name__, "message": str(known)}
    with answers:
        answers.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


class _AnswerHandler(logging.Handler):
    """Passes on the log records that tell progress, as lines of JSON, and keeps those that are a note to the user."""

    def __init__(self, answers: TextIO) -> None:
        super().__init__()
        self._answers = answers
        self.notes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "progress"):
            self._answers.write(json.dumps({"progress": record.progress}) + "\n")
        if hasattr(record, "note"):
            self.notes.append(record.note)


def _output_error(error: OSError, out: Path) -> OutputError:
    if error.errno == errno.ENOSPC:
        return OutputError(f"no space left while writing {out}: free some disk space and run again")
    return OutputError(f"cannot write {out} ({error.strerror or error}): check the folder and its permissions")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
