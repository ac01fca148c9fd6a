"""The three endpoints around one loaded model, and `serve`."""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from cameo.errors import CameoError, PhotoError, PhotoTooLarge, RequestError
from cameo.images import ReadOptions, encode_image, read_picture
from cameo.options import PHOTO, Declared
from cameo.server.connections import bounded
from cameo.server.door import HANDLERS, Door, Hosts
from cameo.server.line import Line
from cameo.server.options import ServeOptions
from cameo.server.page import page
from cameo.server.uploads import Sent, Uploads

if TYPE_CHECKING:
    from cameo.loading import Loaded

_SUFFIXES: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
# Of ONNX Runtime, OpenVINO, OpenCV, TensorRT and C++, which have no class of error for it
_OUT_OF_MEMORY: Final = re.compile(
    r"bad.alloc|(fail\w*|cannot|unable) to (re)?alloc|(insufficient|out of) ?memory", re.I
)


_SENDERS: Final = (PhotoError, RequestError)
"""Errors that are the sender's."""


@dataclass(frozen=True)
class _Call:
    files: Mapping[str, bytes]
    request: Declared


@dataclass(frozen=True)
class _Answer:
    content: bytes
    faces: int
    note: str


class PhotoServer:
    """One loaded model behind `app`, an ASGI application that answers to `hosts` (None: to every name)."""

    def __init__(self, open_model: Callable[[], Loaded], options: ServeOptions, hosts: Hosts | None = None) -> None:
        self.options = options
        self._line = Line(open_model)
        self.model = self._line.model
        self._pictures = [one.name for one in self.model.per_call if one.kind is PHOTO]
        self._uploads = Uploads(options, len(self.model.takes) + len(self._pictures))
        routes = (("/", self._page, "GET"), ("/health", self._health, "GET"), ("/run", self._run, "POST"))
        starlette = Starlette(
            routes=[Route(path, endpoint, methods=[method]) for path, endpoint, method in routes],
            exception_handlers=HANDLERS,
        )
        self.app = Door(starlette, hosts)

    def close(self, patience_s: float | None = None) -> bool:
        """Finish the photo in work and free the model; False if that photo is not done in `patience_s`."""
        return self._line.close(patience_s)

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(page(self.model.bundle.manifest.model, self.model.takes, self.model.per_call))

    async def _health(self, request: Request) -> Response:
        engines = {name: f"{entry.engine} {entry.precision}" for name, entry in self.model.engines.items()}
        state: dict[str, Any] = {"model": self.model.bundle.manifest.model, "engines": engines}
        stuck = self._stuck()
        return JSONResponse(
            {**state, "inside": self._line.inside, **({"error": stuck} if stuck else {})}, 503 if stuck else 200
        )

    def _stuck(self) -> str:
        """A sentence while the photo in work takes longer than anyone waits for it, else ""."""
        took_s = self._line.running_s
        if took_s <= self.options.timeout_s:
            return ""
        since = datetime.now(UTC) - timedelta(seconds=took_s)
        return (
            f"the engine has been at one photo since {since:%Y-%m-%dT%H:%M:%SZ}, {took_s:.0f} s, expected at most "
            f"{self.options.timeout_s:g} s: restart the server if it stays so"
        )

    async def _run(self, request: Request) -> Response:
        self._check_line()
        media_type = _media_type(request.headers.get("accept", ""))
        async with self._uploads.receive(request) as sent:
            self._check_line()
            answer = await self._answer(request, self._call(sent), _SUFFIXES[media_type])
        headers = {"X-Cameo-Faces": str(answer.faces), "X-Cameo-Note": quote(answer.note)}
        return Response(answer.content, media_type=media_type, headers=headers)

    def _check_line(self) -> None:
        """Turn away at once who would wait too long, instead of when the time is over."""
        line, patience_s = self._line, self.options.timeout_s
        retry_s = max(math.ceil(line.wait_s), 2)
        if stuck := self._stuck():
            raise HTTPException(503, stuck, {"Retry-After": str(math.ceil(patience_s))})
        if line.inside >= self.options.queue:
            busy = f"{line.inside} photos are inside already, as many as are let in: try again in {retry_s} s"
            raise HTTPException(503, busy, {"Retry-After": str(retry_s)})
        if line.inside and line.wait_s + line.usual_s > patience_s:
            late = f"{line.inside} photos are inside, which take about {line.wait_s:.0f} s: try again in {retry_s} s"
            raise HTTPException(503, late, {"Retry-After": str(retry_s)})

    def _call(self, sent: Sent) -> _Call:
        """The photos that were sent, by the names that the model takes, and what to do with them.

        Raises:
            HTTPException: 400 a photo is missing, or a field is unknown or out of range.
        """
        takes, files = self.model.takes, dict(sent.files)
        pictures = {name: files.pop(name) for name in self._pictures if name in files}
        if len(takes) == 1 and len(files) == 1:
            files = {takes[0]: next(iter(files.values()))}  # whatever its field is called
        if set(files) != set(takes):
            got = ", ".join(name or "one photo" for name in files) or "no photo"
            raise HTTPException(400, f"{got} came, expected {' and '.join(takes)}: send a form with a file for each")
        if as_text := [name for name in self._pictures if name in sent.fields]:  # a path of this machine, perhaps
            raise HTTPException(400, f"{', '.join(as_text)} came as text, expected a picture: send its file")
        known = {one.name: one for one in self.model.per_call}
        texts = {name: known[name].from_text(text) if name in known else text for name, text in sent.fields.items()}
        try:
            return _Call({name: files[name] for name in takes}, self.model.request(**texts, **pictures))
        except RequestError as error:
            raise HTTPException(400, str(error)) from None

    async def _answer(self, request: Request, call: _Call, suffix: str) -> _Answer:
        """The result of a call in its turn; it is dropped if nobody waits for it any more."""
        result = asyncio.wrap_future(self._line.enter(partial(self._work, suffix), call))
        gone = asyncio.create_task(_hung_up(request))
        try:
            either: set[asyncio.Future[Any]] = {result, gone}
            await asyncio.wait(either, timeout=self.options.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
        except CameoError as error:
            status = 413 if isinstance(error, PhotoTooLarge) else 400 if isinstance(error, _SENDERS) else 500
            raise HTTPException(status, str(error)) from error
        finally:
            result.cancel()
            gone.cancel()
        if gone.done():
            raise ClientDisconnect
        raise HTTPException(504, f"no result within {self.options.timeout_s:g} s: try again, or send a smaller photo")

    def _work(self, suffix: str, call: _Call) -> _Answer:
        try:
            limit = ReadOptions(self.options.max_megapixels * 1_000_000)
            pictures = {name: read_picture(file, limit) for name, file in call.files.items()}
            result = self.model.run(pictures, call.request)
            content = encode_image(result.image, suffix, next(iter(pictures.values())).exif)
            return _Answer(content, len(result.faces), result.note)
        except Exception as error:
            if _ran_out_of_memory(error):
                raise PhotoTooLarge("the photo does not fit into the memory of this machine: shrink it") from error
            raise


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _ran_out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or (not isinstance(error, PhotoError) and _OUT_OF_MEMORY.search(str(error))):
            return True
        error = error.__cause__
    return False


def serve(open_model: Callable[[], Loaded], options: ServeOptions, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; port 0 takes a free one. Says where once it listens.

    An engine that is still at a photo `grace_s` after everybody was told to end cannot be stopped: then the process
    ends with exit code 1.

    Raises:
        CameoError: the model cannot be opened, or the port is taken.
    """
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise CameoError(f"cannot listen on {host}:{port} ({error}): choose another --port or --host") from error
    with listening:
        address, free_port = listening.getsockname()[:2]
        server = PhotoServer(open_model, options, Hosts.bound_to(host, address, options.allow_hosts))
        print(server.model.describe())
        where = f"http://[{host}]:{free_port}" if ":" in host else f"http://{host}:{free_port}"
        print(f"serving on {where}; try: curl --data-binary @photo.jpg {where}/run -o result.png", flush=True)
        try:
            with _sigterm_exits():
                listener(server, options).run([listening])
        finally:
            if not server.close(options.grace_s):
                print("error: the engine is still at a photo: ended without waiting for it", file=sys.stderr)
                sys.stdout.flush()
                os._exit(1)  # an ordinary exit would wait for its thread


def listener(server: PhotoServer, options: ServeOptions) -> uvicorn.Server:
    """What runs `server` on sockets, within the bounds of `options`."""
    config = uvicorn.Config(
        server.app,
        loop="asyncio",
        http=bounded(options),
        ws="none",
        lifespan="off",
        log_config=None,  # uvicorn's would close whatever handlers the program has
        access_log=False,
        log_level="error",  # what clients do wrong is answered, not printed
        proxy_headers=False,
        server_header=False,
        backlog=min(options.max_connections, 128),  # asyncio accepts so many at once, before it counts them
        timeout_keep_alive=math.ceil(options.head_s),
        timeout_graceful_shutdown=math.ceil(options.grace_s) + 2,
    )
    return uvicorn.Server(config)


@contextmanager
def _sigterm_exits() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more; of SIGTERM the process would die before the model is freed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _media_type(accept: str) -> str:
    """The first type of an Accept header that can be written, else PNG."""
    wanted = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return next((kind for kind in wanted if kind in _SUFFIXES), "image/png")
