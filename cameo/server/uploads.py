"""Photos on their way in: bounded each and together, and ended where they stall."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import python_multipart  # noqa: F401 (Starlette's parser needs it, and says so only once a form has come)
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from cameo.server.options import MIB, ServeOptions

_FORM: Final = "multipart/form-data"
# curl --data-binary says that it is a form's text, whatever the file is; "" is who says nothing.
_FILE: Final = re.compile(r"|image/.+|application/octet-stream|application/x-www-form-urlencoded")
_STALLED_S: Final = 1.0
"""Who has sent nothing for so long makes room for others where there is none."""


class _InMemory(MultiPartParser):
    """Starlette's, without its temporary files: what may come is bounded here."""

    spool_max_size = 2**40


@dataclass(frozen=True)
class Sent:
    """What came: files by the names of their fields ("" for a body that is one file), and the text of other fields."""

    files: Mapping[str, bytes]
    fields: Mapping[str, str]


@dataclass(eq=False)
class _Upload:
    pause: asyncio.Timeout
    touched: float = 0.0
    size: int = 0
    whole: bool = False


class Uploads:
    """The bytes of all photos inside, those that wait for their turn included: as many as `queue` of the largest.

    A request brings at most `files` of them.
    """

    def __init__(self, options: ServeOptions, files: int = 1) -> None:
        self._options = options
        self._files = files
        self._inside: set[_Upload] = set()

    @asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[Sent]:
        """The files and fields of a request, whose bytes count until the block is left.

        Raises:
            HTTPException: 400 a form that cannot be read, 408 it stalled, 413 too large, 415 neither, 503 no room.
            ClientDisconnect: the sender hung up.
        """
        kind = self._check_head(request)
        upload = _Upload(asyncio.timeout(None))
        self._inside.add(upload)
        try:
            try:
                async with asyncio.timeout(self._options.timeout_s), upload.pause:
                    chunks = self._counted(request, upload)
                    sent = await (_form(request, chunks, self._files) if kind == _FORM else _body(chunks))
            except TimeoutError:
                raise HTTPException(408, "the photo stopped coming, or came too slowly: send it again") from None
            upload.whole = True
            yield sent
        finally:
            self._inside.discard(upload)

    def _check_head(self, request: Request) -> str:
        """The body's type, where it is one that may hold a photo of a size that is taken."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        coding = request.headers.get("content-encoding", "identity").lower()
        if coding != "identity" or not (kind == _FORM or _FILE.fullmatch(kind)):
            found = kind if coding == "identity" else f"encoded as {coding}"
            how = f"curl --data-binary @photo.jpg {request.url.replace(query='')} -o result.png"
            raise HTTPException(415, f"the body is {found!r:.80}, expected a photo's file: {how}")
        length = request.headers.get("content-length", "0")
        self._check_size(int(length) if length.isdecimal() else 0)
        return kind

    async def _counted(self, request: Request, upload: _Upload) -> AsyncIterator[bytes]:
        now = asyncio.get_running_loop().time
        upload.touched = now()
        upload.pause.reschedule(upload.touched + self._options.stall_s)
        async for chunk in request.stream():
            upload.size += len(chunk)
            upload.touched = now()
            self._check_size(upload.size)
            self._make_room(upload)
            upload.pause.reschedule(upload.touched + self._options.stall_s)
            yield chunk

    def _check_size(self, size: int) -> None:
        if size > self._files * self._options.max_upload_mib * MIB:
            limit = f"{self._files * self._options.max_upload_mib} MiB"
            raise HTTPException(413, f"the photo's file is larger than {limit}: shrink it, or save it as JPEG")

    def _make_room(self, newcomer: _Upload) -> None:
        """End the uploads that have stalled longest until all fit together."""
        budget = self._options.queue * self._files * self._options.max_upload_mib * MIB
        while sum(upload.size for upload in self._inside) > budget:
            stalled = [u for u in self._inside if not u.whole and u.touched + _STALLED_S < newcomer.touched]
            if not stalled:
                raise HTTPException(
                    503, "too many photos are on their way in: try again in a moment", {"Retry-After": "2"}
                )
            stalest = min(stalled, key=lambda upload: upload.touched)
            self._inside.discard(stalest)
            stalest.pause.reschedule(newcomer.touched)


async def _body(chunks: AsyncIterator[bytes]) -> Sent:
    return Sent({"": b"".join([chunk async for chunk in chunks])}, {})


async def _form(request: Request, chunks: AsyncIterator[bytes], files: int) -> Sent:
    """The files and fields of a form."""
    try:
        parser = _InMemory(request.headers, chunks, max_files=files, max_fields=32, max_part_size=1024)  # type: ignore[arg-type]
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"the form cannot be read ({error.message}), expected at most {files} files") from None
    try:
        names = [name for name, _ in form.multi_items()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise HTTPException(400, f"the form has {', '.join(twice)!r:.80} more than once, expected each field once")
        found = {name: await value.read() for name, value in form.items() if isinstance(value, UploadFile)}
        return Sent(found, {name: value for name, value in form.items() if isinstance(value, str)})
    finally:
        await form.close()
