"""What was asked for and what is done: SQLite, and files beside it.

FOLDER/jobs.sqlite                  jobs, their photos and what became of each
FOLDER/<id of the job>/sent/<file>  what came, as it came; how senders call it is only in the database
FOLDER/<id of the job>/results/<n>  the result of photo n: written whole, and then said to be there

A folder that no job has is what was left of one, or of an upload that did not end, and is removed. Why a batch has a
journal instead: docs/decisions/193.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from cameo.bulk.results import Result
from cameo.errors import Busy, OutputError
from cameo.images import write_file
from cameo.jobs.job import Backlog, Job, JobOptions, Photo, Progress
from cameo.memory.amounts import MIB
from cameo.workers.calls import Answer, Call

NAME: Final = "jobs.sqlite"
_RETRY_S: Final = 60
_ID: Final = re.compile(r"[0-9a-f]{32}")
# A lock that is not given back while this process lives: no second server runs the same jobs.
_SETUP: Final = "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON;"
_TABLES: Final = """
BEGIN EXCLUSIVE;
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT, model TEXT, call TEXT, varying TEXT, pictures TEXT, created REAL, finished REAL
);
CREATE TABLE IF NOT EXISTS photos (
    job TEXT REFERENCES jobs ON DELETE CASCADE, number INTEGER, name TEXT, file TEXT, in_zip INTEGER, result TEXT,
    status TEXT DEFAULT 'waiting', faces INTEGER DEFAULT 0, seconds REAL DEFAULT 0, note TEXT DEFAULT '',
    error TEXT DEFAULT '', PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS waiting ON photos (job, number) WHERE status = 'waiting';
COMMIT;
"""
_UNFINISHED: Final = "SELECT job, count(*) n FROM photos WHERE status = 'waiting' GROUP BY job"
_PROGRESS: Final = (
    "SELECT sum(status = 'waiting'), sum(status = 'done'), sum(status = 'failed'), sum(faces) FROM photos WHERE job = ?"
)


class Store:
    """The jobs in the folder of `options`, which no other server can have meanwhile; from any thread.

    Raises:
        OutputError: the folder cannot be written to, or another server has it; later, by what writes: the disk is full.
    """

    def __init__(self, options: JobOptions) -> None:
        self.options, self.folder = options, options.folder
        folder = self.folder
        self._using = threading.Lock()
        self._coming: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._base = sqlite3.connect(folder / NAME, timeout=0, isolation_level=None, check_same_thread=False)
            self._base.executescript(_SETUP + _TABLES)
        except (OSError, sqlite3.Error) as error:
            why = "another server keeps its own there" if "locked" in str(error) else str(error)
            raise OutputError(f"jobs cannot be kept in {folder} ({why}): choose another folder") from error
        self._base.row_factory = sqlite3.Row
        self.sweep()
        for part in folder.glob("*/results/.*.part"):
            part.unlink(missing_ok=True)

    def close(self) -> None:
        """Another server may have the folder."""
        with self._using:
            self._base.close()

    def sent(self, job: str, file: str) -> Path:
        """Where a file that came lies."""
        return self.folder / job / "sent" / file

    def result(self, job: str, number: int | str) -> Path:
        """Where the result of a photo lies, if it is done."""
        return self.folder / job / "results" / str(number)

    @contextmanager
    def receiving(self) -> Iterator[str]:
        """The id of a job, for which files are being sent; if it is not added, they are removed afterwards.

        Raises:
            Busy: as many jobs as are taken are not done yet.
        """
        name = secrets.token_hex(16)
        with self._at_once() as base:  # else two threads would both take the last place
            there = len(_unfinished(base)) + len(self._coming)
            if there >= self.options.max_jobs:
                said = f"{there} jobs are not done yet, as many as are taken: try again in {_RETRY_S} s"
                raise Busy(said, _RETRY_S, "jobs")
            self._coming.add(name)
        try:
            for file in (self.sent(name, ""), self.result(name, "")):
                file.mkdir(parents=True, mode=0o700)
            yield name
        finally:
            with self._using:
                self._coming.discard(name)
            if self.job(name) is None:
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def check_room(self, mib: int = 0) -> None:
        """See that so much can be written, and something is left to others.

        Raises:
            OutputError: the disk has less.
        """
        free, needed = shutil.disk_usage(self.folder).free // MIB, self.options.spare_mib + mib
        if free < needed:
            raise OutputError(f"the disk of jobs has {free} MiB left, expected {needed}: free some space")

    def add(self, job: Job, photos: Sequence[Photo]) -> None:
        """Accept a job, all that it needs being in its folder; from then on it is there whatever happens."""
        call = json.dumps({name: value for name, value in vars(job.call).items() if name != "files"}, default=dict)
        row = (job.id, job.owner, job.call.model, call, job.varying, json.dumps(job.pictures), job.created, None)
        rows = [(job.id, photo.number, photo.name, photo.file, photo.in_zip, photo.result) for photo in photos]
        with self._at_once() as base:
            if job.id not in self._coming:
                raise OutputError("the server ends while the job is accepted: send it again")
            base.execute("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            base.executemany("INSERT INTO photos(job, number, name, file, in_zip, result) VALUES (?,?,?,?,?,?)", rows)

    def jobs(self, owner: str) -> list[Job]:
        """The jobs of an owner, the newest first."""
        return [_job(row) for row in self._rows("SELECT * FROM jobs WHERE owner = ? ORDER BY created DESC", owner)]

    def job(self, name: str) -> Job | None:
        """The job with that id; None if there is none."""
        return next((_job(row) for row in self._rows("SELECT * FROM jobs WHERE id = ?", name)), None)

    def unfinished(self) -> dict[str, int]:
        """How many photos wait, by the jobs that are not done."""
        with self._at_once() as base:
            return _unfinished(base)

    def backlog(self) -> dict[str, Backlog]:
        """What is not done, by model."""
        rows = self._rows(f"SELECT model, count(*), sum(n) FROM ({_UNFINISHED}) JOIN jobs ON id = job GROUP BY model")
        return {model: Backlog(jobs, photos) for model, jobs, photos in rows}

    def progress(self, job: str) -> Progress:
        """How far a job is."""
        with self._at_once() as base:
            return _progress(base, job)

    def results(self, job: str) -> list[tuple[int, Result]]:
        """What became of each photo of a job, with its number; "waiting" is the status of those that have none yet."""
        columns = "number, name, status, iif(status = 'done', result, ''), faces, seconds, note, error"
        rows = self._rows(f"SELECT {columns} FROM photos WHERE job = ? ORDER BY number", job)
        return [(number, Result(*rest)) for number, *rest in rows]

    def next_waiting(
        self, models: Collection[str], after: str, but: Collection[tuple[str, int]]
    ) -> tuple[Job, Photo] | None:
        """A photo that waits for one of `models`, of the job that follows `after` in turn, none of `but`; or None."""
        marks = ",".join("?" * len(models))
        query = f"SELECT * FROM jobs WHERE finished IS NULL AND model IN ({marks}) ORDER BY id <= ?, id"
        photos = (
            "SELECT number, name, file, in_zip, result FROM photos WHERE job = ? AND status = 'waiting' "
            "ORDER BY number LIMIT ?"
        )
        for row in self._rows(query, *models, after):
            for photo in self._rows(photos, row["id"], len(but) + 1):
                if (row["id"], photo["number"]) not in but:
                    return _job(row), Photo(*photo)
        return None

    def done(self, job: str, number: int, answer: Answer, seconds: float) -> Progress | None:
        """Keep the result of a photo, and say so; how far its job is then, None if that was removed meanwhile."""
        write_file(self.result(job, number), answer.content)
        return self._end(job, number, "done", answer.faces, seconds, answer.note)

    def failed(self, job: str, number: int, error: str) -> Progress | None:
        """Say why a photo has no result, and never will; how far its job is then, None if that was removed."""
        return self._end(job, number, "failed", error=error)

    def _end(
        self, job: str, number: int, status: str, faces: int = 0, seconds: float = 0.0, note: str = "", error: str = ""
    ) -> Progress | None:
        with self._at_once() as base:
            columns = "(status, faces, seconds, note, error) = (?, ?, ?, ?, ?)"
            values = (status, faces, seconds, note, error, job, number)
            if not base.execute(f"UPDATE photos SET {columns} WHERE job = ? AND number = ?", values).rowcount:
                return None
            progress = _progress(base, job)
            if not progress.waiting:
                base.execute("UPDATE jobs SET finished = ? WHERE id = ?", (time.time(), job))
            return progress

    def remove(self, job: str) -> Progress:
        """Forget a job, with all that came for it and was made; how far it was."""
        with self._at_once() as base:
            progress = _progress(base, job)
            base.execute("DELETE FROM jobs WHERE id = ?", (job,))
        shutil.rmtree(self.folder / job, ignore_errors=True)
        return progress

    def sweep(self) -> None:
        """Remove the jobs that have been done for long, and folders that no job has, as a kill leaves them."""
        there = [path.name for path in self.folder.iterdir() if _ID.fullmatch(path.name)]
        coming = set(self._coming)  # before the jobs that have come, so that none is between the two
        expired = time.time() - self.options.keep_hours * 3600
        for row in self._rows("SELECT id FROM jobs WHERE finished < ?", expired):
            self.remove(row["id"])
        known = coming | {row["id"] for row in self._rows("SELECT id FROM jobs")}
        for name in set(there) - known:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._at_once() as base:
            return base.execute(query, values).fetchall()

    @contextmanager
    def _at_once(self) -> Iterator[sqlite3.Connection]:
        """All that the block does, or nothing."""
        with self._using:
            try:
                with self._base:
                    self._base.execute("BEGIN")
                    yield self._base
            except sqlite3.Error as error:
                raise OutputError(f"{self.folder / NAME} cannot be used ({error}): free some space") from error


def _unfinished(base: sqlite3.Connection) -> dict[str, int]:
    return {row["job"]: row["n"] for row in base.execute(_UNFINISHED)}


def _progress(base: sqlite3.Connection, job: str) -> Progress:
    return Progress(*(number or 0 for number in base.execute(_PROGRESS, (job,)).fetchone()))


def _job(row: sqlite3.Row) -> Job:
    call, pictures = Call(files={}, **json.loads(row["call"])), json.loads(row["pictures"])
    return Job(row["id"], row["owner"], call, row["varying"], pictures, row["created"], row["finished"])
