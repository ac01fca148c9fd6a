"""Stages in the process of the tests: what they do is tested without the seconds that a child takes to import for each.

That stages run in children, and what happens when those die, is `tests/pipeline/test_store.py`; the README's commands
run them in children as well.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.child import ChildResult
from pipeline.fingerprint import stage_parameters
from pipeline.stage import Stage


def run_in_process(
    stage: Stage,
    source: Path,
    out: Path,
    log: Path,
    show: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> ChildResult:
    """What `pipeline.child.run_in_child` returns; the stage goes through JSON as it does there, and so do its facts."""
    from pydantic import TypeAdapter

    started = time.monotonic()
    same: Stage = TypeAdapter(type(stage)).validate_json(stage_parameters(stage))
    handler = _Shower(show)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        log.touch()
        facts = json.loads(json.dumps(dict(same.run(source, out))))
        if handler.notes:
            facts["notes"] = handler.notes
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    return ChildResult(facts, round(time.monotonic() - started, 2), 0.0)


class _Shower(logging.Handler):
    def __init__(self, show: Callable[[str, int, int], None]) -> None:
        super().__init__()
        self._show = show
        self.notes: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "progress"):
            self._show(*record.progress)
        if hasattr(record, "note"):
            self.notes.append(record.note)
