"""Who may ask, and what is answered when something goes wrong.

Where there are API keys, every request but those for `OPEN` has one. And a page of another site can make its reader's
browser ask a server on the reader's own machine. Two headers give it away, which pages cannot forge: `Host`, the name
that the browser looked up (a site that points its name at 127.0.0.1, DNS rebinding, still says that name), and
`Origin`, the site that a POST comes from.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, cast

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from cameo.server.exchange import HUNG_UP, exchange_of
from cameo.server.keys import ApiKeys
from cameo.workers.calls import ENDING

_LOG = logging.getLogger(__name__)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_READING: Final = ("GET", "HEAD")
OPEN: Final = ("/", "/live", "/ready")
"""Paths that need no key: the page, which asks for one, and what tells an orchestrator how the server is."""
_NOWHERE: Final = HTTPException(404).detail
REASONS: Final = {
    400: "request",
    401: "key",
    403: "origin",
    404: "path",
    405: "method",
    408: "stalled",
    413: "too_large",
    415: "type",
    421: "host",
    HUNG_UP: "hung_up",
    500: "failed",
    503: "busy",
    504: "late",
}
"""A word for each status, for logs and metrics."""


@dataclass(frozen=True)
class Hosts:
    """The names that a server answers to; with `any_address` also every bare address, which is no name to rebind."""

    names: frozenset[str]
    any_address: bool = False

    @classmethod
    def bound_to(cls, host: str, address: str, more: Iterable[str] = ()) -> Hosts:
        """For a server that was told to listen on `host`, which is `address`."""
        where = ipaddress.ip_address(address.partition("%")[0])
        local = (*_LOOPBACK, *((socket.gethostname(),) if where.is_unspecified else ()))
        names = (host, address, *(local if where.is_loopback or where.is_unspecified else ()), *more)
        return cls(frozenset(name.lower() for name in names), where.is_unspecified)

    def answers_to(self, host: str) -> bool:
        """Whether a `Host` header, "name", "name:port" or "[address]:port", names this server."""
        found = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::\d*)?", host.lower())
        name = (found[1] or found[2]).rstrip(".") if found else ""
        return name in self.names or (self.any_address and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Door:
    """`app` for those who may ask; `hosts` None lets every Host in, for a server behind one that looks.

    With `keys`, only those who have one.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts | None, keys: ApiKeys | None = None) -> None:
        self._app = app
        self._hosts = hosts
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application: no error leaves it, so that no client's doing prints a traceback."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await (self._refusal(scope) or self._app)(scope, receive, send)
        except asyncio.CancelledError:  # the server was told to end once more, or waited long enough
            if not exchange_of(scope).status:
                said = "the server ends without waiting for this request: send it again when it is back"
                await refused(scope, 503, said, {"Retry-After": "1"}, ENDING)(scope, receive, send)
        except Exception as error:  # a bug: the sender has got the answer of `answer_to_a_bug`
            name = exchange_of(scope).id
            _LOG.error("%s %r failed (request %s)", scope["method"], scope["path"], name, exc_info=error)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._hosts and not self._hosts.answers_to(host):
            names = ", ".join(sorted(self._hosts.names))
            said = f"this server is {names}, not {host!r:.80}: start it with --allow-host if it is"
            return refused(scope, 421, said)
        if (
            origin is not None
            and scope["method"] not in _READING
            and origin.partition("://")[2].lower() != host.lower()
        ):
            said = f"a page of {origin!r:.80} may not use this server: open its own page at http://{host}/"
            return refused(scope, 403, said)
        if not self._has_key(scope, headers):
            said = "the request has no API key that is let in: send one as Authorization: Bearer KEY, or X-API-Key"
            return refused(scope, 401, said, {"WWW-Authenticate": "Bearer"})
        if scope["query_string"]:
            query = scope["query_string"].decode("latin-1")
            said = f"the address has the parameters {query!r:.80}, expected none: send options as fields of a form"
            return refused(scope, 400, said)
        return None

    def _has_key(self, scope: Scope, headers: Headers) -> bool:
        if self._keys is None:
            return True
        owner = self._keys.owner(headers)
        exchange_of(scope).key = owner or ""
        return owner is not None or scope["path"] in OPEN


class Refusal(HTTPException):
    """A status and a sentence, with a word of its own for logs and metrics instead of the status's."""

    def __init__(self, status: int, sentence: str, reason: str, retry_after_s: int | None = None) -> None:
        headers = {"Retry-After": str(retry_after_s)} if retry_after_s is not None else None
        super().__init__(status, sentence, headers)
        self.reason = reason


def refused(
    scope: Scope, status: int, sentence: str, headers: dict[str, str] | None = None, reason: str = ""
) -> Response:
    """An error as JSON, which its exchange remembers."""
    exchange = exchange_of(scope)
    exchange.error, exchange.reason = sentence, reason or REASONS.get(status, str(status))
    return JSONResponse({"error": sentence, "request_id": exchange.id}, status, headers)


def answer_to_a_refusal(request: Request, error: Exception) -> Response:
    """Every refusal, 404 and 405 included, as JSON."""
    raised = cast("HTTPException", error)
    reason = raised.reason if isinstance(raised, Refusal) else ""
    headers, said = dict(raised.headers or {}), raised.detail
    if raised.status_code == 405:
        headers["Allow"] = ", ".join(sorted(_methods(request)))
        said = f"{request.method:.20} is not possible at {request.url.path!r:.80}, expected {headers['Allow']}"
    elif said == _NOWHERE:
        said = f"there is nothing at {request.url.path!r:.80}: /openapi.json lists what there is"
    return refused(request.scope, raised.status_code, said, headers, reason)


def _methods(request: Request) -> set[str]:
    """What may be done at an address, which may have several routes: Starlette tells of the first."""
    routes = [one for one in request.app.routes if one.matches(request.scope)[0] is not Match.NONE]
    return {method for route in routes for method in route.methods}


def answer_to_nobody(request: Request, error: Exception) -> Response:
    """For ClientDisconnect: what is sent now is dropped, and so is the photo."""
    exchange_of(request.scope).status = HUNG_UP
    return refused(request.scope, 400, "the sender hung up", reason=REASONS[HUNG_UP])


def answer_to_a_bug(request: Request, error: Exception) -> Response:
    """The rest, in a sentence that tells nothing of the inside."""
    return refused(request.scope, 500, "the server failed at this request: its log says how")


HANDLERS = {
    HTTPException: answer_to_a_refusal,
    ClientDisconnect: answer_to_nobody,
    Exception: answer_to_a_bug,
}
