"""Runs the photos of jobs that have no result yet, beside what others ask for.

A few threads each take a photo, have it made, and keep what came. Jobs take turns, photo by photo. So few photos are in
work that who asks for one alone waits little longer (docs/decisions/192); where the server is busy or the disk full,
photos wait until that is over, and none fails by it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from typing import Final

from cameo.bulk.results import sentence
from cameo.errors import Busy, Late, OutputError
from cameo.jobs.archive import photo_in
from cameo.jobs.job import Job, Photo, Progress
from cameo.jobs.store import Store
from cameo.workers.calls import Answer, Call

_LOG: Final = logging.getLogger(__name__)
_SWEEP_S: Final = 60.0
_FULL_S: Final = 10.0  # until a full disk is looked at again
_MOST_S: Final = 60.0  # until a busy server is asked again
_NEWEST: Final = 50  # photos that tell how long the others will take
_SOON_S: Final = 0.1  # what is overdue

Submit = Callable[[Call, float], "Future[Answer]"]
"""`Crew.submit`: the answer to a call that must come within so many seconds; raises Busy."""
Told = Callable[[Job, str, Progress], None]
"""Hears of each photo whose result or failure is noted: its job, "done" or "failed", and how far the job is then."""


def _nobody(job: Job, status: str, progress: Progress) -> None:
    pass


class Runner:
    """Runs what waits in `store` through `submit`, of the jobs whose model is one of `models`, until it is closed.

    `why` says what keeps it from running photos, "" if nothing does. `told` is called in its threads.
    """

    def __init__(self, store: Store, submit: Submit, models: Collection[str], told: Told = _nobody) -> None:
        self.why, self._told = "", told
        self._store, self._submit, self._models, self._options = store, submit, models, store.options
        self._changed = threading.Condition()
        self._inside: dict[tuple[str, int], Future[Answer] | None] = {}
        self._late: set[tuple[str, int]] = set()
        self._latest, self._swept, self._paused_until = "", time.monotonic(), 0.0
        self._moments: deque[float] = deque(maxlen=_NEWEST + 1)  # when work began, and then when each photo ended
        self._tells = False  # once a photo is done: one that fails may do so at once
        self._closing = False
        count = self._options.in_flight
        self._threads = [threading.Thread(target=self._work, name="cameo-job") for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There is a new job."""
        with self._changed:
            self._changed.notify_all()

    def forget(self, job: str = "") -> None:
        """What is in work of a job, or of any, is wanted no more."""
        with self._changed:
            answers = [self._inside.pop(key) for key in list(self._inside) if job in ("", key[0])]
        for answer in answers:
            if answer is not None:
                answer.cancel()

    def close(self) -> None:
        """Begin nothing more, and leave what is in work to the next time."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self.forget()
        for thread in self._threads:
            thread.join()

    def eta_s(self, job: str) -> float | None:
        """Seconds until a job is done, jobs taking turns; None while nothing tells how long a photo takes."""
        waiting, moments = self._store.unfinished(), list(self._moments)
        if job not in waiting or not self._tells or len(moments) < 2:
            return None
        before = sum(min(photos, waiting[job]) for photos in waiting.values())  # what runs has no result either
        pace = (moments[-1] - moments[0]) / (len(moments) - 1)
        return round(max(before * pace - (time.monotonic() - moments[-1]), _SOON_S), 1)

    def _work(self) -> None:
        while not self._closing:
            try:
                self._sweep()
                if taken := self._take():
                    self._make(*taken)
            except (OutputError, OSError) as error:
                _LOG.warning("jobs wait: %s", error)
                self._pause("nothing can be written to the disk of jobs: the server's log says why", _FULL_S)
            except Exception:
                _LOG.exception("a bug in jobs, which go on")
                self._pause("the server failed at jobs: its log says how", _FULL_S)

    def _make(self, job: Job, photo: Photo) -> None:
        """Run a photo, unless it must wait.

        Raises:
            OutputError: nothing can be noted now.
        """
        key = (job.id, photo.number)
        try:
            self._run(job, photo)
        except Busy as error:
            self._pause(str(error), min(max(error.retry_after_s, 0.1), _MOST_S))
        except CancelledError:
            pass
        except OutputError:
            if key in self._inside:  # else the job was removed meanwhile
                raise
        finally:
            with self._changed:
                self._inside.pop(key, None)

    def _pause(self, why: str, seconds: float) -> None:
        with self._changed:
            self.why, self._paused_until = why, time.monotonic() + seconds

    def _take(self) -> tuple[Job, Photo] | None:
        """The next photo; None if for some time there is none, or none may run."""
        with self._changed:
            if self._closing:
                return None
            if (pause_s := self._paused_until - time.monotonic()) > 0:
                self._changed.wait(pause_s)
                return None
            if taken := self._store.next_waiting(self._models, self._latest, self._inside):
                self._latest = taken[0].id
                self._inside[taken[0].id, taken[1].number] = None
                if not self._moments:
                    self._moments.append(time.monotonic())
            else:
                if not self._inside:
                    self._moments.clear()  # a pause tells nothing of how long photos take
                    self._tells = False
                self._changed.wait(_SWEEP_S)
            return taken

    def _sweep(self) -> None:
        if time.monotonic() - self._swept > _SWEEP_S:
            self._swept = time.monotonic()
            self._store.sweep()

    def _run(self, job: Job, photo: Photo) -> None:
        """Have a photo made, and note what became of it.

        Raises:
            Busy: not now.
            OutputError: that cannot be noted now.
            CancelledError: it is wanted no more.
        """
        key, started = (job.id, photo.number), time.monotonic()
        self._store.check_room()
        try:
            answer = self._answer(key, self._call(job, photo))
        except (Busy, CancelledError):
            raise
        except Exception as error:
            if isinstance(error, Late) and key not in self._late:  # it may only have waited for a worker to come back
                self._late.add(key)
                raise Busy(str(error), 0.0, "late") from error
            status, progress = "failed", self._store.failed(*key, sentence(error))
        else:
            status, progress = "done", self._store.done(*key, answer, round(time.monotonic() - started, 3))
        self._late.discard(key)
        self.why = ""
        self._moments.append(time.monotonic())
        self._tells |= status == "done"
        if progress:
            self._told(job, status, progress)

    def _call(self, job: Job, photo: Photo) -> Call:
        path = self._store.sent(job.id, photo.file)
        content = photo_in(path, photo.name, self._options) if photo.in_zip else path.read_bytes()
        pictures = {name: self._store.sent(job.id, file).read_bytes() for name, file in job.pictures.items()}
        return replace(job.call, files={**pictures, job.varying: content})

    def _answer(self, key: tuple[str, int], call: Call) -> Answer:
        answer = self._submit(call, self._options.deadline_s)
        with self._changed:
            if key in self._inside:
                self._inside[key] = answer
            else:
                answer.cancel()
        try:
            return answer.result()
        finally:
            del answer, call  # else an error holds this frame, which holds the error, and the photo with it
