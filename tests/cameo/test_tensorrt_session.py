"""The session of TensorRT and TensorRT-RTX on a fake device: profiles, buffers, and what is left after closing."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cameo.backends import SessionOptions, _cuda, _tensorrt_session, backend
from cameo.backends._tensorrt_session import TensorRtSession
from cameo.errors import EngineError, EngineUnavailable
from tests.cameo.fake_tensorrt import FakeCuda, FakeEngine, module


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "engine").write_bytes(b"an engine")
    return tmp_path / "engine"


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def session(path: Path, cuda: Any, engine: FakeEngine) -> Iterator[TensorRtSession]:
    with TensorRtSession(module(engine), cuda, "tensorrt", path) as opened:
        yield opened
    assert cuda.held == {}
    assert cuda.streams == []


def image(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, shape, np.uint8)


def test_it_runs(session: TensorRtSession) -> None:
    photo = image(1, 20, 30, 3)
    result = session.run({"image": photo})["result"]
    np.testing.assert_array_equal(result, 255 - photo)


def test_results_belong_to_the_caller(session: TensorRtSession) -> None:
    first = session.run({"image": image(1, 20, 30, 3)})["result"]
    kept = first.copy()
    session.run({"image": image(1, 20, 30, 3)[:, ::-1]})
    np.testing.assert_array_equal(first, kept)


def test_the_smallest_profile_that_takes_the_shape_is_chosen(session: TensorRtSession, engine: FakeEngine) -> None:
    for side in (64, 32, 100, 100, 200, 16):
        session.run({"image": image(1, side, side, 3)})
    assert engine.context.switches == [2, 1, 0]


def test_a_shape_of_no_profile_is_one_sentence(session: TensorRtSession) -> None:
    with pytest.raises(EngineError, match=r"was fed image \(5, 300, 64, 3\): it was built for .*larger range"):
        session.run({"image": image(5, 300, 64, 3)})


@pytest.mark.parametrize("batch", [2, 4, 5, 9])
def test_a_batch_beyond_the_profiles_runs_in_parts(session: TensorRtSession, batch: int) -> None:
    photos = image(batch, 100, 100, 3)
    np.testing.assert_array_equal(session.run({"image": photos})["result"], 255 - photos)


def test_buffers_only_grow(session: TensorRtSession, cuda: FakeCuda) -> None:
    session.run({"image": image(1, 128, 128, 3)})
    before = len(cuda.allocations)
    for side in np.random.default_rng(0).integers(8, 128, 200):
        session.run({"image": image(1, side, side, 3)})
    assert len(cuda.allocations) == before
    session.run({"image": image(2, 200, 200, 3)})
    assert len(cuda.held) == 3


def test_sessions_take_turns_with_one_activation_buffer(path: Path, session: TensorRtSession, cuda: Any) -> None:
    session.run({"image": image(1, 64, 64, 3)})
    with TensorRtSession(module(FakeEngine()), cuda, "tensorrt", path) as other:
        other.run({"image": image(1, 32, 32, 3)})
        assert sorted(map(len, cuda.held.values()))[-2:] == [64 * 64 * 3, 100 * 64 * 64 * 3]
    assert len(cuda.held) == 3
    np.testing.assert_array_equal(session.run({"image": image(1, 9, 9, 3)})["result"], 255 - image(1, 9, 9, 3))


def test_closing_twice_does_no_harm_and_running_after_does(path: Path, cuda: Any, engine: FakeEngine) -> None:
    closed = TensorRtSession(module(engine), cuda, "tensorrt", path)
    closed.close()
    closed.close()
    assert cuda.held == {}
    with pytest.raises(EngineError, match="after its session was closed"):
        closed.run({"image": image(1, 8, 8, 3)})


def test_a_network_that_does_not_start_is_an_error(session: TensorRtSession, engine: FakeEngine) -> None:
    engine.context.starts = False
    with pytest.raises(EngineError, match="could not start the network"):
        session.run({"image": image(1, 8, 8, 3)})


def test_an_engine_of_another_version_is_one_sentence(path: Path, cuda: Any) -> None:
    with pytest.raises(EngineError, match="built for other GPUs or by another version; build it for this GPU"):
        TensorRtSession(module(None), cuda, "tensorrt", path)
    assert cuda.held == {}


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_what_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(_tensorrt_session.importlib.util, "find_spec", lambda module: None)
    with pytest.raises(EngineUnavailable, match=f"{name}: the package {name} is not installed"):
        backend(name).open_session(path, SessionOptions())
    monkeypatch.setattr(_tensorrt_session.importlib.util, "find_spec", lambda module: object())
    monkeypatch.setattr(_tensorrt_session, "why_no_gpu", lambda: "there is no driver")
    with pytest.raises(EngineUnavailable, match=f"{name}: there is no driver"):
        backend(name).open_session(path, SessionOptions())
    with pytest.raises(EngineUnavailable, match="runs on 'cuda' only, not on 'cpu'"):
        backend(name).open_session(path, SessionOptions(device="cpu"))


def test_cuda_says_when_memory_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = SimpleNamespace(cudaSuccess=0, cudaErrorMemoryAllocation=2)
    answers = {2**30: (2, 0), 8: (0, 4096), 9: (SimpleNamespace(name="cudaErrorUnknown"), 0)}
    cuda = object.__new__(_cuda.Cuda)
    cuda._runtime = SimpleNamespace(cudaError_t=errors, cudaMalloc=answers.__getitem__)
    assert cuda.allocate(8) == 4096
    with pytest.raises(EngineError, match="no 1024 MiB free: use a smaller size or batch"):
        cuda.allocate(2**30)
    with pytest.raises(EngineError, match="CUDA failed with cudaErrorUnknown"):
        cuda.allocate(9)
