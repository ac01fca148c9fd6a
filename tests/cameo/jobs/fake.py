"""A crew of the test's making, and jobs for it."""

from __future__ import annotations

import io
import sys
import threading
import time
import zipfile
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

from cameo.errors import PhotoError
from cameo.jobs.job import Job, JobOptions, Photo
from cameo.jobs.runner import Runner
from cameo.jobs.store import Store
from cameo.workers.calls import Answer, Call

BEGUN = (
    b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999\r\n"
    b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    b'--x\r\nContent-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\nthe beginning'
)
"""A job that stops coming amid its photo."""
_NOTES = {b"note": "left", b"long": "x" * 9000}


class FakeCrew:
    """Answers each photo with its bytes reversed, after `seconds` and once `gate` is open; `refuses` is raised first.

    With `answers`, only so many come. `photo` is the name of what is reversed.
    `calls` are those that were taken, `most` as many as were inside at once.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.calls, self.refuses = seconds, list[Call](), list[Exception]()
        self.inside = self.most = 0
        self.answers, self.photo = 10**6, "photo"
        self.gate = threading.Event()
        self.gate.set()

    def submit(self, call: Call, deadline_s: float) -> Future[Answer]:
        if self.refuses:
            raise self.refuses.pop(0)
        self.calls.append(call)
        self.inside += 1
        self.most = max(self.most, self.inside)
        answer: Future[Answer] = Future()
        threading.Thread(target=self._run, args=(call, answer)).start()
        return answer

    def _run(self, call: Call, answer: Future[Answer]) -> None:
        self.gate.wait(20)
        time.sleep(self.seconds)
        self.inside -= 1
        self.answers -= 1
        if self.answers < 0:
            return
        if not answer.set_running_or_notify_cancel():
            return
        content = call.files[self.photo]
        if content.startswith(b"bad"):
            answer.set_exception(PhotoError("photo is not an image that can be read"))
        elif content.startswith(b"bug"):
            answer.set_exception(ZeroDivisionError("oh"))
        else:
            answer.set_result(Answer(content[::-1], faces=2, note=_NOTES.get(content, "")))


def add(store: Store, photos: Mapping[str, bytes], owner: str = "", model: str = "gpen") -> str:
    """A job of photos that came one by one."""
    with store.receiving() as name:
        for number, content in enumerate(photos.values()):
            store.sent(name, str(number)).write_bytes(content)
        job = Job(name, owner, Call(model, {}), "photo", {}, time.time())
        store.add(job, [Photo(n, photo, str(n), False, f"{photo}.png") for n, photo in enumerate(photos)])
    return name


def packed(photos: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip of photos."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in photos.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    Runner(Store(JobOptions(folder, spare_mib=0)), FakeCrew(0.02).submit, {"gpen"})
    print("ready", flush=True)
