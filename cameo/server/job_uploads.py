"""A form whose files go to the disk as they come: what is sent for a job does not fit into memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from cameo.jobs.job import JobOptions
from cameo.memory.amounts import MIB
from cameo.server.uploads import bad_form

MOST_FILES: Final = 200
"""Files in a form; a zip has more."""
_STEP: Final = 2**16  # bytes that must come within the time that a stalled sender has


@dataclass(frozen=True)
class File:
    """A file that came in `field`, called `name` by its sender."""

    field: str
    name: str
    path: Path
    size: int


class _Added:
    """What is written is added to the file at `path`, which is open only meanwhile.

    The parser names files on the event loop, and writes to them in threads, which may go on when it is given up: so
    nothing is opened before the first byte, and nothing is left to be closed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, data: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(data)

    def seek(self, offset: int) -> None:
        """The parser's, at the end of each file; of one without bytes this makes it."""
        self.write(b"")

    def keep(self) -> None:
        """See that it is on the disk."""
        with self._path.open("rb+") as file:
            os.fsync(file.fileno())


class _OnDisk(MultiPartParser):
    """Starlette's, with files written to `folder`, by their numbers, instead of a temporary one."""

    def __init__(self, request: Request, chunks: AsyncIterator[bytes], folder: Path) -> None:
        limits = {"max_files": MOST_FILES, "max_fields": 32, "max_part_size": 1024}
        super().__init__(request.headers, chunks, **limits)  # type: ignore[arg-type]
        self._folder, self._files = folder, list[_Added]()

    def on_headers_finished(self) -> None:
        super().on_headers_finished()
        if upload := self._current_part.file:
            upload.file.close()
            self._files.append(_Added(self._folder / str(self._current_files)))
            upload.file = self._files[-1]  # type: ignore[assignment]

    def keep(self) -> None:
        """See that all is on the disk."""
        for file in self._files:
            file.keep()


async def receive(
    request: Request, folder: Path, limits: JobOptions, stall_s: float
) -> tuple[Sequence[File], Mapping[str, str]]:
    """The files of a form, which lie in `folder` then, and its fields.

    Raises:
        HTTPException: 400 a form that cannot be read, 408 it stalled, 413 too large.
        OSError: the disk is full.
        ClientDisconnect: the sender hung up.
    """
    pause = asyncio.timeout(stall_s)
    parser = _OnDisk(request, _counted(request, pause, limits.max_mib, stall_s), folder)
    try:
        async with pause:
            items = (await parser.parse()).multi_items()
        await run_in_threadpool(parser.keep)
    except TimeoutError:
        raise HTTPException(408, "the photos stopped coming, or came too slowly: send them again") from None
    except MultiPartException as error:
        raise bad_form(error, MOST_FILES, "send a zip of them") from None
    fields = {name: value for name, value in items if isinstance(value, str)}
    if len(fields) < sum(isinstance(value, str) for _, value in items):
        raise HTTPException(400, "the form has a field more than once, expected each once: leave one out")
    uploads = [(name, value) for name, value in items if not isinstance(value, str)]
    files = [
        File(field, upload.filename or "", folder / str(number), upload.size or 0)
        for number, (field, upload) in enumerate(uploads, 1)
    ]
    return files, fields


async def _counted(request: Request, pause: asyncio.Timeout, max_mib: int, stall_s: float) -> AsyncIterator[bytes]:
    now, size, step = asyncio.get_running_loop().time, 0, 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_mib * MIB:
            raise HTTPException(413, f"what was sent is larger than {max_mib} MiB: send it as several jobs")
        if size >= step + _STEP:
            step = size
            pause.reschedule(now() + stall_s)
        yield chunk
