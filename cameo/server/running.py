"""A photo in, a picture out: `POST /v1/models/{model}`, and `/run` for the first model."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from cameo.errors import Busy, CameoError, EngineUnavailable, Late, PhotoError, PhotoTooLarge, RequestError
from cameo.server.exchange import exchange_of
from cameo.server.offers import MEDIA_TYPES, MODE
from cameo.server.refusals import Refusal
from cameo.workers.calls import Answer, Call

if TYPE_CHECKING:
    from cameo.server.front import Front

TIMEOUT_HEADER: Final = "X-Cameo-Timeout"
_LEAST_S: Final = 0.01
"""Nothing is made in less."""


class Running:
    """The endpoints that run photos."""

    def __init__(self, front: Front) -> None:
        self._front = front

    async def run(self, request: Request) -> Response:
        """The result for what was sent to a model."""
        offer = self._front.offer_of(request)
        patience_s = _patience_s(request, self._front.options.timeout_s)
        try:  # who is not let in need not send the photo
            self._front.crew.check_door(min(patience_s, self._front.options.timeout_s))
        except Busy as error:
            raise refusal_of(error) from error
        within_s = max(patience_s - exchange_of(request.scope).seconds, _LEAST_S)
        async with self._front.uploads.receive(request, offer.most_files, offer.example, within_s) as sent:
            try:
                call = offer.call(sent.files, sent.fields, request.headers.get("accept", ""))
                answer = await self._answer(request, call, patience_s)
            except EngineUnavailable as error:  # of what was opened at the start there is one
                raise HTTPException(400 if sent.fields.get(MODE) else 500, str(error)) from error
            except CameoError as error:
                raise refusal_of(error) from error
        exchange_of(request.scope).answer = answer
        return _response(answer, call)

    async def _answer(self, request: Request, call: Call, patience_s: float) -> Answer:
        """The answer to a call in its turn; it is given up if nobody waits for it any more.

        Raises:
            CameoError: it has none.
            ClientDisconnect: the sender hung up.
        """
        left_s = min(patience_s - exchange_of(request.scope).seconds, self._front.options.timeout_s)
        if left_s < _LEAST_S:
            raise Late(f"the photo took longer to come than {patience_s:g} s: send a smaller one, or wait longer")
        answer = asyncio.wrap_future(self._front.crew.submit(call, left_s))
        gone = asyncio.create_task(_hung_up(request))
        try:
            either: set[asyncio.Future[Any]] = {answer, gone}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise ClientDisconnect
        finally:
            answer.cancel()
            gone.cancel()
            del answer, either, call  # else an error holds this frame, which holds the error, and the photo with it


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _patience_s(request: Request, most_s: float) -> float:
    """How long the sender waits in all, by a header, or for ever: it is let wait `most_s` once the photo is there."""
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return math.inf
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not seconds > 0:
        raise HTTPException(400, f"{TIMEOUT_HEADER} is {given!r:.40}, expected seconds above 0, such as {most_s:g}")
    return seconds


def refusal_of(error: CameoError) -> HTTPException:
    """One of our errors as an answer: 400 and 413 are the sender's, 503 and 504 may be tried again, 500 is ours."""
    if isinstance(error, Busy):
        return Refusal(503, str(error), error.reason, max(math.ceil(error.retry_after_s), 1))
    statuses = ((Late, 504), (PhotoTooLarge, 413), (PhotoError, 400), (RequestError, 400))
    return HTTPException(next((status for kind, status in statuses if isinstance(error, kind)), 500), str(error))


def _response(answer: Answer, call: Call) -> Response:
    timing = ", ".join(f"{part};dur={1000 * seconds:.1f}" for part, seconds in answer.seconds.items())
    headers = {"X-Cameo-Faces": str(answer.faces), "X-Cameo-Model": call.model, "Server-Timing": timing}
    if answer.note:
        headers["X-Cameo-Note"] = quote(answer.note)
    return Response(answer.content, media_type=MEDIA_TYPES[call.suffix], headers=headers)
