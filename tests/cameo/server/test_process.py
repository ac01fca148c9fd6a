"""`cameo serve` as it is run: a front, a worker in a process of its own, killed and told to end."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from cameo.images import read_photo
from cameo.workers.wire import send
from tests.support.blur_bundle import write_bundle
from tests.support.served import ask, png, wait_for

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
SIDE = 64
PHOTO, LARGE = png(200, (SIDE, SIDE)), png(200, (5000, 5000))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("blur"), "gpen", ["gpen-bfr-64"], ["onnxruntime"])


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The server and its port."""
    command = [sys.executable, "-m", "cameo.commands", "serve", *arguments, "--aligned", "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as running:  # type: ignore[call-overload]
        try:
            assert running.stdout is not None
            lines = iter(running.stdout.readline, "")
            yield running, next(int(found[1]) for line in lines if (found := re.search(r"serving on .*:(\d+);", line)))
        finally:
            running.kill()


def worker_of(running: subprocess.Popen[str]) -> psutil.Process:
    (worker,) = psutil.Process(running.pid).children()
    return worker


def post(port: int, model: str, photo: bytes = PHOTO) -> int:
    status, content, _ = ask(port, "POST", f"/v1/models/{model}", photo)
    if status == 200:
        assert read_photo(content).shape == (SIDE, SIDE, 3)
    return status


def test_two_models_are_served_and_what_was_accepted_is_finished(bundle: Path) -> None:
    with served(f"one={bundle}", f"two={bundle}") as (running, port), ThreadPoolExecutor(2) as clients:
        assert [post(port, name, LARGE) for name in ("one", "two")] == [200, 200]
        assert post(port, "three") == 404
        worker = worker_of(running)
        asked = [clients.submit(post, port, name, LARGE) for name in ("one", "two")]
        wait_for(lambda: ask(port, "GET", "/health")[1]["inside"] == 2)
        running.send_signal(signal.SIGTERM)
        _, logged = running.communicate(timeout=30)
        assert [job.result() for job in asked] == [200] * 2
        assert running.returncode == 0
        wait_for(lambda: not worker.is_running())
    lines = [json.loads(line) for line in logged.splitlines()]
    asked_for = [line for line in lines if line["logger"] == "cameo.access"]
    assert [line["status"] for line in asked_for] == [200, 200, 404, 200, 200]
    assert all(line["memory_mib"] < line["memory_budget_mib"] for line in asked_for)
    said = [line["message"] for line in lines if line["logger"] != "cameo.access"]
    assert said == ["told to end: 2 photos inside, which it finishes, within 30 s", "ended"]


def test_told_to_end_twice_it_ends_at_once_and_says_so(bundle: Path) -> None:
    with served(f"one={bundle}") as (running, port), ThreadPoolExecutor(3) as clients:
        asked = [clients.submit(ask, port, "POST", "/run", LARGE) for _ in range(3)]
        wait_for(lambda: ask(port, "GET", "/health")[1]["inside"] == 3)
        running.send_signal(signal.SIGINT)
        assert running.stderr is not None
        assert "told to end: 3 photos inside" in next(line for line in running.stderr if "access" not in line)
        running.send_signal(signal.SIGINT)
        _, logged = running.communicate(timeout=30)
        turned_away = [job.result() for job in asked if job.result()[0] != 200]
    assert running.returncode == 130
    assert "Traceback" not in logged
    assert turned_away
    for status, content, _ in turned_away:
        assert status == 503
        assert content["error"].startswith("the server ends without waiting for this request: send it again")


@pytest.mark.parametrize("form", ["json", "text"])
def test_all_that_it_writes_is_of_the_form_that_was_asked_for(bundle: Path, form: str) -> None:
    command = [sys.executable, "-m", "cameo.commands", "serve", f"one={bundle}", "--port", "0", "--log", form]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as running:  # type: ignore[call-overload]
        assert running.stdout is not None
        assert running.stderr is not None
        lines = []
        for line in running.stdout:
            lines.append(line)
            if found := re.search(r"serving on http://127.0.0.1:(\d+);", line):
                assert ask(int(found[1]), "GET", "/nowhere")[0] == 404
                running.send_signal(signal.SIGTERM)
        logged = running.stderr.read().splitlines()
    assert running.returncode == 0
    assert len(logged) == 3
    assert "told to end" in logged[1]
    if form == "json":
        *about, serving = [json.loads(line)["message"] for line in lines]
        assert json.loads(logged[0])["status"] == 404
    else:
        *about, serving = (line.rstrip("\n") for line in lines)
        assert "'/nowhere' 404" in logged[0]
    assert serving.startswith("serving on http://127.0.0.1:")
    assert "one: gpen-bfr-64 on onnxruntime fp32" in about
    assert any(line.startswith("one: The bundle lacks retinaface-r50: ") for line in about)


def test_a_worker_logs_in_the_form_that_was_asked_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [sys.executable, "-m", "cameo.workers.child", str(theirs.fileno()), "json"]
        pipes: dict[str, Any] = {"pass_fds": (theirs.fileno(),), "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=ROOT, **pipes) as worker:
            send(ours, {"do": "dance"})
            _, logged = worker.communicate(timeout=30)
    line = json.loads(logged)
    assert (line["level"], line["message"]) == ("error", "the worker ends by a bug")
    assert "_dance" in line["traceback"]


def test_a_worker_that_is_killed_is_replaced_and_loses_nothing(bundle: Path) -> None:
    with served(f"one={bundle}") as (running, port), ThreadPoolExecutor(4) as clients:
        worker = worker_of(running)
        asked = [clients.submit(post, port, "one", LARGE) for _ in range(4)]
        wait_for(lambda: ask(port, "GET", "/health")[1]["inside"] > 1)
        worker.kill()
        assert [job.result() for job in asked] == [200] * 4
        assert post(port, "one") == 200
        assert worker_of(running).pid != worker.pid
        assert b'cameo_worker_restarts_total{worker="0"} 1.0' in ask(port, "GET", "/metrics")[1]
        running.send_signal(signal.SIGTERM)
        _, logged = running.communicate(timeout=30)
        assert running.returncode == 0
    said = [json.loads(line).get("message", "") for line in logged.splitlines()]
    assert "a worker is replaced: the worker ended by signal 9" in said


def test_a_front_that_is_killed_leaves_no_worker(bundle: Path) -> None:
    with served(f"one={bundle}") as (running, port):
        assert post(port, "one") == 200
        worker = worker_of(running)
        running.kill()
        wait_for(lambda: not worker.is_running())


def test_the_front_opens_no_engine(bundle: Path) -> None:
    """By the libraries that its process has mapped."""
    with served(f"one={bundle}") as (running, port):
        assert post(port, "one") == 200
        assert "onnxruntime" in Path(f"/proc/{worker_of(running).pid}/maps").read_text()
        assert "onnxruntime" not in Path(f"/proc/{running.pid}/maps").read_text()


def test_a_bundle_that_cannot_be_opened_is_one_sentence(bundle: Path, tmp_path: Path) -> None:
    for path in bundle.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with (tmp_path / "onnxruntime").open("ab") as engine:
        engine.write(b"x")
    command = [sys.executable, "-m", "cameo.commands", "serve", str(tmp_path), "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    (said,) = done.stderr.splitlines()
    assert "was changed since the bundle was built" in said
