"""Runs one stage in a process of its own: its memory is measured, and its crash stays there (docs/decisions/004).

    python -m pipeline.child MODULE:CLASS PARAMETERS_JSON SOURCE OUT [ANSWER_FD]

is also what the `reproduce.sh` beside each artifact says. The answer (facts or error, as JSON) comes back through a
pipe: it must arrive even if the disk is full, and the log cannot be written. Before it, one line of JSON for each step
of a long stage that logs its progress (`optimize/_conversion/progress.py`).

A stage that gives no sign of life is ended (`pipeline/silence.py`).
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TextIO

from cameo import errors
from cameo.errors import CameoError, OutputError, StageError
from pipeline import processes
from pipeline.disk import full_disk, why_no_space
from pipeline.fingerprint import stage_parameters
from pipeline.silence import Silence, last_line, lines
from pipeline.stage import Stage

_FREE = "free some disk space and run again"


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
    still: Callable[[], None] = lambda: None,
) -> ChildResult:
    """Run `stage` in a child process whose output goes to `log`; `show` is told its progress, `still` that it has none.

    Raises:
        CameoError: the error that the stage raised, of its own class.
        OutputError: the disk was full.
        StageError: the child died without one (killed, out of memory, crashed), or was ended because it was silent.
    """
    started = monotonic()
    reader, writer = os.pipe()
    with log.open("wb") as output, os.fdopen(reader, "rb", buffering=0):
        child = processes.run(stage, stage_command(stage, source, out), output.fileno(), writer)
        os.close(writer)
        try:
            answer: dict[str, Any] = {}
            for line in lines(reader, Silence(stage.name, log)):
                if not line:
                    still()
                    continue
                answer = json.loads(line)
                if "progress" in answer:
                    show(*answer.pop("progress"))
            ended = child.wait()
        except BaseException:
            child.kill()
            raise
    if "error" in answer:
        kind = getattr(errors, answer["error"], StageError)
        raise kind(answer["message"])
    if ended.code != 0 or "facts" not in answer:
        if where := full_disk(log.parent):
            raise OutputError(f"{where}, and {stage.name} {_death(ended.code)}: {_FREE}")
        last = answer.get("last") or last_line(log)
        raise StageError(f"{stage.name} {_death(ended.code)}: its last output was '{last}'")
    return ChildResult(answer["facts"], round(monotonic() - started, 2), ended.peak_rss_mib)


def _death(code: int) -> str:
    if code == -9:
        return "was killed, most likely for want of memory (signal 9)"
    return f"crashed (signal {-code})" if code < 0 else f"failed (exit code {code})"


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
    except Exception as error:
        answer = told(error, Path(out))
        with suppress(OSError):  # the log may lie on the disk that is full
            traceback.print_exc()
            sys.stderr.flush()
    with answers:
        answers.write(json.dumps(answer) + "\n")
    return 0 if "facts" in answer else 1


def told(error: Exception, out: Path) -> dict[str, str]:
    """What the parent is told of an error: its class and message, or, of a bug, what its traceback ends with."""
    last = traceback.format_exception_only(error)[-1].strip()[-300:]
    if reason := why_no_space(error):
        error = OutputError(f"{reason} while writing {out}: {_FREE}")
    elif not isinstance(error, CameoError) and (reason := full_disk(out.parent)):
        error = OutputError(f"{reason} while writing {out} ({last}): {_FREE}")
    elif isinstance(error, OSError):
        error = OutputError(f"cannot read or write {error.filename or out}: {error.strerror or error}; check it")
    if isinstance(error, CameoError):
        return {"error": type(error).__name__, "message": str(error)}
    return {"last": last}


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


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
