"""What endpoints share: the models, the crew that runs them, what comes in, and what is counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.exceptions import HTTPException
from starlette.requests import Request

from cameo.server.exchange import exchange_of
from cameo.server.limits import ServeOptions
from cameo.server.metrics import Metrics
from cameo.server.offers import Offer
from cameo.server.uploads import Uploads
from cameo.workers.crew import Crew


@dataclass(frozen=True, eq=False)
class Front:
    """One server's: models by name, the first of which is the one of `/run`."""

    offers: Mapping[str, Offer]
    crew: Crew
    options: ServeOptions
    uploads: Uploads
    metrics: Metrics

    @property
    def first(self) -> Offer:
        """The model that is meant where none is named."""
        return next(iter(self.offers.values()))

    def offer_of(self, request: Request) -> Offer:
        """The model that a request's address names.

        Raises:
            HTTPException: 404 there is none of that name.
        """
        name = request.path_params.get("model", self.first.name)
        if name not in self.offers:
            raise HTTPException(404, f"no model {name!r:.80} is served here, expected one of {', '.join(self.offers)}")
        exchange_of(request.scope).model = name
        return self.offers[name]
