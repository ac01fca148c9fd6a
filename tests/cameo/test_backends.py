"""Sessions of every engine that runs here: the same refusals, the caller's arrays, and memory that stays in bounds."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from cameo.backends import SessionOptions, backend, backend_names, runs
from cameo.errors import EngineError, EngineUnavailable
from engines import EngineOptions, engine, engine_names
from tests.engines.networks import write_blur

ROOT = Path(__file__).parents[2]
HERE = [
    name
    for name in engine_names()
    if engine(name).why_not_buildable() is None and backend(name).why_unavailable() is None
]
RUNS = [(name, precision) for name in HERE for precision in engine(name).PRECISIONS["fp32"]]
PHOTO = np.random.default_rng(0).integers(0, 256, (1, 24, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("engines")
    graph = write_blur(folder / "blur.onnx", channels=32, layers=3)
    for name in HERE:
        engine(name).builder(EngineOptions()).run(graph, folder / name)
    return {name: folder / name for name in HERE}


def options(name: str, precision: str) -> SessionOptions:
    if reason := backend(name).why_unavailable(precision):
        pytest.skip(reason)
    return SessionOptions(precision, threads=1)


def test_the_default_engines_run_here() -> None:
    assert {"onnxruntime", "openvino"} <= set(HERE)


def test_onnx_runtime_runs_where_it_says_first_unless_it_is_asked(built: dict[str, Path]) -> None:
    """So that its memory counts where it is."""
    way = runs("onnxruntime", "fp32")
    with backend("onnxruntime").open_session(built["onnxruntime"], options("onnxruntime", "fp32")) as session:
        providers = session._session.get_providers()  # type: ignore[attr-defined]
    assert way is not None
    assert way.devices[0] == "cpu"
    assert providers == ["CPUExecutionProvider"]


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"photo": PHOTO}, r"was fed photo: it takes exactly image: uint8 \(.*, 3\)"),
        ({}, "was fed nothing: it takes exactly image"),
        ({"image": PHOTO, "mask": PHOTO}, "was fed image, mask: it takes exactly image"),
        ({"image": PHOTO.astype(np.float32)}, r"was fed image as float32 \(1, 24, 32, 3\): expected .* uint8"),
        ({"image": PHOTO[0]}, r"was fed image as uint8 \(24, 32, 3\)"),
        ({"image": PHOTO[..., :2]}, r"was fed image as uint8 \(1, 24, 32, 2\)"),
        ({"image": PHOTO[:0]}, r"was fed image as uint8 \(0, 24, 32, 3\)"),
        ({"image": PHOTO.tolist()}, "was fed image as list: expected a numpy array"),
    ],
    ids=["name", "nothing", "too-many", "dtype", "rank", "channels", "empty", "list"],
)
def test_wrong_feeds_are_one_sentence(name: str, feeds: dict[str, Any], message: str, built: dict[str, Path]) -> None:
    with backend(name).open_session(built[name], SessionOptions()) as session:
        with pytest.raises(EngineError, match=f"{name} {message}") as caught:
            session.run(feeds)
        assert "\n" not in str(caught.value)
        assert session.run({"image": PHOTO})["result"].shape == PHOTO.shape


@pytest.mark.parametrize(("name", "precision"), RUNS)
def test_results_belong_to_the_caller(name: str, precision: str, built: dict[str, Path]) -> None:
    with backend(name).open_session(built[name], options(name, precision)) as session:
        first = session.run({"image": PHOTO})["result"]
        kept = first.copy()
        session.run({"image": np.ascontiguousarray(255 - PHOTO)})
        np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize(("name", "precision"), RUNS)
def test_views_are_fed_as_they_look(name: str, precision: str, built: dict[str, Path]) -> None:
    mirrored = PHOTO[:, :, ::-1]
    with backend(name).open_session(built[name], options(name, precision)) as session:
        found = session.run({"image": mirrored})["result"]
        np.testing.assert_array_equal(found, session.run({"image": mirrored.copy()})["result"])


@pytest.mark.parametrize("name", HERE)
def test_closing(name: str, built: dict[str, Path]) -> None:
    with backend(name).open_session(built[name], SessionOptions()) as session:
        session.run({"image": PHOTO})
    session.close()
    with pytest.raises(EngineError, match=f"{name} was asked to run after its session was closed"):
        session.run({"image": PHOTO})


@pytest.mark.parametrize("name", HERE)
def test_a_damaged_engine_is_one_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"{name} cannot load .*build the bundle again"):
        backend(name).open_session(tmp_path / "absent", SessionOptions())


@pytest.mark.parametrize("name", backend_names())
def test_a_device_that_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="'tpu'|not installed|CPU only"):
        backend(name).open_session(tmp_path / "engine", SessionOptions(device="tpu"))


def test_precision_of_openvino_is_what_was_asked_for(built: dict[str, Path]) -> None:
    """Left alone it computes in bf16 where the CPU can: the two must differ there, and fp32 must be exact."""
    photo = np.random.default_rng(1).integers(0, 256, (1, 64, 64, 3), np.uint8)
    results = {}
    for precision in ("fp32", "bf16"):
        with backend("openvino").open_session(built["openvino"], options("openvino", precision)) as session:
            results[precision] = session.run({"image": photo})["result"].astype(int)
    with backend("onnxruntime").open_session(built["onnxruntime"], SessionOptions()) as session:
        expected = session.run({"image": photo})["result"].astype(int)
    share = {precision: np.mean(result != expected) for precision, result in results.items()}
    assert share["fp32"] < 0.001 < share["bf16"]


def test_fp16_graphs_run_on_cuda_only(built: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("cameo.backends.onnxruntime")
    monkeypatch.setattr(module, "why_no_gpu", lambda: "no GPU in this test")
    assert re.search("CPUs compute FP16 graphs in FP32 .*: no GPU in this test", module.why_unavailable("fp16"))
    assert module.why_unavailable("fp32") is None
    with pytest.raises(EngineUnavailable, match="onnxruntime fp16: CPUs compute FP16 graphs in FP32"):
        backend("onnxruntime").open_session(built["onnxruntime"], SessionOptions("fp16"))
    monkeypatch.setattr(module, "why_no_gpu", lambda: None)
    assert "onnxruntime-gpu" in module.why_unavailable("fp16")
    with pytest.raises(EngineUnavailable, match="onnxruntime fp16"):
        backend("onnxruntime").open_session(built["onnxruntime"], SessionOptions("fp16", device="cpu"))


def test_openvino_knows_its_precisions() -> None:
    assert backend("openvino").why_unavailable("int4") == "it runs a graph as fp32, bf16, int8, not as 'int4'"


def test_int8_takes_what_the_cpu_has_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("cameo.backends.openvino")
    monkeypatch.setattr(module, "_has_bf16", lambda: True)
    assert (module._hint("int8"), module._hint("fp32")) == ("bf16", "f32")
    monkeypatch.setattr(module, "_has_bf16", lambda: False)
    assert (module._hint("int8"), module.why_unavailable("int8")) == ("f32", None)
    assert "does not compute in bf16" in module.why_unavailable("bf16")


_GROWTH = """
import json, sys
from pathlib import Path
import numpy as np
from cameo.backends import SessionOptions, backend

def resident_mib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

name, precision, path = sys.argv[1:]
seen, sizes = [], np.random.default_rng(0).integers(2, 64, (100, 2)) * 4
with backend(name).open_session(Path(path), SessionOptions(precision, threads=1)) as session:
    seen.append(resident_mib())
    session.run({"image": np.zeros((1, 512, 512, 3), np.uint8)})
    seen.append(resident_mib())
    for again in range(2):
        most = 0
        for height, width in sizes:
            session.run({"image": np.zeros((1, height, width, 3), np.uint8)})
            most = max(most, resident_mib())
        seen.append(most)
for again in range(5):
    with backend(name).open_session(Path(path), SessionOptions(precision, threads=1)) as session:
        session.run({"image": np.zeros((1, 512, 512, 3), np.uint8)})
    seen.append(resident_mib())
print(json.dumps(seen))
"""


@pytest.mark.parametrize("any_size", [True, False])
def test_onnxruntimes_arena_is_handed_back_at_a_new_size(any_size: bool, tmp_path: Path) -> None:
    """The first size of a network that takes one size is not new."""
    options("onnxruntime", "fp32")
    graph = write_blur(tmp_path / "blur.onnx", channels=4, layers=1)
    model = onnx.load(graph)
    if not any_size:
        for axis in model.graph.input[0].type.tensor_type.shape.dim[1:3]:
            axis.dim_value = 16
    onnx.save(model, graph)
    handed_back = []
    with backend("onnxruntime").open_session(graph, SessionOptions("fp32")) as session:
        run = session._session.run
        session._session = SimpleNamespace(
            run=lambda names, feeds, told: handed_back.append(told is not None) or run(names, feeds, told)
        )
        for batch in (1, 1, 2, 2, 1):
            session.run({"image": np.zeros((batch, 16, 16, 3), np.uint8)})
    assert handed_back == [any_size, False, True, False, True]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads resident memory from /proc")
@pytest.mark.parametrize(("name", "precision"), RUNS)
def test_memory_does_not_grow_over_mixed_sizes(name: str, precision: str, built: dict[str, Path]) -> None:
    options(name, precision)
    command = [sys.executable, "-c", _GROWTH, name, precision, str(built[name])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded, largest, first, second, *closed = json.loads(done.stdout)
    assert largest - loaded < 4 * 512 * 512 * 32 * 4 / 2**20, "at most four layers at full size"
    assert second < first + 10, "the same sizes once more take no more"
    if name == "onnxruntime":
        assert largest - loaded < 512 * 512 * 32 * 4 / 2**20, "its arena is handed back after a run at a new size"
    assert closed[-1] < closed[0] + 15, "closing gives the memory back: the heap may grow once, and not four times"


_QUIETLY = """
import sys
from cameo.openvino_package import openvino_package

openvino_package().Core().read_model(sys.argv[1] + "/model.xml")
assert openvino_package() is __import__("openvino")
print(sorted(name for name in sys.modules if name.startswith("openvino_telemetry")))
import openvino_telemetry
"""


def test_openvino_reports_nothing_to_its_vendor(built: dict[str, Path], tmp_path: Path) -> None:
    """Imported otherwise, it leaves ~/intel/openvino_ga_cid, and sends an event."""
    environment = {key: value for key, value in os.environ.items() if key != "CI"} | {"HOME": str(tmp_path)}
    command = [sys.executable, "-c", _QUIETLY, str(built["openvino"])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []
