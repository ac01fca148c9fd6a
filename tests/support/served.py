"""A server with a model of the test's making, in a thread (`serving`) or a process (`python -m`), and its clients."""

from __future__ import annotations

import http.client
import io
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from cameo.errors import EngineError, RequestError
from cameo.server import PhotoServer, ServeOptions, serve
from cameo.server.app import listener
from cameo.server.door import Hosts

WEDGING, SLOW, LARGE = 251, 252, 253
"""Photos of this value stay inside for ever, for half a second, or have a result of 15 MB."""


class Model:
    """A loaded model that inverts photos once `gate` is open, and fails on black ones or with `error`."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.ran = 0
        self.closed = False
        self.error: Exception | None = None
        self.bundle = SimpleNamespace(manifest=SimpleNamespace(model="test"))
        self.engines = {"net": SimpleNamespace(engine="onnxruntime", precision="fp32")}
        self.takes: tuple[str, ...] = ("photo",)
        self.per_call: tuple[Any, ...] = ()

    def describe(self) -> str:
        return "an inverter"

    def request(self, **given: Any) -> Any:
        if given:
            raise RequestError(f"test has no option {', '.join(given)}")
        return None

    def run(self, photos: Any, request: Any = None) -> SimpleNamespace:
        photo = photos["photo"].pixels
        assert self.gate.wait(20)
        self.ran += 1
        if self.error:
            raise self.error
        if not photo.any():
            raise EngineError("the engine failed: restart it")
        time.sleep({WEDGING: 1000.0, SLOW: 0.5}.get(int(photo.flat[0]), 0.0))
        if photo.flat[0] == LARGE:
            photo = np.random.default_rng(0).integers(0, 255, (2000, 3000, 3), np.uint8)
        return SimpleNamespace(image=255 - photo, faces=(1, 2), note="Grün: 100 %.")

    def close(self) -> None:
        self.closed = True


def png(value: int, shape: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((*shape, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Served:
    """A running server: its port, its model and uvicorn's state of it."""

    def __init__(self, model: Model, port: int, state: Any) -> None:
        self.model, self.port, self.state = model, port, state

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A connection that has sent so much."""
        return connect(self.port, sent)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        return ask(self.port, method, path, body, **headers)


_CLIENTS: list[socket.socket] = []


def connect(port: int, sent: bytes = b"") -> socket.socket:
    """A connection that has sent so much, and stays open until `hang_up`."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    _CLIENTS.append(connection)
    connection.sendall(sent)
    return connection


def hang_up() -> None:
    """Close every connection."""
    while _CLIENTS:
        _CLIENTS.pop().close()


def ask(
    port: int, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, Any, dict[str, str]]:
    """Status, content (JSON read) and headers in lower case; headers are named with "_" for "-"."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        content = answer.read()
        found = {name.lower(): value for name, value in answer.getheaders()}
        is_json = found.get("content-type") == "application/json"
        return answer.status, json.loads(content) if is_json else content, found
    finally:
        connection.close()


def request(body: bytes, more: int = 0, path: str = "/run") -> bytes:
    """A POST as bytes; `more` bytes are promised and do not come."""
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body) + more}\r\n\r\n".encode() + body


def is_closed(connection: socket.socket, within_s: float) -> bool:
    """Whether the server has closed the connection; whatever it sent before is dropped."""
    connection.settimeout(within_s)
    with suppress(ConnectionError):
        try:
            while connection.recv(2**20):
                pass
        except TimeoutError:
            return False
    return True


def wait_for(condition: Callable[[], bool], within_s: float = 10) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@contextmanager
def serving(**options: Any) -> Iterator[Served]:
    """A server on a free port, in a thread; it must end within seconds."""
    model, limits = Model(), ServeOptions(**{"grace_s": 0.5, **options})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        hosts = Hosts.bound_to("127.0.0.1", "127.0.0.1", limits.allow_hosts)
        server = PhotoServer(lambda: model, limits, hosts)  # type: ignore[arg-type, return-value]
        running = listener(server, limits)
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        wait_for(lambda: running.started)
        try:
            yield Served(model, listening.getsockname()[1], running.server_state)
        finally:
            model.gate.set()
            running.should_exit = True
            thread.join(10)
            assert not thread.is_alive()
            assert server.close(10)
            assert model.closed


if __name__ == "__main__":
    serve(Model, ServeOptions(**json.loads(sys.argv[1])), "127.0.0.1", 0)  # type: ignore[arg-type]
