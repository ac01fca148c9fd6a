"""Every engine kind that is found: builds from the same graph, says what it planned, runs as the graph does."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from cameo.artifact import sha256_of, size_of
from cameo.backends import SessionOptions, backend, backend_names
from cameo.bundle import Profile
from cameo.errors import EngineError, RequestError
from engines import EngineOptions, InputRange, engine, engine_names
from pipeline.stage import Stage
from tests.engines.networks import write_blur

OPTIONS = EngineOptions((InputRange("small", (1, 8, 8, 3), (1, 32, 32, 3), (2, 64, 64, 3)),), ("sm_86",))
HERE = [name for name in engine_names() if engine(name).why_not_buildable() is None]


@pytest.fixture(scope="module")
def blur(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blur(tmp_path_factory.mktemp("networks") / "blur.onnx")


def build(name: str, source: Path, out: Path) -> dict[str, object]:
    return dict(engine(name).builder(OPTIONS).run(source, out))


def test_every_engine_has_a_backend() -> None:
    assert engine_names() == backend_names()
    assert {"onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"} <= set(engine_names())


def test_an_unknown_engine_is_one_sentence() -> None:
    with pytest.raises(RequestError, match="there is no engine 'ncnn': choose one of onnxruntime, openvino"):
        engine("ncnn")


@pytest.mark.parametrize("name", engine_names())
def test_builders_are_stages(name: str) -> None:
    stage = engine(name).builder(OPTIONS)
    assert isinstance(stage, Stage)
    assert dataclasses.is_dataclass(stage)
    assert stage == engine(name).builder(OPTIONS)
    assert hash(stage) == hash(engine(name).builder(OPTIONS))
    assert stage.name == f"build-{name}"
    assert engine(name).PRECISIONS["fp32"][0] == "fp32"


@pytest.mark.parametrize("name", HERE)
def test_building_twice_gives_the_same_engine(name: str, blur: Path, tmp_path: Path) -> None:
    facts = [build(name, blur, tmp_path / place) for place in ("first", "second")]
    assert facts[0] == facts[1]
    assert size_of(tmp_path / "first") == size_of(tmp_path / "second")
    if not name.startswith("tensorrt"):  # its compiler numbers a symbol differently in about one build of forty
        assert sha256_of(tmp_path / "first") == sha256_of(tmp_path / "second")
    assert all(isinstance(Profile(**profile), Profile) for profile in facts[0]["profiles"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", HERE)
def test_engines_run_as_the_graph_does(name: str, blur: Path, tmp_path: Path) -> None:
    if reason := backend(name).why_unavailable():
        pytest.skip(reason)
    build(name, blur, tmp_path / "engine")
    image = np.random.default_rng(1).integers(0, 256, (2, 20, 33, 3), np.uint8)
    with backend("onnxruntime").open_session(blur, SessionOptions()) as graph:
        expected = graph.run({"image": image})["result"]
    assert 0 < expected.mean() < 255
    with backend(name).open_session(tmp_path / "engine", SessionOptions()) as session:
        found = session.run({"image": image})["result"]
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("name", HERE)
def test_a_damaged_graph_is_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(EngineError, match=r"broken\.onnx"):
        build(name, tmp_path / "broken.onnx", tmp_path / "engine")


def test_openvino_keeps_weights_in_fp32(blur: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    build("openvino", blur, tmp_path / "engine")
    assert (tmp_path / "engine" / "model.bin").stat().st_size >= 4 * (16 * 3 * 9 + 3 * 16 * 9)
