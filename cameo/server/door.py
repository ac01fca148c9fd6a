"""Who may ask, and what is answered when something goes wrong.

A page of another site can make its reader's browser ask a server on the reader's own machine. Two headers give it away,
which pages cannot forge: `Host`, the name that the browser looked up (a site that points its name at 127.0.0.1, DNS
rebinding, still says that name), and `Origin`, the site that a POST comes from.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

_LOG = logging.getLogger(__name__)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


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
    """`app` for those who may ask; `hosts` None lets every Host in, for a server behind one that looks."""

    def __init__(self, app: ASGIApp, hosts: Hosts | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application: no error leaves it, so that no client's doing prints a traceback."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await (self._refusal(scope) or self._app)(scope, receive, send)
        except Exception as error:  # a bug: the sender has got the answer of `answer_to_a_bug`
            _LOG.error("%s %r failed", scope["method"], scope["path"], exc_info=error)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if self._hosts and not self._hosts.answers_to(host):
            names = ", ".join(sorted(self._hosts.names))
            return refused(421, f"this server is {names}, not {host!r:.80}: start it with --allow-host if it is")
        if origin is not None and scope["method"] == "POST" and origin.partition("://")[2].lower() != host.lower():
            return refused(
                403, f"a page of {origin!r:.80} may not use this server: open its own page at http://{host}/"
            )
        if scope["query_string"]:
            query = scope["query_string"].decode("latin-1")
            return refused(400, f"the address has the parameters {query!r:.80}, expected none: leave them out")
        return None


def refused(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    """An error as JSON."""
    return JSONResponse({"error": sentence}, status, headers)


def answer_to_a_refusal(request: Request, error: Exception) -> Response:
    """Every refusal, 404 and 405 included, as JSON."""
    raised = cast("HTTPException", error)
    return refused(raised.status_code, raised.detail, dict(raised.headers or {}))


def answer_to_nobody(request: Request, error: Exception) -> Response:
    """For ClientDisconnect: what is sent now is dropped, and so is the photo."""
    return refused(400, "the sender hung up")


def answer_to_a_bug(request: Request, error: Exception) -> Response:
    """The rest, in a sentence that tells nothing of the inside."""
    return refused(500, "the server failed at this request: its log says how")


HANDLERS = {
    HTTPException: answer_to_a_refusal,
    ClientDisconnect: answer_to_nobody,
    Exception: answer_to_a_bug,
}
