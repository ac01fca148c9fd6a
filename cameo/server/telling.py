"""What a server says of itself: whether it lives and is ready, its models, its metrics, its page and its document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from cameo.declaring import PHOTO, Declaration
from cameo.server.limits import JOBS
from cameo.server.offers import Offer
from cameo.server.openapi import document
from cameo.server.page import page
from cameo.workers.breaker import OPEN
from cameo.workers.calls import Opened, Seat, State

if TYPE_CHECKING:
    from cameo.server.front import Front


class Telling:
    """The endpoints that only tell."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def live(self, request: Request) -> Response:
        """200: this process answers."""
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> Response:
        """200 where a call would be taken, however long the queue is; else 503 and why (docs/decisions/188)."""
        why = _why_not(self._front.crew.state())
        return _as_ready({"ready": not why}, why)

    async def health(self, request: Request) -> Response:
        """The first model, its engines, and how many photos are inside; the status of `ready`."""
        offer, state = self._front.first, self._front.crew.state()
        why, engines = _why_not(state), next((one.engines for one in _opened(state, offer)), {})
        told = {"model": offer.name, "engines": dict(engines), "inside": state.waiting + state.inside}
        return _as_ready(told, why)

    async def models(self, request: Request) -> Response:
        """Every model, and the memory that they share."""
        state = self._front.crew.state()
        models = [_model(offer, state) for offer in self._front.offers.values()]
        return JSONResponse({"models": models, "workers": [_worker(seat) for seat in state.seats]})

    async def model(self, request: Request) -> Response:
        """One model."""
        return JSONResponse(_model(self._front.offer_of(request), self._front.crew.state()))

    async def openapi(self, request: Request) -> Response:
        """The OpenAPI document, with the address that it was asked for at."""
        where = str(request.base_url).rstrip("/")
        offers, options = tuple(self._front.offers.values()), self._front.options
        jobs = JOBS if options.jobs else ""
        return JSONResponse(document(offers, where, options.keys is not None, jobs))

    # These two read the disk, so that neither is "async": Starlette runs them in threads.

    def metrics(self, request: Request) -> Response:
        """What Prometheus asks for."""
        content, media_type = self._front.metrics.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": media_type})

    def page(self, request: Request) -> Response:
        """A page to try the models with."""
        return HTMLResponse(page(tuple(self._front.offers.values()), self._front.options.keys is not None))


def _as_ready(told: dict[str, Any], why: str) -> Response:
    """What is told, as 503 with the sentence `why` where there is one."""
    if not why:
        return JSONResponse(told)
    return JSONResponse({**told, "error": why}, 503, {"Retry-After": "1"})


def _why_not(state: State) -> str:
    """Why no call would be taken now, in a sentence, or ""."""
    if state.ready:
        return ""
    if any(seat.breaker == OPEN for seat in state.seats):
        return "workers failed several times, and the next is tried in a moment: see the log for why"
    return "no worker is ready: models are being opened, try again in a moment"


def _opened(state: State, offer: Offer) -> list[Opened]:
    """A model as workers hold it, in each of its modes."""
    workers = [seat.worker for seat in state.seats if seat.worker]
    return [one for worker in workers for one in worker.models if one.name == offer.name]


def _model(offer: Offer, state: State) -> dict[str, Any]:
    opened = [
        {
            "mode": one.mode,
            "engines": dict(one.engines),
            "batches": dict(one.batches),
            "notes": list(one.notes),
        }
        for one in _opened(state, offer)
    ]
    return {
        "name": offer.name,
        "flow": offer.flow,
        "takes": list(offer.takes),
        "consent": offer.consent,
        "modes": list(offer.modes),
        "options": [_option(one, getattr(offer.usual, one.name)) for one in offer.per_call],
        "opened": opened,
    }


def _option(one: Declaration, usual: Any) -> dict[str, Any]:
    default = None if one.kind is PHOTO else usual
    return {"name": one.name, "help": one.help, "expected": one.expected, "default": default}


def _worker(seat: Seat) -> dict[str, Any]:
    memory = seat.worker.memory if seat.worker else {}
    return {
        "inside": seat.inside,
        "breaker": seat.breaker,
        "restarts": seat.restarts,
        "memory": {place: {"used_bytes": one.used, "budget_bytes": one.budget} for place, one in memory.items()},
    }
