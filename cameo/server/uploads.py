"""Photos on their way in: bounded each and together, and ended where they stall."""

from __future__ import annotations

import asyncio
import logging
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

from cameo.memory.amounts import MIB
from cameo.server.limits import ServeOptions
from cameo.server.refusals import Refusal

logging.getLogger("python_multipart").addHandler(logging.NullHandler())  # what is wrong with a form is answered
FORM: Final = "multipart/form-data"
# curl --data-binary says that it is a form's text, whatever the file is; "" is who says nothing.
_FILE: Final = re.compile(r"|image/.+|application/octet-stream|application/x-www-form-urlencoded")
_SPARE: Final = 8  # files more than a call can have, for those that are too many to be named
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
    files: int
    pause: asyncio.Timeout
    touched: float = 0.0
    size: int = 0
    whole: bool = False


class Uploads:
    """The bytes of all photos inside, those that wait for their turn included: as many as `queue` of the largest.

    A request brings at most `most_files` of them.
    """

    def __init__(self, options: ServeOptions, most_files: int) -> None:
        self._options = options
        self._budget = options.queue * most_files * options.max_upload_mib * MIB
        self._inside: set[_Upload] = set()

    @property
    def held_bytes(self) -> int:
        """What is inside now."""
        return sum(upload.size for upload in self._inside)

    @asynccontextmanager
    async def receive(self, request: Request, files: int, example: str, within_s: float) -> AsyncIterator[Sent]:
        """The files, so many at most, and fields of a request, whose bytes count until the block is left.

        `example` is how curl is told to send what is needed; who sends it waits no longer than `within_s`.

        Raises:
            HTTPException: 400 a form that cannot be read, 408 it stalled, 413 too large, 415 neither, 503 no room.
            ClientDisconnect: the sender hung up.
        """
        kind = self._check_head(request, files, example)
        upload = _Upload(files, asyncio.timeout(None))
        self._inside.add(upload)
        try:
            try:
                async with asyncio.timeout(min(self._options.timeout_s, within_s)), upload.pause:
                    chunks = self._counted(request, upload)
                    sent = await (_form(request, chunks, files) if kind == FORM else _body(chunks))
            except TimeoutError:
                raise HTTPException(408, "the photo stopped coming, or came too slowly: send it again") from None
            upload.whole = True
            for name, content in sent.files.items():
                self._check_size(len(content), 1, f"the file of {name!r:.80}" if name else "the photo's file")
            yield sent
        finally:
            self._inside.discard(upload)

    def _check_head(self, request: Request, files: int, example: str) -> str:
        """The body's type, where it is one that may hold a photo of a size that is taken."""
        kind = body_type(request)
        coding = request.headers.get("content-encoding", "identity").lower()
        if coding != "identity" or not (kind == FORM or _FILE.fullmatch(kind)):
            found = kind if coding == "identity" else f"encoded as {coding}"
            how = f"curl {example} {request.url.replace(query='')} -o result.png"
            raise HTTPException(415, f"the body is {found!r:.80}, expected a photo's file: {how}")
        length = request.headers.get("content-length", "0")
        self._check_size(int(length) if length.isdecimal() else 0, files)
        return kind

    async def _counted(self, request: Request, upload: _Upload) -> AsyncIterator[bytes]:
        now = asyncio.get_running_loop().time
        upload.touched = now()
        upload.pause.reschedule(upload.touched + self._options.stall_s)
        async for chunk in request.stream():
            upload.size += len(chunk)
            upload.touched = now()
            self._check_size(upload.size, upload.files)
            self._make_room(upload)
            upload.pause.reschedule(upload.touched + self._options.stall_s)
            yield chunk

    def _check_size(self, size: int, files: int, what: str = "") -> None:
        """Raises HTTPException if so many bytes, of so many files, are more than the limit of each allows."""
        limit = files * self._options.max_upload_mib
        if size > limit * MIB:
            what = what or ("the photo's file" if files == 1 else f"what was sent, for {files} files at most,")
            raise HTTPException(413, f"{what} is larger than {limit} MiB: shrink it, or save it as JPEG")

    def _make_room(self, newcomer: _Upload) -> None:
        """End the uploads that have stalled longest until all fit together."""
        while self.held_bytes > self._budget:
            stalled = [u for u in self._inside if not u.whole and u.touched + _STALLED_S < newcomer.touched]
            if not stalled:
                raise Refusal(503, "too many photos are on their way in: try again in a moment", "uploads", 2)
            stalest = min(stalled, key=lambda upload: upload.touched)
            self._inside.discard(stalest)
            stalest.pause.reschedule(newcomer.touched)


def body_type(request: Request) -> str:
    """What the body is said to be, "" where nothing is."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def bad_form(error: MultiPartException, files: int, instead: str = "leave some out") -> HTTPException:
    """400: a form that cannot be read, or has more than so many files."""
    if error.message.startswith("Too many files"):
        return HTTPException(400, f"the form has too many files, expected at most {files}: {instead}")
    why = error.message.rstrip(".")
    return HTTPException(400, f"the form cannot be read ({why}), expected one as curl -F makes it: use a client's own")


async def _body(chunks: AsyncIterator[bytes]) -> Sent:
    return Sent({"": b"".join([chunk async for chunk in chunks])}, {})


async def _form(request: Request, chunks: AsyncIterator[bytes], files: int) -> Sent:
    """The files and fields of a form."""
    try:
        parser = _InMemory(request.headers, chunks, max_files=files + _SPARE, max_fields=32, max_part_size=1024)  # type: ignore[arg-type]
        form = await parser.parse()
    except MultiPartException as error:
        raise bad_form(error, files) from None
    try:
        names = [name for name, _ in form.multi_items()]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise HTTPException(400, f"the form has {', '.join(twice)!r:.80} more than once, expected each field once")
        found = {name: await value.read() for name, value in form.items() if isinstance(value, UploadFile)}
        return Sent(found, {name: value for name, value in form.items() if isinstance(value, str)})
    finally:
        await form.close()
