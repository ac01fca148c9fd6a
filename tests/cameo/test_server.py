"""Serving: results, refusals, and a queue that does not grow."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from cameo.errors import EngineError
from cameo.images import read_photo
from cameo.server import PhotoServer, ServeOptions

ROOT = Path(__file__).parents[2]


class Model:
    """A loaded model whose flow inverts photos once `gate` is open, and fails on black ones."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.ran = 0
        self.closed = False
        self.bundle = SimpleNamespace(manifest=SimpleNamespace(model="test"))
        self.engines = {"net": SimpleNamespace(engine="onnxruntime", precision="fp32")}
        self.flow = self

    def run(self, photo: np.ndarray[Any, Any]) -> SimpleNamespace:
        assert self.gate.wait(20)
        self.ran += 1
        if not photo.any():
            raise EngineError("the engine failed: restart it")
        return SimpleNamespace(image=255 - photo, faces=(1, 2), note="Grün: 100 %.")

    def close(self) -> None:
        self.closed = True


def png(value: int, shape: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((*shape, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


Start = Callable[..., tuple[Model, TestClient]]


@pytest.fixture
def start() -> Iterator[Start]:
    servers = []

    def started(**options: Any) -> tuple[Model, TestClient]:
        model = Model()
        servers.append((model, PhotoServer(lambda: model, ServeOptions(**options))))  # type: ignore[arg-type, return-value]
        return model, TestClient(servers[-1][1].app)

    yield started
    for model, server in servers:
        model.gate.set()
        server.close()
        assert model.closed


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("*/*", "image/png"), ("image/avif,image/webp;q=0.9", "image/webp"), ("image/jpeg", "image/jpeg")],
)
def test_a_photo_comes_back_in_the_format_asked_for(start: Start, accept: str, media_type: str) -> None:
    _, client = start()
    answer = client.post("/run", content=png(200), headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, media_type)
    assert abs(int(read_photo(answer.content).mean()) - 55) <= 1
    assert (answer.headers["x-cameo-faces"], answer.headers["x-cameo-note"]) == ("2", "Gr%C3%BCn%3A%20100%20%25.")


def test_health_and_page(start: Start) -> None:
    _, client = start()
    assert client.get("/health").json() == {"model": "test", "engines": {"net": "onnxruntime fp32"}, "inside": 0}
    assert "<h1>test</h1>" in client.get("/").text


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "empty"),
        (b"no photo", 400, "not an image"),
        (png(1, (1500, 1000)), 400, "expected at most 1,000,000"),
        (os.urandom(2**20 + 1), 413, "larger than 1 MiB"),
        (png(0), 500, "the engine failed"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_sentence_and_leaves_no_trace(
    start: Start, body: bytes, status: int, said: str
) -> None:
    _, client = start(max_upload_mib=1, max_megapixels=1)
    answer = client.post("/run", content=body)
    assert answer.status_code == status
    assert said in answer.json()["error"]
    assert client.get("/health").json()["inside"] == 0
    assert client.post("/run", content=png(9)).status_code == 200


def test_other_paths_and_methods_are_refused_in_json(start: Start) -> None:
    _, client = start()
    assert client.get("/run").json() == {"error": "Method Not Allowed"}
    assert client.get("/nowhere").status_code == 404


def test_only_so_many_are_let_in(start: Start) -> None:
    model, client = start(queue=3)
    model.gate.clear()
    with ThreadPoolExecutor(3) as clients:
        inside = [clients.submit(client.post, "/run", content=png(value)) for value in (1, 2, 3)]
        _wait_for(lambda: client.get("/health").json()["inside"] == 3)
        refused = client.post("/run", content=png(4))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "2")
        assert "3 photos are inside" in refused.json()["error"]
        model.gate.set()
        assert [job.result().status_code for job in inside] == [200, 200, 200]
    assert client.post("/run", content=png(4)).status_code == 200


def test_who_waits_too_long_is_told_and_never_run(start: Start) -> None:
    model, client = start(timeout_s=0.3)
    model.gate.clear()
    with ThreadPoolExecutor(2) as clients:
        both = [clients.submit(client.post, "/run", content=png(value)) for value in (1, 2)]
        assert [job.result().status_code for job in both] == [504, 504]
    assert client.get("/health").json()["inside"] == 1, "the one that runs keeps its place until it is done"
    model.gate.set()
    _wait_for(lambda: client.get("/health").json()["inside"] == 0)
    assert model.ran == 1


def test_a_model_that_does_not_open_leaves_no_thread() -> None:
    def fail() -> Any:
        raise EngineError("no engine")

    before = threading.active_count()
    with pytest.raises(EngineError, match="no engine"):
        PhotoServer(fail, ServeOptions())
    assert threading.active_count() == before


def _wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
