"""A server with a network of the test's making, in a thread (`serving`) or a process (`python -m`), and its clients."""

from __future__ import annotations

import http.client
import io
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import cameo.flows
from cameo.errors import EngineError
from cameo.server import PhotoServer, ServeOptions, serve
from cameo.server.listening import listener
from cameo.server.offers import Offer
from cameo.server.refusals import Hosts
from cameo.session import Tensor
from cameo.testing import FakeSession, InProcess, fake_bundle
from cameo.workers.calls import Served, WorkOptions
from cameo.workers.crew import Crew
from cameo.workers.work import Work

WEDGING, SLOW, LARGE = 251, 252, 253
"""Photos of this value stay inside for ever, for half a second, or have a result of 15 MB."""

FLOWS = Path(__file__).parent / "flows"


class Model(FakeSession):
    """A network that inverts photos once `gate` is open, in so many `seconds`; fails on black ones or with `error`."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__(self._inverted, batches=(1,))
        self._seconds = seconds
        self.gate = threading.Event()
        self.gate.set()
        self.ran = 0
        self.closed = False
        self.error: Exception | None = None

    def _inverted(self, photo: Tensor) -> Mapping[str, Tensor]:
        assert self.gate.wait(20)
        self.ran += 1
        if self.error:
            raise self.error
        if not photo.any():
            raise EngineError("the engine failed: restart it")
        time.sleep({WEDGING: 1000.0, SLOW: 0.5}.get(int(photo.flat[0]), self._seconds))
        if photo.flat[0] == LARGE:
            photo = np.random.default_rng(0).integers(0, 255, (1, 2000, 3000, 3), np.uint8)
        return {"result": 255 - photo}

    def close(self) -> None:
        self.closed = True


@contextmanager
def bundle_of(model: Model, flow: str = "inverter") -> Iterator[Path]:
    """A bundle of one of the flows in `FLOWS`, whose network is `model`."""
    with tempfile.TemporaryDirectory() as folder:
        before = cameo.flows.__path__
        cameo.flows.__path__ = [*before, str(FLOWS)]
        try:
            with fake_bundle(Path(folder) / flow, flow, {"net": model}) as bundle:
                yield bundle
        finally:
            cameo.flows.__path__ = before
            sys.modules.pop(f"cameo.flows.{flow}", None)
            vars(cameo.flows).pop(flow, None)


class Hiring:
    """Workers in threads of this process, one after the other; none can be opened while they are `broken`."""

    def __init__(self, served: Sequence[Served], work: WorkOptions | None = None) -> None:
        self.broken = False
        self._served, self._work = served, work or WorkOptions()
        self._hired: list[InProcess] = []

    def __call__(self) -> InProcess:
        work = Work(self._served, self._work)
        if self.broken:
            raise EngineError("no engine")
        self._hired.append(InProcess(work))
        return self._hired[-1]

    def kill(self) -> None:
        """End the worker that there is."""
        self._hired[-1].kill()


def in_process(served: Sequence[Served], options: ServeOptions, hire: Hiring | None = None) -> Crew:
    """A crew of one worker in threads of this process."""
    return Crew([hire or Hiring(served)], options.crew)


@contextmanager
def photo_server(
    *served: Served | Path,
    options: ServeOptions | None = None,
    work: WorkOptions | None = None,
    hosts: Hosts | None = None,
    hire: Hiring | None = None,
) -> Iterator[PhotoServer]:
    """A server of these models or bundles, in this process; it must end within seconds."""
    models = [Served("test", one) if isinstance(one, Path) else one for one in served]
    options = options or ServeOptions()
    crew = in_process(models, options, hire or Hiring(models, work))
    server = PhotoServer([Offer.of(one) for one in models], crew, options, hosts)
    try:
        crew.open()
        yield server
    finally:
        assert server.close(10)


def png(value: int, shape: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((*shape, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


class Running:
    """A running server: its port, its network, its workers, and uvicorn's state of it."""

    def __init__(self, model: Model, port: int, hiring: Hiring, state: Any) -> None:
        self.model, self.port, self.hiring, self.state = model, port, hiring, state

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


def seconds(act: Callable[[], object]) -> float:
    """How long it takes."""
    started = time.monotonic()
    act()
    return time.monotonic() - started


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
def serving(work: WorkOptions | None = None, flow: str = "inverter", **options: Any) -> Iterator[Running]:
    """A server on a free port, in a thread; it must end within seconds."""
    model, limits = Model(), ServeOptions(**{"grace_s": 0.5, **options})
    with ExitStack() as stack:
        bundle = stack.enter_context(bundle_of(model, flow))
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        hosts = Hosts.bound_to("127.0.0.1", "127.0.0.1", limits.allow_hosts)
        hiring = Hiring([Served("test", bundle)], work)
        server = stack.enter_context(photo_server(bundle, options=limits, hosts=hosts, hire=hiring))
        running = listener(server, limits)
        thread = threading.Thread(target=running.run, args=([listening],))
        thread.start()
        wait_for(lambda: running.started)
        try:
            yield Running(model, listening.getsockname()[1], hiring, running.server_state)
        finally:
            model.gate.set()
            running.should_exit = True
            thread.join(10)
            assert not thread.is_alive()
    assert model.closed


if __name__ == "__main__":
    with bundle_of(Model()) as folder:
        models = [Served("test", folder)]
        limits = ServeOptions(**json.loads(sys.argv[1]))
        serve(models, lambda: in_process(models, limits), limits, "127.0.0.1", 0)
