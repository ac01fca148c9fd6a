"""Photos are large, and Python's objects few: what is answered is let go at once, not when cycles are collected."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from cameo.workers.crew import Crew
from tests.cameo.server.conftest import Start
from tests.support.served import png, wait_for


@pytest.mark.parametrize(("photo", "status"), [(png(9), 200), (b"no photo", 400)])
def test_a_photo_is_let_go_when_it_is_answered(
    start: Start, monkeypatch: pytest.MonkeyPatch, photo: bytes, status: int
) -> None:
    calls: list[weakref.ref[Any]] = []
    submit = Crew.submit

    def noted(crew: Crew, call: Any, deadline_s: float) -> Any:
        calls.append(weakref.ref(call))
        return submit(crew, call, deadline_s)

    monkeypatch.setattr(Crew, "submit", noted)
    client = start().client
    gc.disable()
    try:
        for _ in range(4):
            assert client.post("/run", content=photo).status_code == status
        wait_for(lambda: sum(call() is not None for call in calls) <= 1, 3)
    finally:
        gc.enable()
