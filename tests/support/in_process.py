"""Stages and sessions in the process of the tests: what they do is tested without the seconds that each child imports.

That stages run in children, and what happens when those die, is `tests/pipeline/test_store.py`, that sessions do
`tests/validate/test_remote.py`; the README's commands run both in children as well.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

from cameo import errors
from cameo.errors import CameoError
from cameo.session import Tensor
from pipeline import store
from pipeline.child import ChildResult
from pipeline.fingerprint import stage_parameters
from pipeline.stage import Stage
from validate import contenders, worker
from validate.remote import Spec


def run_in_process(
    stage: Stage,
    source: Path,
    out: Path,
    log: Path,
    show: Callable[[str, int, int], None] = lambda what, done, of: None,
    still: Callable[[], None] = lambda: None,
) -> ChildResult:
    """What `pipeline.child.run_in_child` returns; the stage goes through JSON as it does there, and so do its facts.

    Nothing asks here how it goes on, so that `still` is never called.
    """
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


class SessionInProcess:
    """What `validate.remote.RemoteSession` is, with the worker's own functions; its memory is the tests'."""

    def __init__(self, spec: Spec, scratch: Path, timeout_s: float = 0) -> None:
        self.spec = spec
        self._out = scratch / spec.subject.replace("/", "-") / "outputs.npz"
        self._out.parent.mkdir(parents=True)

    def wait(self) -> None:
        self._session = self._told("loading", lambda: worker.open_session(json.loads(json.dumps(asdict(self.spec)))))

    def time(self, feeds: Path) -> float:
        return float(self._ask({"feeds": str(feeds), "out": ""})["latency_ms"])

    def timed(self, feeds: Path) -> Callable[[], float]:
        return partial(self.time, feeds)

    def run(self, feeds: Path) -> dict[str, Tensor]:
        self._ask({"feeds": str(feeds), "out": str(self._out)})
        with np.load(self._out) as stored:
            return dict(stored)

    def memory(self) -> dict[str, float | None]:
        return self._ask({"memory": True})

    def close(self) -> None:
        self._session.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        return self._told("running", lambda: worker.answer(self._session, request))

    def _told(self, doing: str, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except errors.PhotoError:
            raise
        except CameoError as error:
            raise type(error)(f"{self.spec.subject} failed while {doing}: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def stages_in_process() -> Iterator[None]:
    """Builds within the block run their stages in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "run_in_child", run_in_process)
        yield


@contextmanager
def sessions_in_process() -> Iterator[None]:
    """Comparisons within the block open their sessions in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contenders, "RemoteSession", SessionInProcess)
        yield
