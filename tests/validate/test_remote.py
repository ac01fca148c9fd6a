"""Workers answer, report their memory, and when they die say how in one sentence."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from cameo.errors import BundleError, EngineError
from tests.validate.bundles import halve, write_bundle
from validate.remote import RemoteSession, Spec


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "halve", "halve", {"fp32": halve()})


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    path = tmp_path / "feeds.npz"
    np.savez(path, image=np.arange(2 * 4 * 8 * 3, dtype=np.uint8).reshape(2, 4, 8, 3))
    return path


@pytest.fixture
def session(bundle: Path, tmp_path: Path) -> Iterator[RemoteSession]:
    with RemoteSession(_spec(bundle), tmp_path, timeout_s=60) as opened:
        opened.wait()
        yield opened


def _spec(bundle: Path) -> Spec:
    return Spec("halve/onnxruntime-fp32", "halve", bundle=str(bundle), engine="onnxruntime")


def _pid(session: RemoteSession) -> int:
    return session._child.pid


def test_runs_times_and_tells_its_memory(session: RemoteSession, feeds: Path) -> None:
    image = np.load(feeds)["image"]
    result = session.run(feeds)["result"]
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, image // 2)
    assert 0 < session.time(feeds) < 5000
    before = session.memory()["peak_rss_mib"]
    assert before is not None
    assert 20 < before < 500
    large = feeds.with_name("large.npz")
    np.savez(large, image=np.ones((4, 2048, 2048, 3), np.uint8))
    session.time(large)
    after = session.memory()["peak_rss_mib"]
    assert after is not None
    assert after > before + 400, "two float copies of the 48 MiB of input are 192 MiB each"


def test_an_error_leaves_the_worker_alive(session: RemoteSession, feeds: Path) -> None:
    wrong = feeds.with_name("wrong.npz")
    np.savez(wrong, image=np.zeros((1, 4, 4, 3), np.float32))
    with pytest.raises(EngineError, match="halve/onnxruntime-fp32 failed while running"):
        session.run(wrong)
    assert session.run(feeds)["result"].shape == (2, 4, 8, 3)


@pytest.mark.parametrize(
    ("killed_by", "said"), [(signal.SIGKILL, "was killed, most likely for want of memory"), (signal.SIGSEGV, "SIGSEGV")]
)
def test_death_is_told_with_the_end_of_the_log(
    session: RemoteSession, feeds: Path, killed_by: signal.Signals, said: str
) -> None:
    with session.log.open("a") as log:
        log.write("libengine: assertion failed\n")
    os.kill(_pid(session), killed_by)
    with pytest.raises(
        EngineError, match=rf"{said}.* (while|between) .*; its last output was: .*libengine: assertion failed"
    ):
        session.run(feeds)


def test_a_worker_that_hangs_is_stopped(bundle: Path, tmp_path: Path, feeds: Path) -> None:
    with RemoteSession(_spec(bundle), tmp_path, timeout_s=60) as session:
        session.wait()
        session._timeout_s = 0.3
        os.kill(_pid(session), signal.SIGSTOP)
        with pytest.raises(EngineError, match=r"was stopped after 0\.3 s without an answer while running"):
            session.run(feeds)


def test_errors_of_loading_keep_their_class(bundle: Path, tmp_path: Path) -> None:
    with (
        RemoteSession(Spec("a", "absent", bundle=str(bundle), engine="onnxruntime"), tmp_path) as session,
        pytest.raises(BundleError, match="a failed while loading: .* has no network 'absent'"),
    ):
        session.wait()


def test_what_libraries_print_stays_out_of_the_answers(tmp_path: Path, feeds: Path) -> None:
    """Both Python's print and writes to file descriptor 1 go to standard error."""
    code = """
import os, sys, types
import exporters as originals, validate.worker as worker
from cameo.testing import FakeSession

def open_original(network, weights, part):
    print("loading", flush=True)
    os.write(1, b"chatter of a C++ library\\n")
    return FakeSession(lambda image: {"result": image})

originals.open_original = open_original
sys.exit(worker.main(sys.argv[1]))
"""
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(asdict(Spec("chatty/original", "chatty", weights="x.pb"))))
    request = json.dumps({"feeds": str(feeds), "out": ""})
    done = subprocess.run([sys.executable, "-c", code, spec], input=request, capture_output=True, text=True, check=True)
    ready, answer = map(json.loads, done.stdout.splitlines())
    assert ready == {"ready": True}
    assert set(answer) == {"latency_ms"}
    assert "loading" in done.stderr
    assert "chatter of a C++ library" in done.stderr
