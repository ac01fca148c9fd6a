"""Nothing that is asked of a server keeps its event loop at the disk, on which everybody else waits."""

from __future__ import annotations

import asyncio
import builtins
import io
import os
import shutil
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from PIL import Image

from cameo.images import read_photo
from cameo.jobs.job import JobOptions
from cameo.jobs.store import Store
from cameo.server import page
from tests.cameo.jobs.fake import BEGUN
from tests.support.served import Running, hang_up, png, serving, wait_for

WATCHED = (
    (Store, "_at_once"),
    (Path, "mkdir"),
    (Path, "iterdir"),
    (io, "open"),  # what Path has it open
    (builtins, "open"),
    (os, "fsync"),
    (shutil, "rmtree"),
    (shutil, "disk_usage"),
)


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[bool]]:
    """Which ways to the disk were used, and whether that was in a thread that runs an event loop."""
    found: dict[str, set[bool]] = defaultdict(set)

    def watch(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if not _is_no_work(str(*args[:1])):
                found[f"{owner.__name__}.{name}"].add(_is_on_loop())
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    for owner, name in WATCHED:
        watch(owner, name)
    return found


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _is_no_work(path: str) -> bool:
    """The kernel's own files are on no disk (the worker, in tests in this process, asks them what memory is left), and
    a library imports some module when it first needs it.
    """
    return path.startswith(("/proc/", "/sys/")) or path.endswith((".py", ".pyc"))


def noise() -> bytes:
    """A photo that comes in many pieces."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(1, 255, (700, 700, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def take_a_job(server: Running) -> str:
    """A job that is taken and done, whose results are whole."""
    where, photo = f"http://127.0.0.1:{server.port}/v1/jobs", noise()
    files = [("photos", ("a.png", photo)), ("photos", ("empty.png", b"")), ("photos", ("b.png", png(9)))]
    answer = httpx2.post(where, files=files)
    assert answer.status_code == 202
    job = f"/v1/jobs/{answer.json()['id']}"
    wait_for(lambda: server.ask("GET", job)[1]["state"] == "done")
    (failure,) = server.ask("GET", job)[1]["failures"]
    assert failure["photo"] == "empty.png"
    with zipfile.ZipFile(io.BytesIO(server.ask("GET", f"{job}/results")[1])) as results:
        assert (read_photo(results.read("a.png")) == 255 - read_photo(photo)).all()
    assert server.ask("GET", f"{job}/results/b.png")[0] == server.ask("GET", f"{job}/results/results.csv")[0] == 200
    return job


def refuse_jobs(server: Running, folder: Path) -> None:
    """One that cannot be used, and one that stalls."""
    where = f"http://127.0.0.1:{server.port}/v1/jobs"
    assert httpx2.post(where, files={"photos": ("../a.png", b"x")}).status_code == 400
    assert server.connect(BEGUN).recv(2**16).startswith(b"HTTP/1.1 408 ")
    wait_for(lambda: not list(folder.glob("*/sent")))
    hang_up()


def test_the_event_loop_is_never_kept_at_the_disk(tmp_path: Path, used: dict[str, set[bool]]) -> None:
    page._template.cache_clear()
    with serving(stall_s=0.3, jobs=JobOptions(tmp_path, spare_mib=0)) as server:
        for path in ("/", "/live", "/ready", "/health", "/v1/models", "/v1/models/test", "/openapi.json", "/metrics"):
            assert server.ask("GET", path)[0] == 200
        assert server.ask("POST", "/run", png(9))[0] == 200
        job = take_a_job(server)
        assert server.ask("GET", "/v1/jobs")[0] == 200
        assert server.ask("DELETE", job)[0] == 204
        refuse_jobs(server, tmp_path)
    assert {name: sorted(where) for name, where in used.items()} == {
        f"{owner.__name__}.{name}": [False] for owner, name in WATCHED
    }
