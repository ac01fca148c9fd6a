"""Jobs over HTTP: many photos sent at once, their results fetched as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cameo.bulk.results import TABLE, table
from cameo.counting import count_of
from cameo.errors import CameoError, OutputError
from cameo.jobs.archive import zipped
from cameo.jobs.job import Job, JobOptions, Progress
from cameo.jobs.runner import Runner
from cameo.jobs.store import Store
from cameo.memory.amounts import MIB
from cameo.server.exchange import exchange_of
from cameo.server.job_forms import PHOTOS, job_of
from cameo.server.job_uploads import File, receive
from cameo.server.limits import JOBS
from cameo.server.logs import OF_JOBS, log_job
from cameo.server.offers import MEDIA_TYPES
from cameo.server.refusals import Refusal
from cameo.server.running import refusal_of
from cameo.server.uploads import FORM, body_type

if TYPE_CHECKING:
    from cameo.server.front import Front

_RETRY_S: Final = 60
_TOLD: Final = 100  # names of files that are no photos


class Jobs:
    """The endpoints of jobs, which the crew of `front` runs.

    Raises:
        OutputError: they cannot be kept where `options` say.
    """

    def __init__(self, front: Front, options: JobOptions) -> None:
        self._front, self._options = front, options
        self._store = Store(options)
        front.metrics.watch_jobs(self._store.backlog, tuple(front.offers))
        for job in filter(None, map(self._store.job, self._store.unfinished())):
            log_job("resumed", job, self._store.progress(job.id), self._why_never(job))
        self._runner = Runner(self._store, front.crew.submit, tuple(front.offers), self._noted)

    def close(self) -> None:
        """Leave what is not done to the next server."""
        self._runner.close()
        with suppress(OutputError):
            if left := self._store.unfinished():
                photos = count_of(sum(left.values()), "photo")
                OF_JOBS.info("%s of %s left to the next server", photos, count_of(len(left), "job"))
        self._store.close()

    def routes(self) -> list[Route]:
        """What can be asked."""
        one = JOBS + "/{job}"
        return [
            Route(JOBS, self.create, methods=["POST"]),
            Route(JOBS, self.all, methods=["GET"]),
            Route(one, self.one, methods=["GET"]),
            Route(one, self.delete, methods=["DELETE"]),
            Route(one + "/results", self.results, methods=["GET"]),
            Route(one + "/results/{name:path}", self.result, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """202: the job is accepted, and nothing that happens to this process loses it."""
        self._check_type(request)
        try:
            await run_in_threadpool(self._store.check_room, self._mib(request))
            async with self._receiving() as name:
                sent = await receive(request, self._store.sent(name, ""), self._options, self._front.options.stall_s)
                owner = exchange_of(request.scope).key
                job, left_out = await run_in_threadpool(self._accept, name, owner, *sent)
        except (OutputError, OSError) as error:
            raise _no_room(error) from error
        except CameoError as error:
            raise refusal_of(error) from error
        exchange_of(request.scope).model = job.call.model
        told = await run_in_threadpool(self._told, job)
        return JSONResponse({**told, "left_out": left_out[:_TOLD]}, 202, {"Location": f"{JOBS}/{job.id}"})

    # These read the database, so that none is "async": Starlette runs them in threads.

    def all(self, request: Request) -> Response:
        """The jobs of who asks."""
        jobs = self._store.jobs(exchange_of(request.scope).key)
        return JSONResponse({"jobs": [self._told(job) for job in jobs]})

    def one(self, request: Request) -> Response:
        """How far a job is, and which of its photos failed."""
        job = self._job_of(request)
        failed = [one for _, one in self._store.results(job.id) if one.status == "failed"]
        failures = [{"photo": one.photo, "error": one.error} for one in failed]
        return JSONResponse({**self._told(job), "failures": failures})

    def delete(self, request: Request) -> Response:
        """A job is wanted no more, nor its results."""
        job = self._job_of(request)
        try:
            progress = self._store.remove(job.id)
        except OutputError as error:
            raise _no_room(error) from error
        self._runner.forget(job.id)
        if progress.waiting:
            self._ended(job, "cancelled", progress)
        return Response(status_code=204)

    def results(self, request: Request) -> Response:
        """A zip of the results that are there, and a table of what became of every photo."""
        job = self._job_of(request)
        results = self._store.results(job.id)
        files: list[tuple[str, Path | bytes]] = [(TABLE, table([one for _, one in results]).encode())]
        files += [(one.result, self._store.result(job.id, number)) for number, one in results if one.result]
        headers = {"Content-Disposition": f'attachment; filename="{job.id}.zip"'}
        return StreamingResponse(zipped(files), media_type="application/zip", headers=headers)

    def result(self, request: Request) -> Response:
        """One result, or the table."""
        job, name = self._job_of(request), request.path_params["name"]
        results = self._store.results(job.id)
        if name == TABLE:
            return Response(table([one for _, one in results]), media_type="text/csv")
        for number, one in results:
            if one.result and one.result == name:  # what has no result has no name of it
                return FileResponse(self._store.result(job.id, number), media_type=MEDIA_TYPES[job.call.suffix])
        raise HTTPException(404, f"{name!r:.80} is no result of this job so far: {TABLE} names them")

    def _job_of(self, request: Request) -> Job:
        """The job that an address names, to whose key made it."""
        job = self._store.job(request.path_params["job"])
        if job is None or job.owner != exchange_of(request.scope).key:
            raise HTTPException(404, f"there is no such job, or no more: {JOBS} lists those that there are")
        return job

    def _check_type(self, request: Request) -> None:
        kind = body_type(request)
        if kind != FORM:
            how = f"curl -F {PHOTOS}=@photos.zip {request.url.replace(query='')}"
            raise HTTPException(415, f"the body is {kind!r:.80}, expected a form with photos or a zip of them: {how}")

    def _mib(self, request: Request) -> int:
        """How much comes, at most."""
        length, most = request.headers.get("content-length", ""), self._options.max_mib
        mib = int(length) // MIB if length.isdecimal() else most
        if mib > most:
            raise HTTPException(413, f"{mib} MiB come, expected at most {most}: send several jobs")
        return mib

    @asynccontextmanager
    async def _receiving(self) -> AsyncIterator[str]:
        """`Store.receiving`, which begins and ends in threads: the database and the disk may take their time."""
        receiving = self._store.receiving()
        name = await run_in_threadpool(receiving.__enter__)
        try:
            yield name
        finally:
            await run_in_threadpool(receiving.__exit__, None, None, None)

    def _accept(self, name: str, owner: str, files: Sequence[File], fields: Mapping[str, str]) -> tuple[Job, list[str]]:
        """The job, and what was sent in zips that is no photo."""
        job, photos, left_out = job_of(name, owner, self._front.offers, files, fields, self._options)
        self._store.add(job, photos)
        self._front.metrics.note_job_taken(job.call.model)
        log_job("taken", job, Progress(len(photos), 0, 0, 0))
        self._runner.wake()
        return job, left_out

    def _noted(self, job: Job, status: str, progress: Progress) -> None:
        """Count a photo that is done or failed, and its job if that was the last."""
        self._front.metrics.note_job_photo(job.call.model, status)
        if not progress.waiting:
            self._ended(job, _outcome(progress), progress)

    def _ended(self, job: Job, outcome: str, progress: Progress) -> None:
        """Log and count a job that is over."""
        log_job(outcome, job, progress)
        self._front.metrics.note_job_ended(job.call.model, outcome)

    def _why_never(self, job: Job) -> str:
        """Why a job waits as long as this server lives, or ""."""
        name = job.call.model
        return "" if name in self._front.offers else f"{name} is not served now: start the server with it"

    def _told(self, job: Job) -> dict[str, Any]:
        progress = self._store.progress(job.id)
        return {
            "id": job.id,
            "model": job.call.model,
            "state": "running" if job.finished is None else _outcome(progress),
            "created": _moment(job.created),
            "finished": _moment(job.finished) if job.finished else None,
            "photos": progress.photos,
            **asdict(progress),
            "eta_s": self._runner.eta_s(job.id),
            "why_waiting": (self._why_never(job) or self._runner.why) if progress.waiting else "",
            "results": f"{JOBS}/{job.id}/results",
        }


def without_jobs() -> list[Route]:
    """The addresses of jobs where none are kept."""

    async def refuse(request: Request) -> Response:
        raise HTTPException(404, "this server keeps no jobs: start it with --jobs FOLDER")

    return [Route(JOBS + "{rest:path}", refuse, methods=["GET", "POST", "DELETE"])]


def _outcome(progress: Progress) -> str:
    """What became of a job that is over."""
    return "done" if progress.done else "failed"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _no_room(error: OutputError | OSError) -> Refusal:
    why = str(error) if isinstance(error, OutputError) else f"the job could not be kept ({error.strerror})"
    return Refusal(507, why, "disk", _RETRY_S)
