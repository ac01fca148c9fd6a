"""Runs a batch: several photos in flight, so that reading, the engine and writing overlap."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cameo.artifact import sha256_of
from cameo.bulk.journal import Entry, Journal
from cameo.bulk.making import Making
from cameo.bulk.photos import Job, of_like_sizes
from cameo.bulk.results import Result, sentence
from cameo.counting import count_of
from cameo.errors import OutputError, PhotoError
from cameo.many import IN_FLIGHT, in_order
from cameo.progress import ProgressBar

if TYPE_CHECKING:
    from cameo.loading import Loaded

_NOBODYS: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO})
"""What ends a batch: no other result could be written either."""


@dataclass(frozen=True)
class Batch:
    """How `model` runs every photo; `run` is the hash of all that results depend on besides their photo."""

    model: Loaded
    run: str
    making: Making
    quiet: bool = False

    def make(self, job: Job, folder: Path) -> Entry:
        """Run one photo and write its result below `folder`; what the journal shall know of it.

        Raises:
            PhotoError: nothing can be made of the photo.
            OutputError: the result cannot be written.
        """
        started = time.perf_counter()
        try:
            about, content = job.photo.stat(), sha256_of(job.photo)
        except OSError as error:
            raise PhotoError(f"{job.photo} cannot be read ({error.strerror}): check its permissions.") from error
        outcome = self.making.make(self.model, job)
        return Entry(
            self.run,
            job.name,
            about.st_size,
            about.st_mtime_ns,
            content,
            job.result.relative_to(folder).as_posix(),
            job.result.stat().st_size,
            len(outcome.faces),
            round(time.perf_counter() - started, 3),
            outcome.note,
        )


def run_batch(batch: Batch, jobs: Sequence[Job], folder: Path, journal: Journal, into: list[Result]) -> None:
    """Put what became of every job into `into`, as it comes; say on standard error how far it is and what failed.

    Raises:
        OutputError: nothing can be written any more.
    """
    kept = {job.name: entry for job in jobs if (entry := journal.done(job.photo, job.name, job.result))}
    into += [_result("kept", entry) for entry in kept.values()]
    left = [job for job in jobs if job.name not in kept]

    def one(job: Job) -> Result:
        try:
            entry = batch.make(job, folder)
        except Exception as error:
            if isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in _NOBODYS:
                raise
            result = Result(job.name, "failed", error=sentence(error))
        else:
            journal.note(entry)
            result = _result("done", entry)
        into.append(result)  # here, for what was in work at an interruption is made as well
        return result

    faces = failed = 0
    with (
        ProgressBar("photos", not batch.quiet) as bar,
        closing(in_order(one, of_like_sizes(left), IN_FLIGHT)) as made,
    ):
        for done, result in enumerate(made, 1):
            faces, failed = faces + result.faces, failed + (result.status == "failed")
            bar(done, len(left), f", {count_of(faces, 'face')}" + (f", {failed} failed" if failed else ""))


def _result(status: str, entry: Entry) -> Result:
    return Result(entry.photo, status, entry.result, entry.faces, entry.seconds, entry.note)


def summary(results: Sequence[Result], seconds: float) -> Iterator[str]:
    """How it ended: the photos that failed, then one line of counts."""
    failed = [result for result in results if result.status == "failed"]
    yield from (f"failed: {result.photo}: {result.error}" for result in failed)
    done, kept = (sum(result.status == status for result in results) for status in ("done", "kept"))
    faces, noted = sum(result.faces for result in results), sum(bool(result.note) for result in results)
    again = f", {kept} kept from before" if kept else ""
    pace = f" ({seconds / done:.2f} s each)" if done else ""
    notes = f"; {noted} with a note, in results.csv" if noted else ""
    yield f"{done} done in {seconds:.1f} s{pace}{again}, {len(failed)} failed, {count_of(faces, 'face')}{notes}"
