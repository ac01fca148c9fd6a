"""TensorRT-RTX really builds here, without a GPU; TensorRT is built through the same module under its name."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest

import engines.tensorrt
from cameo.cuda_driver import CudaDevice
from cameo.errors import EngineError, EngineUnavailable, RequestError
from engines import EngineOptions, InputRange, engine
from optimize._conversion.fp16_graph import fp16_graph, named
from tests.engines.networks import write_blur, write_masked, write_transposed_bytes

trt = pytest.importorskip("tensorrt_rtx")

SMALL = InputRange("small", (1, 16, 16, 3), (1, 64, 64, 3), (1, 64, 64, 3))
LARGE = InputRange("large", (1, 16, 16, 3), (1, 256, 256, 3), (2, 256, 256, 3))


@pytest.fixture(scope="module")
def blur(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blur(tmp_path_factory.mktemp("networks") / "blur.onnx", channels=32, layers=3)


def facts(source: Path, out: Path, *ranges: InputRange, targets: tuple[str, ...] = ("sm_86",)) -> dict[str, Any]:
    return dict(engine("tensorrt-rtx").builder(EngineOptions(ranges, targets)).run(source, out))


def test_memory_is_planned_for_every_range_and_target(blur: Path, tmp_path: Path) -> None:
    targets = ("sm_86", "sm_89", "sm_120")
    found = facts(blur, tmp_path / "e", SMALL, LARGE, targets=targets)
    assert found["targets"] == list(targets)
    assert [(p["target"], p["name"]) for p in found["profiles"]] == [
        (t, r) for t in targets for r in ("small", "large")
    ]
    largest_layer = 2 * 256 * 256 * 32 * 4
    for profile in found["profiles"]:
        assert profile["weight_bytes"] >= 4 * (3 * 32 * 9 + 32 * 32 * 9 + 32 * 3 * 9)
    assert all(p["activation_bytes"] > largest_layer for p in found["profiles"] if p["name"] == "large")
    assert all(p["activation_bytes"] < largest_layer for p in found["profiles"] if p["name"] == "small")


def test_figures_are_those_of_the_range_built_alone(blur: Path, tmp_path: Path) -> None:
    """The builder's log names no profile: this is what proves that its figures come in the order of the profiles."""
    together = facts(blur, tmp_path / "e", LARGE, SMALL)["profiles"]
    alone = [facts(blur, tmp_path / "e", range_)["profiles"][0] for range_ in (LARGE, SMALL)]
    assert together == alone


def test_one_engine_serves_all_targets(blur: Path, tmp_path: Path) -> None:
    facts(blur, tmp_path / "one", SMALL)
    facts(blur, tmp_path / "three", SMALL, targets=("sm_86", "sm_89", "sm_120"))
    assert (tmp_path / "three").stat().st_size > (tmp_path / "one").stat().st_size


def test_weights_in_fp16_do_not_grow_with_the_picture(blur: Path, tmp_path: Path) -> None:
    """An odd number of channels would be padded with a picture of zeros, planned among the weights."""
    half = tmp_path / "half.onnx"
    onnx.save(fp16_graph(named(onnx.load(blur)), ()), half)
    shapes = [(1, size, size, 3) for size in (64, 256)]
    ranges = [InputRange(str(shape), shape, shape, shape) for shape in shapes]
    small, large = (facts(half, tmp_path / "e", range_)["profiles"][0]["weight_bytes"] for range_ in ranges)
    assert small == large


def test_the_unreadable_node_is_named(tmp_path: Path) -> None:
    graph = write_transposed_bytes(tmp_path / "bytes.onnx")
    with pytest.raises(EngineError, match=r"cannot read bytes\.onnx: node 'mirror' \(Transpose\): .*UInt8"):
        facts(graph, tmp_path / "e", SMALL)
    assert not (tmp_path / "e").exists()


def test_an_unknown_target_lists_the_known(blur: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot build for 'sm_99': choose from sm_75.*sm_86"):
        facts(blur, tmp_path / "e", SMALL, targets=("sm_99",))


def test_dynamic_inputs_need_a_range_that_fits(blur: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="needs input ranges for blur.onnx, whose input 'image' is dynamic"):
        facts(blur, tmp_path / "e")
    four = InputRange("four", (1, 16, 16, 4), (1, 16, 16, 4), (1, 16, 16, 4))
    with pytest.raises(EngineError, match="does not fit the input 'image'"):
        facts(blur, tmp_path / "e", four)


def test_other_inputs_share_the_images_axes_by_name(tmp_path: Path) -> None:
    """Here of a mask as large as the photo, and of a vector for each photo."""
    for axes, fits in ((["N", "H", "W", 1], True), (["N", 3], True), (["N", "H", "X", 1], False)):
        graph = write_masked(tmp_path / "masked.onnx", axes)
        if fits:
            assert facts(graph, tmp_path / "e", SMALL, LARGE)["profiles"]
        else:
            with pytest.raises(EngineError, match="does not fit the input 'mask'"):
                facts(graph, tmp_path / "e", SMALL)


def test_tensorrt_needs_its_package_and_a_gpu(monkeypatch: pytest.MonkeyPatch, blur: Path, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(engines.tensorrt, "why_no_gpu", lambda: "no driver")
    monkeypatch.setattr(engines.tensorrt.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineUnavailable, match="the package tensorrt is not installed"):
        engine("tensorrt").builder(EngineOptions((SMALL,))).run(blur, tmp_path / "e")
    monkeypatch.setattr(engines.tensorrt.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(EngineUnavailable, match="builds on the GPU that it will run on: no driver"):
        engine("tensorrt").builder(EngineOptions((SMALL,))).run(blur, tmp_path / "e")


def test_tensorrt_builds_with_the_same_code(monkeypatch: pytest.MonkeyPatch, blur: Path, tmp_path: Path) -> None:
    """The RTX module under TensorRT's name; its configuration stands in for "the GPU of this machine"."""

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._builder = trt.Builder(logger)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._builder, name)

        def create_builder_config(self) -> Any:
            config = self._builder.create_builder_config()
            config.num_compute_capabilities = 1
            config.set_compute_capability(trt.ComputeCapability.SM86, 0)
            return config

    alias = ModuleType("tensorrt")
    alias.__dict__.update({**vars(trt), "Builder": Builder, "__spec__": trt.__spec__})
    monkeypatch.setitem(sys.modules, "tensorrt", alias)
    monkeypatch.setattr(engines.tensorrt, "why_no_gpu", lambda: None)
    monkeypatch.setattr(engines.tensorrt, "devices", lambda: [CudaDevice("A GPU", "sm_86", 8192)])
    found = engine("tensorrt").builder(EngineOptions((SMALL,))).run(blur, tmp_path / "e")
    assert found["targets"] == ["sm_86"]
    assert found["profiles"] == facts(blur, tmp_path / "rtx", SMALL)["profiles"]
    assert (tmp_path / "e").stat().st_size == (tmp_path / "rtx").stat().st_size
