"""A server of one model of the test's making, in this process; clients that print nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.testclient import TestClient

from cameo.server import PhotoServer, ServeOptions
from cameo.workers.calls import Served
from tests.support.served import Model, bundle_of, hang_up, photo_server


@dataclass(frozen=True)
class Started:
    model: Model
    server: PhotoServer
    client: TestClient


Start = Callable[..., Started]


@pytest.fixture
def start() -> Iterator[Start]:
    """`start(flow, options...)`: the model is called "test"."""
    with ExitStack() as servers:

        def started(flow: str = "inverter", **options: Any) -> Started:
            model = Model()
            folder = servers.enter_context(bundle_of(model, flow))
            server = servers.enter_context(photo_server(Served("test", folder), options=ServeOptions(**options)))
            servers.callback(model.gate.set)
            return Started(model, server, TestClient(server.app))

        yield started


@pytest.fixture
def cameo_log() -> Iterator[logging.Logger]:
    """The logger, put back as it was; and so is what its handlers write for others."""
    logger = logging.getLogger("cameo")
    before = (logger.handlers[:], logger.level, logger.propagate)
    yield logger
    logging.captureWarnings(False)
    for handler in set(logger.handlers) - set(before[0]):
        logging.getLogger().removeHandler(handler)
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


@pytest.fixture
def quiet_clients(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """What clients do prints nothing."""
    yield
    hang_up()
    assert capfd.readouterr().err == ""
