"""Networks of the making of the test, and callers of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from cameo.batching import Batched, Device
from cameo.batching.batched import key_of
from cameo.session import Session, Tensor
from cameo.testing import FakeSession, Strain, image_session

SIDE = 8


def picture(value: int, side: int = SIDE) -> Tensor:
    return np.full((1, side, side, 3), value, np.uint8)


class Gate(Session):
    """Runs `session` when it is let; counts the batches that came."""

    def __init__(self, session: FakeSession) -> None:
        self._session = session
        self.inputs, self.outputs = session.inputs, session.outputs
        self.open, self.entered = threading.Event(), threading.Event()

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.entered.set()
        assert self.open.wait(20)
        return self._session.run(feeds)

    def close(self) -> None:
        pass


@contextmanager
def batched(session: Session, **options: Any) -> Iterator[Batched]:
    device = Device()
    try:
        yield Batched(session, device, "net", **options)
    finally:
        device.close()


def inverted(strain: Strain | None = None) -> FakeSession:
    return image_session(lambda image: 255 - image, strain)


def together(network: Batched, gate: Gate, feeds: list[Tensor], first: Tensor | None = None) -> list[Any]:
    """The results, or errors, of callers who all wait before the device takes the next batch."""
    with ThreadPoolExecutor(len(feeds) + 1) as pool:
        blocker = pool.submit(network.run, {"image": picture(0, 4) if first is None else first})
        assert gate.entered.wait(20)
        came, note_arrival = [], network.note_arrival
        network.note_arrival = lambda now: (came.append(now), note_arrival(now))[1]  # type: ignore[method-assign]
        calls = [pool.submit(network.run, {"image": feed}) for feed in feeds]
        eventually(lambda: len(came) == len(feeds))
        with network._device._lock:  # the last one's rows are in line as well
            gate.open.set()
        blocker.result(20)
        return [call.exception(20) or call.result()["result"] for call in calls]


def pay(
    network: Batched, side: int = SIDE, a: float = 0.001, b: float = 0.5, sizes: tuple[int, ...] = (1, 2, 4)
) -> None:
    """Let the network have learned what batches cost."""
    cost = network._cost(key_of({"image": picture(0, side)}))
    for n in sizes * 3:
        cost.learn(n, a * n + b)


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)
