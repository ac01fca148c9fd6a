"""`cameo serve`: photo in, photo out over HTTP.

    POST /run       the body is a photo's file; the answer is the result: PNG, or what Accept asks for first
    GET  /health    the model, its engines and how many photos are inside
    GET  /          a page to try it with

Memory is bounded, however many clients there are: one photo at a time is decoded and run; at most `queue` are inside,
those that wait as the bytes of their files; whoever comes then is turned away before a byte of the photo is kept.
Errors are JSON, `{"error": sentence}`: 400 a photo that cannot be taken, 413 too many bytes, 503 busy, 504 too late.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from cameo.errors import CameoError, PhotoError
from cameo.images import encode_image, read_photo

if TYPE_CHECKING:
    from cameo.loading import Loaded

_SUFFIXES: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}


@dataclass(frozen=True)
class ServeOptions:
    """`queue`: photos inside at once, the running one included; `timeout_s`: from the request to its answer."""

    queue: int = 8
    timeout_s: float = 30.0
    max_upload_mib: int = 64
    max_megapixels: int = 50


@dataclass(frozen=True)
class _Answer:
    content: bytes
    faces: int
    note: str


class PhotoServer:
    """One loaded model behind `app`, an ASGI application.

    The model is opened, run and closed in one thread of its own: sessions are not safe to share, and a CUDA context
    belongs to the thread that made it.
    """

    def __init__(self, open_model: Callable[[], Loaded], options: ServeOptions) -> None:
        self.options = options
        self._inside = 0
        self._counting = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "cameo")
        try:
            self.model = self._worker.submit(open_model).result()
        except BaseException:
            self._worker.shutdown()
            raise
        routes = (("/", self._page, "GET"), ("/health", self._health, "GET"), ("/run", self._run, "POST"))
        self.app = Starlette(
            routes=[Route(path, endpoint, methods=[method]) for path, endpoint, method in routes],
            exception_handlers={HTTPException: _as_json},
        )

    def close(self) -> None:
        """Drop the photos that wait, finish the one in work and free the model."""
        self._worker.submit(self.model.close)
        self._worker.shutdown()

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(_PAGE.replace("MODEL", self.model.bundle.manifest.model))

    async def _health(self, request: Request) -> Response:
        engines = {name: f"{entry.engine} {entry.precision}" for name, entry in self.model.engines.items()}
        return JSONResponse({"model": self.model.bundle.manifest.model, "engines": engines, "inside": self._inside})

    async def _run(self, request: Request) -> Response:
        if not self._enter():
            busy = f"{self.options.queue} photos are inside already, as many as are let in: try again in a moment"
            raise HTTPException(503, busy, {"Retry-After": "2"})
        media_type = _media_type(request.headers.get("accept", ""))
        job: Future[_Answer] | None = None
        try:
            async with asyncio.timeout(self.options.timeout_s):
                photo = await self._body(request)
                job = self._worker.submit(self._work, photo, _SUFFIXES[media_type])
                answer = await asyncio.wrap_future(job)
        except TimeoutError as error:
            late = f"no result within {self.options.timeout_s:g} s: try again, or send a smaller photo"
            raise HTTPException(504, late) from error
        except CameoError as error:
            raise HTTPException(400 if isinstance(error, PhotoError) else 500, str(error)) from error
        finally:
            if job is None:
                self._leave()
            else:
                job.cancel()  # one that runs cannot be stopped: its place is free when it is done
                job.add_done_callback(self._leave)
        headers = {"X-Cameo-Faces": str(answer.faces), "X-Cameo-Note": quote(answer.note)}
        return Response(answer.content, media_type=media_type, headers=headers)

    def _enter(self) -> bool:
        with self._counting:
            free = self._inside < self.options.queue
            self._inside += free
        return free

    def _leave(self, _: Any = None) -> None:
        with self._counting:
            self._inside -= 1

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.options.max_upload_mib * 2**20:
                limit = f"{self.options.max_upload_mib} MiB"
                raise HTTPException(413, f"the photo's file is larger than {limit}: shrink it, or save it as JPEG")
        return bytes(body)

    def _work(self, photo: bytes, suffix: str) -> _Answer:
        result = self.model.flow.run(read_photo(photo, self.options.max_megapixels * 1_000_000))
        return _Answer(encode_image(result.image, suffix), len(result.faces), result.note)


def serve(open_model: Callable[[], Loaded], options: ServeOptions, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; port 0 takes a free one. Says where once it listens.

    Raises:
        CameoError: the model cannot be opened, or the port is taken.
    """
    import uvicorn

    try:
        listening = socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        raise CameoError(f"cannot listen on {host}:{port} ({error}): choose another --port or --host") from error
    with listening:
        server = PhotoServer(open_model, options)
        print(server.model.describe())
        where = f"http://{host}:{listening.getsockname()[1]}"
        print(f"serving on {where}; try: curl --data-binary @photo.jpg {where}/run -o result.png", flush=True)
        try:
            uvicorn.Server(uvicorn.Config(server.app, log_level="warning")).run([listening])
        finally:
            server.close()


def _media_type(accept: str) -> str:
    """The first type of an Accept header that can be written, else PNG."""
    wanted = (part.partition(";")[0].strip().lower() for part in accept.split(","))
    return next((kind for kind in wanted if kind in _SUFFIXES), "image/png")


def _as_json(request: Request, error: Exception) -> Response:
    """Every refusal, 404 and 405 included, as JSON."""
    refused = cast("HTTPException", error)
    return JSONResponse({"error": refused.detail}, refused.status_code, refused.headers)


_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Cameo: MODEL</title>
<style>body{font:16px sans-serif;margin:2rem} img{max-width:48%;vertical-align:top} p{min-height:1.5em}</style>
<h1>MODEL</h1>
<input type="file" accept="image/*" aria-label="a photo">
<p role="status">Choose a photo.</p>
<img id="before" alt=""> <img id="after" alt="">
<script>
const status = document.querySelector("p"), [before, after] = document.querySelectorAll("img");
document.querySelector("input").onchange = async ({target}) => {
  const photo = target.files[0];
  if (!photo) return;
  before.src = URL.createObjectURL(photo);
  after.removeAttribute("src");
  status.textContent = "Working...";
  const answer = await fetch("run", {method: "POST", body: photo}).catch(error => ({ok: false, error}));
  if (!answer.ok) {
    status.textContent = answer.error ?? (await answer.json()).error;
    return;
  }
  after.src = URL.createObjectURL(await answer.blob());
  const [faces, note] = ["Faces", "Note"].map(name => decodeURIComponent(answer.headers.get("X-Cameo-" + name)));
  status.textContent = `${faces} face${faces === "1" ? "" : "s"}. ${note}`;
};
</script></html>
"""
