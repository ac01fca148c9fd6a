"""One request and its answer, as errors, the access log and the metrics tell of it."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from cameo.workers.calls import Answer

ID_HEADER: Final = "X-Request-Id"
_SANE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
HUNG_UP: Final = 499
"""The status of who is gone before the answer, as nginx logs it."""


@dataclass(eq=False)
class Exchange:
    """What is known of a request so far; handlers fill it in.

    `key` names whose API key came, `model` what was asked for, `reason` in a word why it was refused, `error` says it.
    `route` is the path as it was declared, so that nobody's addresses become metrics.
    """

    id: str
    method: str
    path: str
    client: str
    key: str = ""
    model: str = ""
    reason: str = ""
    error: str = ""
    answer: Answer | None = None
    status: int = 0
    received: int = 0
    sent: int = 0
    route: str = "other"
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since its head came."""
        return time.monotonic() - self.started

    @property
    def is_probe(self) -> bool:
        """Whether a machine asks how the server is, which it does all day."""
        return self.method == "GET" and self.path in ("/live", "/ready", "/health", "/metrics")


def exchange_of(scope: Scope) -> Exchange:
    """The exchange that a request belongs to."""
    return cast(Exchange, scope["state"]["exchange"])


class Exchanges:
    """`app` with an `Exchange` for each request, whose id its answer has; `told` hears of each at its end.

    The id is what the sender calls it (`X-Request-Id`), where that is a short word; else one is made.
    """

    def __init__(self, app: ASGIApp, told: Callable[[Exchange], None]) -> None:
        self._app, self._told = app, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _begun(scope)
        scope.setdefault("state", {})["exchange"] = exchange

        async def counted_receive() -> Message:
            message = await receive()
            exchange.received += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = exchange.status or message["status"]
                MutableHeaders(scope=message)[ID_HEADER] = exchange.id
            exchange.sent += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, counted_receive, counted_send)
        finally:
            exchange.route = getattr(scope.get("route"), "path", exchange.route)
            self._told(exchange)


def _begun(scope: Scope) -> Exchange:
    given = Headers(scope=scope).get(ID_HEADER, "")
    name = given if _SANE_ID.fullmatch(given) else secrets.token_hex(8)
    client = scope.get("client") or ("", 0)
    return Exchange(name, scope["method"], scope["path"], client[0])
