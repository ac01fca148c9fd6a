"""Workers in processes of their own, with real engines: killed, wedged, left alone, and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import cameo
from cameo.errors import BundleError, EngineError, Late, PhotoError
from cameo.images import read_photo
from cameo.workers import child as child_module
from cameo.workers import child_process
from cameo.workers.breaker import Breaker
from cameo.workers.calls import Answer, Call, Served, WorkOptions
from cameo.workers.child import Child, said
from cameo.workers.child_process import ChildProcess
from cameo.workers.crew import Crew, CrewOptions
from cameo.workers.wire import Message
from tests.support.blur_bundle import write_bundle
from tests.support.served import png, wait_for

ROOT = Path(__file__).resolve().parents[3]
SIDE = 64


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    folder = write_bundle(tmp_path_factory.mktemp("blur"), "gpen", ["gpen-bfr-64"], ["onnxruntime"])
    return Served("blur", folder, {"engine": "onnxruntime"}, {"aligned": "yes"})


class Firm:
    """The children that were started."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.hired: list[ChildProcess] = []

    def hire(self) -> ChildProcess:
        self.hired.append(ChildProcess([self._served], WorkOptions()))
        return self.hired[-1]


def test_a_worker_with_nothing_to_do_gives_memory_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []
    monkeypatch.setattr(child_module, "give_back", lambda: given.append(True))
    answer: Future[Answer] = Future()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = Child(theirs)
        worker._executor = SimpleNamespace(start=lambda call: answer, state=lambda: None)  # type: ignore[assignment]
        worker._turn()
        worker._call(Message({"number": 1, "call": {"model": "blur"}}, {"image": b""}))
        worker._turn()
        assert not given
        answer.set_result(Answer(b"", 0, "", {}))
        worker._turn()
        worker._turn()
    assert given == [True]


@pytest.fixture
def firm(served: Served) -> Iterator[Firm]:
    made = Firm(served)
    yield made
    for worker in made.hired:
        worker.kill()
        worker.died.result(10)


def call(value: int = 200, size: int = SIDE) -> Call:
    return Call("blur", {"photo": png(value, (size, size))})


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_child_answers_as_the_library_does_and_ends(firm: Firm, served: Served) -> None:
    worker = firm.hire()
    worker.ready.result(60)
    with cameo.load(served.bundle, engine="onnxruntime", aligned=True) as model:
        alone = model.run(call().files["photo"])
    answer = worker.start(call()).result(60)
    np.testing.assert_array_equal(read_photo(answer.content), alone.image)
    assert (answer.faces, answer.note) == (len(alone.faces), alone.note)
    wait_for(lambda: worker.state() is not None and worker.state().batches == {"1": 1})  # type: ignore[union-attr]
    assert worker.end(10)
    assert worker.died.result(10) == "the worker ended with exit code 0"


def test_errors_come_back_as_they_are(firm: Firm, tmp_path: Path) -> None:
    worker = firm.hire()
    with pytest.raises(PhotoError, match="is not an image that can be read"):
        worker.start(Call("blur", {"photo": b"nothing"})).result(60)
    firm.hired.append(ChildProcess([Served("none", tmp_path)], WorkOptions()))
    with pytest.raises(BundleError, match="bundle.json"):
        firm.hired[-1].ready.result(60)


def test_an_error_of_a_kind_that_only_its_module_knows_comes_back_as_what_it_is_a_kind_of() -> None:
    class NoFaceError(PhotoError):
        pass

    assert said(NoFaceError("nobody is there")) == {"error": "PhotoError", "message": "nobody is there"}


def test_a_bug_is_logged_where_it_happened_and_told_as_one(firm: Firm, capfd: pytest.CaptureFixture[str]) -> None:
    worker = firm.hire()
    broken = Call("blur", {"photo": png(1)}, suffix=5)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="a bug in the worker, whose log has more: AttributeError"):
        worker.start(broken).result(60)
    assert "in _format_of" in capfd.readouterr().err
    assert worker.start(call()).result(60)


def test_a_child_imports_neither_a_server_nor_an_engine_before_it_is_asked() -> None:
    program = "import sys, cameo.workers.child, cameo.workers.child_process; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    loaded = {name.split(".")[0] for name in out.split()}
    assert not loaded & {"starlette", "uvicorn", "openvino", "onnxruntime", "tensorrt", "tensorrt_rtx"}


def test_a_child_outlives_signals_of_the_terminal_but_not_its_front(served: Served) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom cameo.workers.calls import *\n"
        "from cameo.workers.child_process import ChildProcess\n"
        f"worker = ChildProcess([Served('blur', Path({str(served.bundle)!r}))], WorkOptions())\n"
        "worker.ready.result(60)\nprint(worker.pid, flush=True)\ntime.sleep(100)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True) as front:
        assert front.stdout
        pid = int(front.stdout.readline())
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(pid, number)
        time.sleep(0.2)
        assert not is_gone(pid)
        front.kill()
    wait_for(lambda: is_gone(pid))


def test_a_killed_worker_leaves_no_memory_behind(firm: Firm) -> None:
    before = set(os.listdir("/dev/shm"))
    worker = firm.hire()
    worker.ready.result(60)
    worker.start(call(size=2000))
    worker.kill()
    assert worker.died.result(10) == "the worker ended by signal 9"
    assert set(os.listdir("/dev/shm")) <= before


def test_a_worker_that_ends_within_a_call_says_so(firm: Firm) -> None:
    worker = firm.hire()
    worker.ready.result(60)
    worker.start(call(size=3000))
    assert not worker.end(0.0)
    assert worker.died.result(10) == "the worker ended with exit code 1"


def test_a_worker_that_cannot_be_understood_is_ended(firm: Firm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a free descriptor a message comes without its file."""

    def receive(connection: Any) -> Any:
        raise IndexError

    monkeypatch.setattr(child_process, "receive", receive)
    worker = firm.hire()
    assert worker.died.result(10) == "the worker ended by signal 9"
    assert isinstance(worker.ready.exception(0), EngineError)


def test_workers_leave_neither_descriptors_nor_threads(firm: Firm) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    before = held()
    for _ in range(3):
        worker = firm.hire()
        worker.start(call())
        worker.kill()
        worker.died.result(10)
    wait_for(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))


def test_a_wedged_worker_is_replaced(firm: Firm) -> None:
    crew = Crew([firm.hire], CrewOptions(in_flight=2, grace_s=0.3))
    crew.open()
    wedged = firm.hired[0]
    os.kill(wedged.pid, signal.SIGSTOP)
    late, other = crew.submit(call(), 0.2), crew.submit(call(100), 60)
    with pytest.raises(Late):
        late.result(5)
    assert other.result(60).content
    assert wedged.died.result(5) == "the worker ended by signal 9"
    assert len(firm.hired) == 2
    assert crew.close(10)


@pytest.mark.slow
def test_nothing_is_lost_when_workers_are_killed_at_twenty_moments(firm: Firm) -> None:
    """Every call is answered once; only one that was inside at two deaths may have an error that says so."""
    crew = Crew([firm.hire], CrewOptions(queue=1000), lambda: Breaker(deaths=100))
    crew.open()
    values = [int(value) for value in np.random.default_rng(0).integers(0, 255, 300)]
    alone = {value: crew.submit(call(value), 60).result(60).content for value in set(values)}
    heard: list[int] = []
    answers: list[Any] = []
    for kill in range(20):
        for number in range(15 * kill, 15 * kill + 15):
            answers.append(crew.submit(call(values[number]), 120))
            answers[-1].add_done_callback(lambda _, number=number: heard.append(number))
        time.sleep(random.uniform(0, 0.1))
        worker = firm.hired[-1]
        worker.kill()
        worker.died.result(10)
        began = time.monotonic()
        assert crew.submit(call(), 120).result(60)
        assert time.monotonic() - began < 60
    made = [answer.exception(60) or answer.result().content for answer in answers]
    assert sorted(heard) == list(range(300))
    for value, one in zip(values, made, strict=True):
        assert one == alone[value] or (isinstance(one, EngineError) and "ended twice" in str(one))
    assert crew.close(20)


def test_there_is_a_worker_for_each_of_several_gpus(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    monkeypatch.setattr(child_process, "ChildProcess", lambda *given: started.append(given[2]))
    monkeypatch.setattr(child_process, "gpus_of", lambda served: ["4", "7"])
    for hire in child_process.hires([served], WorkOptions()):
        hire()
    assert started == [{"CUDA_VISIBLE_DEVICES": "4"}, {"CUDA_VISIBLE_DEVICES": "7"}]
