"""uvicorn's HTTP/1.1 with bounds: it would wait for ever for a head to end and for an answer to be taken.

Each connection is looked at now and then. What it waits for is either the app's business (a photo on its way in or in
work) or the client's: then there must be progress, counted in steps, so that a drop now and then is none
(docs/decisions/121).
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, ClassVar, Final, NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from cameo.memory.amounts import MIB
from cameo.server.limits import ServeOptions

_STEP: Final = 2**16
_LOOKS: Final = 5  # within the time that is waited


class _Wait(NamedTuple):
    """What a client is waited for, and how far it has come: the same twice is no progress."""

    answer: bool
    cycle: RequestResponseCycle | None
    steps: int


class BoundedProtocol(H11Protocol):
    """One connection."""

    options: ClassVar[ServeOptions]
    _wait: _Wait | None = None
    _since = 0.0
    _next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Where there are too many, the one that has waited longest for its head to end makes room."""
        super().connection_made(transport)
        # asyncio does it for sockets that say they are TCP, which those of `socket.create_server` do not: a small
        # answer on a connection that stays open would wait 40 ms for the client's delayed acknowledgement.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._look()
        if len(self.connections) > self.options.max_connections:
            waiting = [c for c in self._all() if c is not self and c._waits_for_head()]
            if waiting:
                _longest(waiting).transport.abort()
            else:
                self._answer_and_close(503, "too many connections are open: try again in a moment")

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is looked at any more."""
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        wait, now = self._waits_for(), self.loop.time()
        patience = self.options.stall_s if wait and wait.answer else self.options.head_s
        if wait != self._wait:
            self._wait, self._since = wait, now
        elif wait and now - self._since > patience:
            self.transport.abort()
            return
        self._next_look = self.loop.call_later(patience / _LOOKS, self._look)

    def _waits_for(self) -> _Wait | None:
        """None where it is the app's business."""
        unread = self.unread()
        if unread:
            return _Wait(True, self.cycle, unread // _STEP)
        if self.cycle is None or self.cycle.response_complete:
            return _Wait(False, self.cycle, 0)
        return None

    def _waits_for_head(self) -> bool:
        wait = self._waits_for()
        return wait is not None and not wait.answer and not self.transport.is_closing()

    def unread(self) -> int:
        """Bytes of answers that the client has not taken."""
        return self.transport.get_write_buffer_size()

    def on_response_complete(self) -> None:
        """Where too much is unread in all, those who have taken nothing for longest lose theirs."""
        super().on_response_complete()
        if self._next_look is not None:
            self._next_look.cancel()
        self._look()
        while sum(c.unread() for c in self._all()) > self.options.max_unread_mib * MIB:
            _longest(c for c in self._all() if c.unread()).transport.abort()

    def shutdown(self) -> None:
        """Finish what is inside, for `grace_s`."""
        with suppress(h11.LocalProtocolError):
            super().shutdown()
        self.loop.call_later(self.options.grace_s, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so in JSON, if nothing was answered yet."""
        self._answer_and_close(400, f"{msg.rstrip('.')}, expected HTTP/1.1: use curl or a browser")

    def _answer_and_close(self, status: int, sentence: str) -> None:
        content = json.dumps({"error": sentence}).encode()
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(content))), ("Connection", "close")]
        headers += [("Retry-After", "1")] if status == 503 else []
        with suppress(h11.LocalProtocolError):
            events = (h11.Response(status_code=status, headers=headers), h11.Data(content), h11.EndOfMessage())
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()

    def _all(self) -> list[BoundedProtocol]:
        return [c for c in self.connections if isinstance(c, BoundedProtocol)]


def _longest(connections: Iterable[BoundedProtocol]) -> BoundedProtocol:
    return min(connections, key=lambda connection: connection._since)


def bounded(limits: ServeOptions) -> Any:
    """The protocol class for `uvicorn.Config(http=...)`."""
    return type("Bounded", (BoundedProtocol,), {"options": limits})
