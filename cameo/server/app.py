"""The endpoints around a crew, as one ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp

from cameo.server.exchange import Exchange, Exchanges
from cameo.server.front import Front
from cameo.server.jobs import Jobs, without_jobs
from cameo.server.limits import ServeOptions
from cameo.server.logs import log_exchange
from cameo.server.metrics import Metrics
from cameo.server.offers import Offer
from cameo.server.refusals import HANDLERS, Door, Hosts
from cameo.server.running import Running
from cameo.server.telling import Telling
from cameo.server.uploads import Uploads
from cameo.workers.crew import Crew


class PhotoServer:
    """Models behind `app`, an ASGI application that answers to `hosts` (None: to every name).

    `crew` runs their calls; `close` ends it.
    """

    def __init__(self, offers: Sequence[Offer], crew: Crew, options: ServeOptions, hosts: Hosts | None = None) -> None:
        uploads = Uploads(options, max(offer.most_files for offer in offers))
        metrics = Metrics(crew.state, lambda: uploads.held_bytes)
        self.front = Front({offer.name: offer for offer in offers}, crew, options, uploads, metrics)
        self._jobs = Jobs(self.front, options.jobs) if options.jobs else None
        self.routes = [*_routes(self.front), *(self._jobs.routes() if self._jobs else [])]
        refusing = [] if self._jobs else without_jobs()
        starlette = Starlette(routes=[*self.routes, *refusing], exception_handlers=HANDLERS)
        self.app: ASGIApp = Exchanges(Door(starlette, hosts, options.keys), self._told)

    def _told(self, exchange: Exchange) -> None:
        """Count and log an exchange that is over."""
        self.front.metrics.note(exchange)
        workers = [seat.worker for seat in self.front.crew.state().seats if seat.worker]
        memory = [place for worker in workers for place in worker.memory.values()]
        log_exchange(exchange, sum(place.used for place in memory), sum(place.budget or 0 for place in memory))

    def close(self, patience_s: float) -> bool:
        """Finish what was accepted and free the models; False if that is not done in `patience_s`.

        Jobs are left to the next server.
        """
        if self._jobs:
            self._jobs.close()
        return self.front.crew.close(patience_s)


def _routes(front: Front) -> list[Route]:
    run, tell = Running(front).run, Telling(front)
    return [
        Route("/v1/models/{model}", run, methods=["POST"]),
        Route("/run", run, methods=["POST"]),
        Route("/v1/models/{model}", tell.model, methods=["GET"]),
        Route("/v1/models", tell.models, methods=["GET"]),
        Route("/live", tell.live, methods=["GET"]),
        Route("/ready", tell.ready, methods=["GET"]),
        Route("/health", tell.health, methods=["GET"]),
        Route("/metrics", tell.metrics, methods=["GET"]),
        Route("/openapi.json", tell.openapi, methods=["GET"]),
        Route("/", tell.page, methods=["GET"]),
    ]
