"""A server on a socket, until it is told to end."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import uvicorn

from cameo.counting import count_of
from cameo.errors import CameoError
from cameo.server.app import PhotoServer
from cameo.server.connections import bounded
from cameo.server.front import Front
from cameo.server.keys import key_for_curl
from cameo.server.limits import ServeOptions
from cameo.server.logs import plainly
from cameo.server.offers import Offer
from cameo.server.refusals import Hosts
from cameo.workers.calls import Served, WorkOptions
from cameo.workers.child_process import hires
from cameo.workers.crew import Crew, CrewOptions

_LOG: Final = logging.getLogger(__name__)


def serve(
    served: Sequence[Served],
    open_crew: Callable[[], Crew],
    options: ServeOptions,
    host: str,
    port: int,
    say: Callable[[str], None] = plainly,
) -> None:
    """Serve until SIGINT or SIGTERM; port 0 takes a free one. Once it listens, `say` is told what runs, and where.

    What was accepted is finished, for `grace_s`; where a worker is still at it `wedged_s` later, it is ended, and so is
    this process, with exit code 1.

    Raises:
        CameoError: a model cannot be opened, an option is wrong, or the port is taken.
    """
    offers = [Offer.of(one) for one in served]
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise CameoError(f"cannot listen on {host}:{port} ({error}): choose another --port or --host") from error
    with listening:
        address, free_port = listening.getsockname()[:2]
        server = PhotoServer(offers, open_crew(), options, Hosts.bound_to(host, address, options.allow_hosts))
        listens = False
        try:
            with _sigterm_exits():
                server.front.crew.open()
                listens = True
                _tell(server, _where(address, free_port), say)
                listener(server, options).run([listening])
        finally:
            # Those who asked have been answered or turned away by now: a worker that is still busy is wedged.
            if not server.close(min(options.grace_s, options.wedged_s)):
                _LOG.error("the engine is still at a photo: ended without waiting for it")
                sys.stdout.flush()
                os._exit(1)  # an ordinary exit would wait for its thread
            if listens:
                _LOG.info("ended")


def child_crew(served: Sequence[Served], work: WorkOptions, options: CrewOptions) -> Crew:
    """A crew whose workers are processes of their own: one, or one for each GPU."""
    return Crew(hires(served, work), options)


def _where(address: str, port: int) -> str:
    """An address at which this machine reaches the server: one that stands for every address is none."""
    any_address = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    host = any_address.get(address, address)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tell(server: PhotoServer, where: str, say: Callable[[str], None]) -> None:
    """What runs the models, and how to try the first."""
    for seat in server.front.crew.state().seats[:1]:
        for one in seat.worker.models if seat.worker else ():
            for about in (*(f"{net} on {engine}" for net, engine in one.engines.items()), *one.notes):
                say(f"{one.name}: {about}")
    first = server.front.first
    key = key_for_curl(server.front.options.keys is not None)
    example = f"curl {key}{first.example} {where}/v1/models/{first.name} -o result.png"
    say(f"serving on {where}; try: {example}")


class _Listener(uvicorn.Server):
    """Says that it ends, and what it still waits for."""

    front: Front

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        state, grace_s = self.front.crew.state(), self.front.options.grace_s
        inside = state.waiting + state.inside
        left = f": {count_of(inside, 'photo')} inside, which it finishes, within {grace_s:g} s"
        _LOG.info("told to end%s", left if inside else "")
        await super().shutdown(sockets)


def listener(server: PhotoServer, options: ServeOptions) -> uvicorn.Server:
    """What runs `server` on sockets, within the bounds of `options`."""
    config = uvicorn.Config(
        server.app,
        loop="asyncio",
        http=bounded(options),
        ws="none",
        lifespan="off",
        log_config=None,  # uvicorn's would close whatever handlers the program has
        access_log=False,  # ours tells more
        log_level="error",  # what clients do wrong is answered, not printed
        proxy_headers=False,
        server_header=False,
        backlog=min(options.max_connections, 128),  # asyncio accepts so many at once, before it counts them
        timeout_keep_alive=math.ceil(options.head_s),
        timeout_graceful_shutdown=math.ceil(options.grace_s) + 2,
    )
    made = _Listener(config)
    made.front = server.front
    return made


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more; of SIGTERM the process would die before models are freed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
