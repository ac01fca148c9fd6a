"""What is asked for: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cameo.workers.calls import Call


@dataclass(frozen=True)
class JobOptions:
    """Jobs are kept in `folder`, for `keep_hours` after their last photo.

    `max_mib`: what is sent for one job; `max_photo_mib`: one photo in it; `max_jobs`: jobs that are not done;
    `spare_mib`: what is left free on the disk, whoever waits. `in_flight`: photos of all jobs together that are in work
    at once (docs/decisions/192); `deadline_s`: until one of them counts as late, which it may once.
    """

    folder: Path
    keep_hours: float = 24.0
    max_photos: int = 2000
    max_mib: int = 2048
    max_photo_mib: int = 64
    max_jobs: int = 100
    spare_mib: int = 1024
    in_flight: int = 2
    deadline_s: float = 300.0


@dataclass(frozen=True)
class Photo:
    """Photo `number` of a job: its name, the file that it came in (a zip of it, `in_zip`), its result's name."""

    number: int
    name: str
    file: str
    in_zip: bool
    result: str


@dataclass(frozen=True)
class Job:
    """`call` is of every photo, without its files: the one that it takes as `varying`, and `pictures`, which all share:
    the files that came, by their names. `owner` is whose API key it came with, or "". Times are seconds since 1970.
    """

    id: str
    owner: str
    call: Call
    varying: str
    pictures: Mapping[str, str]
    created: float
    finished: float | None = None


@dataclass(frozen=True)
class Progress:
    """Photos of a job by what became of them, and the faces in those that are done."""

    waiting: int
    done: int
    failed: int
    faces: int

    @property
    def photos(self) -> int:
        """All of them."""
        return self.waiting + self.done + self.failed


@dataclass(frozen=True)
class Backlog:
    """Jobs that are not done, and their photos that have no result yet."""

    jobs: int = 0
    photos: int = 0
