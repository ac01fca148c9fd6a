"""A server that is killed amid its jobs goes on with them."""

from __future__ import annotations

import io
import random
import signal
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import httpx2
import pytest

from cameo.images import read_photo
from cameo.jobs.job import JobOptions
from cameo.jobs.store import Store
from tests.cameo.jobs.fake import add, packed
from tests.support.served import png, wait_for

ROOT = Path(__file__).resolve().parents[3]
PHOTOS = {f"{n:03}.jpg": f"{n:03}".encode() * 50_000 for n in range(400)}

MANY = range(1, 7)


def child(folder: Path) -> subprocess.Popen[str]:
    """A process that runs what waits in `folder`, for ever."""
    command = [sys.executable, "-m", "tests.cameo.jobs.fake", str(folder)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.stdout.close()
    return process


@pytest.mark.slow
def test_kill_9_at_random_moments_loses_nothing_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    store = Store(JobOptions(folder, spare_mib=0))
    jobs = [add(store, photos) for photos in (PHOTOS, dict(list(PHOTOS.items())[:50]))]
    moments, kept, amid = random.Random(0), 0, 0
    for _ in range(20):
        store.close()
        process = child(folder)
        time.sleep(moments.uniform(0.0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        halves = len(list(folder.glob("*/results/.*.part")))
        store = Store(JobOptions(folder, spare_mib=0))
        done = [(job, n, result) for job in jobs for n, result in store.results(job) if result.status == "done"]
        for job, number, result in done:
            assert store.result(job, number).read_bytes() == PHOTOS[result.photo][::-1], "what is done is whole"
        assert len(done) >= kept, "what was done stays done"
        there = len(list(folder.glob("*/results/*")))
        assert len(done) <= there <= len(done) + 2, "of what was in work, at most the result lies there"
        amid += len(done) > kept or there > len(done) or halves > 0
        kept = len(done)
    assert amid >= 15, "the kills were amid the work"
    assert 0 < kept < len(PHOTOS) + 50
    store.close()
    process = child(folder)
    wait_for(lambda: len(list(folder.glob("*/results/*"))) == len(PHOTOS) + 50, 60)
    time.sleep(0.3)  # the last ones are noted
    process.kill()
    process.wait(20)
    store = Store(JobOptions(folder, spare_mib=0))
    assert [store.progress(job).done for job in jobs] == [len(PHOTOS), 50]
    assert all(found is not None and found.finished for found in map(store.job, jobs))
    assert not list(folder.glob("*/results/.*"))
    store.close()


def server(folder: Path, seconds: float = 0.0) -> tuple[subprocess.Popen[str], str]:
    """A server that keeps its jobs in `folder`, whose photos take so long, and its address."""
    command = [sys.executable, "-m", "tests.cameo.jobs.served", str(folder), str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("serving on "))
    process.stdout.close()
    return process, line.split()[2].rstrip(";")


@pytest.mark.slow
def test_no_job_that_a_server_accepted_is_lost_when_it_is_killed(tmp_path: Path) -> None:
    """While two clients send jobs and others run, the server is killed at twenty random moments."""
    folder, moments = tmp_path / "jobs", random.Random(1)
    archive = packed({f"{n}.png": png(n, (200, 200)) for n in MANY})
    accepted: list[str] = []

    def send(where: str) -> None:
        with suppress(httpx2.TransportError):
            while True:
                answer = httpx2.post(f"{where}/v1/jobs", files={"photos": ("p.zip", archive)})
                assert answer.status_code == 202
                accepted.append(answer.json()["id"])

    for kill in range(20):
        # At last so slow that no machine is done with all of them before the last kill
        process, where = server(folder, 0.2 if kill > 16 else 0.0)
        clients = [threading.Thread(target=send, args=(where,)) for _ in range(2)]
        for client in clients:
            client.start()
        time.sleep(moments.uniform(0.0, 0.6))
        process.kill()
        process.wait(20)
        for client in clients:
            client.join(20)
    store = Store(JobOptions(folder))
    jobs = {job.id: store.progress(job.id) for job in store.jobs("")}
    assert len(accepted) > 20
    assert set(accepted) <= set(jobs)
    assert {path.name for path in folder.iterdir() if path.is_dir()} == set(jobs), "nothing is left of other uploads"
    assert any(job.done for job in jobs.values())
    assert any(job.waiting for job in jobs.values())
    store.close()
    process, where = server(folder)
    try:
        wait_for(lambda: all(job["state"] == "done" for job in httpx2.get(f"{where}/v1/jobs").json()["jobs"]), 120)
        for job in jobs:
            content = httpx2.get(f"{where}/v1/jobs/{job}/results").content
            with zipfile.ZipFile(io.BytesIO(content)) as results:
                made = {name: results.read(name) for name in results.namelist() if name != "results.csv"}
            assert {name: set(read_photo(made[name]).flat) for name in made} == {f"{n}.png": {255 - n} for n in MANY}
    finally:
        process.kill()
        process.wait(20)
