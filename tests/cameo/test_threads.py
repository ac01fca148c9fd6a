"""One loaded model, many threads: every result is the one that a photo has alone, also while the model is closed."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import cameo
from cameo.backends import SessionOptions, backend
from cameo.backends._tensorrt_session import TensorRtSession
from cameo.backends._turns import TakingTurns
from cameo.errors import EngineError
from cameo.images import read_photo
from cameo.session import Tensor
from cameo.tensors import TensorSpec
from tests.cameo.fake_tensorrt import FakeCuda, FakeEngine, module
from tests.support.blur_bundle import write_bundle

pytestmark = pytest.mark.slow

THREADS = 4
ENGINES = ("onnxruntime", "openvino")
FLOWS = {"gpen": ("gpen-bfr-64",), "dctnet": ("dctnet-background", "dctnet-head")}


@pytest.fixture(scope="module")
def photos() -> list[Any]:
    """The demo's face at eight places and sizes."""
    photo = read_photo(Path(__file__).resolve().parents[2] / "demo" / "photo.jpg")
    near = photo[40:240, 120:320]
    return [cv2.resize(np.roll(near, 7 * n, axis=1), (200 + 16 * n, 200 + 16 * n)) for n in range(8)]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of each flow, whose networks sum neighbourhoods."""
    return {flow: write_bundle(tmp_path_factory.mktemp(flow), flow, names, ENGINES) for flow, names in FLOWS.items()}


def in_threads(run: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """`run` of every item, begun by all threads at the same moment."""
    start = threading.Barrier(THREADS)

    def work(thread: int) -> list[Any]:
        start.wait(20)
        return [run(item) for item in items[thread::THREADS]]

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(work, range(THREADS)))
    return [parts[n % THREADS][n // THREADS] for n in range(len(items))]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("flow", FLOWS)
def test_every_thread_gets_the_picture_that_a_photo_has_alone(
    flow: str, name: str, bundles: dict[str, Path], photos: list[Any]
) -> None:
    with cameo.load(bundles[flow], engine=name, precision="fp32") as model:
        alone = [model.run(photo) for photo in photos]
        assert all(result.faces for result in alone)
        results = in_threads(model.run, photos * 4)
    for n, result in enumerate(results):
        np.testing.assert_array_equal(result.image, alone[n % len(photos)].image)
        assert len(result.faces) == len(alone[n % len(photos)].faces)


@pytest.mark.parametrize("threads", [0, 1])
@pytest.mark.parametrize("name", ENGINES)
def test_sessions_give_every_thread_its_own_result(name: str, threads: int, bundles: dict[str, Path]) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (1, 16 + 8 * (n % 3), 24, 3), np.uint8) for n in range(40)]
    path = bundles["gpen"] / name
    with backend(name).open_session(path, SessionOptions("fp32", threads=threads)) as session:
        alone = [session.run({"image": image})["result"] for image in images]
        for expected, found in zip(
            alone, in_threads(lambda i: session.run({"image": i})["result"], images), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


@pytest.fixture
def switching() -> Iterator[None]:
    """Threads change as often as they can."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


def fake_session(tmp_path: Path, cuda: Any) -> TensorRtSession:
    (tmp_path / "engine").write_bytes(b"an engine")
    return TensorRtSession(module(FakeEngine()), cuda, "tensorrt", tmp_path / "engine")


def test_tensorrt_sessions_give_every_thread_its_own_result(tmp_path: Path, switching: None) -> None:
    """Two sessions, which share their activations."""
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, (1 + n % 5, *random.integers(8, 128, 2), 3), np.uint8) for n in range(200)]
    cuda: Any = FakeCuda()
    with fake_session(tmp_path, cuda) as one, fake_session(tmp_path, cuda) as other:
        found = in_threads(lambda n: (one, other)[n % 3 == 0].run({"image": images[n]})["result"], range(len(images)))
    for image, result in zip(images, found, strict=True):
        np.testing.assert_array_equal(result, 255 - image)
    assert cuda.held == {}


@pytest.mark.parametrize("name", [*ENGINES, "tensorrt"])
def test_closing_while_threads_run_is_a_clear_refusal(name: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    cuda: Any = FakeCuda()
    path = bundles["gpen"] / name
    session = fake_session(tmp_path, cuda) if name == "tensorrt" else backend(name).open_session(path, SessionOptions())
    alone = session.run({"image": image})["result"]
    running = threading.Barrier(THREADS + 1)

    def until_closed(_: int) -> str:
        running.wait(20)
        try:
            for _ in range(100_000):
                np.testing.assert_array_equal(session.run({"image": image})["result"], alone)
        except EngineError as error:
            return str(error)
        return "never closed"

    with ThreadPoolExecutor(THREADS + 2) as pool:
        ends = [pool.submit(until_closed, n) for n in range(THREADS)]
        running.wait(20)
        for closing in [pool.submit(session.close) for _ in range(2)]:
            closing.result(20)
    expected = f"{name} was asked to run after its session was closed: open it again"
    assert [end.result(20) for end in ends] == [expected] * THREADS
    assert cuda.held == {}


class Crowd(TakingTurns):
    """Counts who is inside at once."""

    def __init__(self, turns: int) -> None:
        super().__init__("crowd", turns)
        self.inputs = [TensorSpec("image", "uint8", ("N",))]
        self._counting = threading.Lock()
        self.inside = self.most = 0

    def _run(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        with self._counting:
            self.inside += 1
            self.most = max(self.most, self.inside)
        threading.Event().wait(0.01)
        with self._counting:
            self.inside -= 1
        return arrays

    def _free(self) -> None:
        assert self.inside == 0


@pytest.mark.parametrize("turns", [1, 2])
def test_no_more_run_at_once_than_there_are_turns(turns: int) -> None:
    """So memory does not grow with the number of threads."""
    with Crowd(turns) as crowd:
        in_threads(crowd.run, [{"image": np.zeros(1, np.uint8)}] * 20)
        assert crowd.most == turns


def test_onnxruntime_fills_the_cores_with_runs_of_few_threads(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    for threads, turns in ((0, 1), (1, 8), (3, 2), (16, 1)):
        options = SessionOptions("fp32", threads=threads)
        with backend("onnxruntime").open_session(bundles["gpen"] / "onnxruntime", options) as session:
            assert session._turns == turns  # type: ignore[attr-defined]


@pytest.mark.parametrize("flow", FLOWS)
def test_a_closed_model_says_so(flow: str, bundles: dict[str, Path], photos: list[Any]) -> None:
    """Also where no network would be asked: without a face, GPEN's flow needs none."""
    model = cameo.load(bundles[flow])
    model.close()
    model.close()
    with pytest.raises(EngineError, match="test was given a photo after it was closed: load it again"):
        model(np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(EngineError, match="after its session was closed"):
        model.flow.run({"photo": photos[0]}, model.request())
