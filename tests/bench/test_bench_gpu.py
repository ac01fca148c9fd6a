"""bench-gpu without a GPU: its dry run end to end, its results, and what it says where it cannot run."""

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest

from bench import random_weights
from bench.gpu import __main__ as bench_gpu
from bench.gpu import worker
from bench.gpu.contenders import CONTENDERS, REFERENCE
from bench.gpu.instruments import CudaInstruments
from bench.gpu.page import page
from bench.gpu.results import Result, ResultFile
from cameo import cuda_driver
from cameo.errors import CameoError, EngineError
from tests.validate.bundles import swap_channels, write_bundle

NETWORK = bench_gpu.DRY_NETWORK


def test_without_a_gpu_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cuda_driver, "why_no_gpu", lambda: "no NVIDIA driver is here")
    assert bench_gpu.main(["--out", str(tmp_path / "out")]) == 1
    assert "needs an NVIDIA GPU, and no NVIDIA driver is here" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_page_without_results_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_gpu.main(["--render", "--out", str(tmp_path)]) == 1
    assert "holds no results: run bench-gpu first" in capsys.readouterr().err


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, onnx.ModelProto]:
    """A folder of results with the checkpoint of a dry run in it, and that checkpoint's graph."""
    pytest.importorskip("torch")
    from exporters.gpen.export import exporter

    folder = tmp_path_factory.mktemp("bench-gpu")
    checkpoint = random_weights.write_checkpoint(NETWORK, folder / "weights", bench_gpu.DRY_NARROW)
    exporter(NETWORK).run(checkpoint, folder / "graph.onnx")
    return folder, onnx.load(folder / "graph.onnx")


def test_a_dry_run_measures_compares_and_resumes(
    narrow: tuple[Path, onnx.ModelProto], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out, graph = narrow
    bundle = write_bundle(out / "bundle", NETWORK, {"fp32": graph})
    recorded = sorted(bench_gpu.MEASUREMENTS.iterdir())
    contenders = f"{REFERENCE.name},onnxruntime-fp32,tensorrt-fp32"
    command = ["--dry-run", "--only", contenders, "--batches", "1", "--bundle", str(bundle), "--out", str(out)]
    assert bench_gpu.main(command) == 0
    results = {result.contender: result for result in ResultFile(out).all()}
    assert list(results) == contenders.split(",")
    assert results["original-fp32"].psnr == math.inf
    engine = results["onnxruntime-fp32"]
    assert (engine.why_not, engine.runs) == ("", bench_gpu.DRY_RUNS)
    assert engine.latency_ms > 0
    assert engine.max_difference is not None
    assert engine.max_difference <= 1
    assert engine.process_mib is engine.device_mib is None
    assert "no tensorrt fp32" in results["tensorrt-fp32"].why_not
    text = (out / f"{NETWORK}.md").read_text()
    assert text.startswith("# DRY RUN")
    assert "these numbers mean nothing" in text
    assert sorted(bench_gpu.MEASUREMENTS.iterdir()) == recorded, "a dry run is not recorded"

    monkeypatch.setattr(bench_gpu.subprocess, "Popen", _no_process)
    capfd.readouterr()
    assert bench_gpu.main([*command, "--only", "original-fp32,onnxruntime-fp32"]) == 0, "nothing is left to measure"
    assert bench_gpu.main(["--render", "--network", NETWORK, "--out", str(out)]) == 0
    assert "# DRY RUN" in capfd.readouterr().out


def _no_process(*_: Any, **__: Any) -> None:
    raise AssertionError("a contender was started")


def test_an_engine_with_swapped_channels_shows(narrow: tuple[Path, onnx.ModelProto], tmp_path: Path) -> None:
    folder, graph = narrow
    right = write_bundle(tmp_path / "right", NETWORK, {"fp32": graph})
    wrong = write_bundle(tmp_path / "wrong", NETWORK, {"fp32": swap_channels(graph)})
    checkpoint = str(folder / "weights/GPEN-BFR-256.pth")
    found: list[Result] = []
    reference = worker.Job("original-fp32", NETWORK, checkpoint, "", (1,), 1, str(tmp_path), True)
    for job in (reference, *(replace(reference, contender="onnxruntime-fp32", bundle=str(b)) for b in (right, wrong))):
        worker.measure(job, found.append)
    assert [result.why_not for result in found] == ["", "", ""]
    assert (found[1].max_difference or 0) <= 1
    assert (found[2].psnr or math.inf) < 30


class _Bound:
    def __init__(self, faces: Any) -> None:
        self._faces = faces

    def run(self) -> None:
        if len(self._faces) > 2:
            raise RuntimeError("CUDA out of memory\nTried to allocate")

    def results(self) -> Any:
        return {"result": self._faces}


def test_a_batch_that_does_not_fit_is_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "load", lambda *_: _Bound)
    found: list[Result] = []
    worker.measure(worker.Job("export-fp32", NETWORK, "", "", (1, 4, 8), 2, str(tmp_path), True), found.append)
    assert [(result.batch, result.why_not) for result in found] == [
        (1, ""),
        (4, "RuntimeError: CUDA out of memory"),
        (8, "RuntimeError: CUDA out of memory"),
    ]
    assert found[0].psnr is None, "there is no reference to compare with"


def test_a_worker_that_dies_is_a_result(tmp_path: Path) -> None:
    results = ResultFile(tmp_path)
    bench_gpu._measure(worker.Job("nobody", NETWORK, "", "", (1, 4), 2, str(tmp_path), True), tmp_path, results)
    assert [result.why_not for result in results.all()] == ["its process ended with exit code 1 (see nobody.log)"] * 2
    assert "StopIteration" in (tmp_path / "nobody.log").read_text()


def test_results_survive_a_crash_and_failures_are_tried_again(tmp_path: Path) -> None:
    results = ResultFile(tmp_path)
    results.add(Result("net", "one", 1, latency_ms=2.0))
    results.add(Result("net", "one", 4, why_not="out of memory"))
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write('{"network": "net", "contender": "one", "ba')
    assert results.missing("net", "one", (1, 4, 8)) == [4, 8]
    assert results.missing("other", "one", (1,)) == [1]
    results.add(Result("net", "one", 4, latency_ms=7.0))
    assert [(result.batch, result.why_not) for result in results.all()] == [(1, ""), (4, "")]


def test_the_page_compares_with_the_original_and_says_what_was_not_measured() -> None:
    results = [
        Result("net", REFERENCE.name, 4, latency_ms=80.0, latency_p95_ms=81.0, process_mib=2000.0, psnr=math.inf),
        Result("net", "onnxruntime-fp32", 4, latency_ms=20.0, latency_p95_ms=21.0, max_difference=1.0, psnr=90.0),
        Result("net", "tensorrt-fp32", 4, why_not="not installed"),
        Result("other", "onnxruntime-fp32", 4, latency_ms=1.0),
    ]
    text = page("net", results, {"GPU": "RTX 9000", "weights": "random"}, dry=False)
    assert "DRY" not in text
    assert (
        "| our graph, onnxruntime FP32, I/O binding | 20.00 | 21.00 | 200.0 | 4.00 | n/a | n/a | n/a | 1 | 90.0 |"
        in text
    )
    assert "* tensorrt-fp32, batch 4: not installed" in text
    assert text.count("I/O binding") == 1, "another network's results are not in it"


def test_a_page_without_the_original_has_no_ratio() -> None:
    text = page("net", [Result("net", "onnxruntime-fp32", 1, latency_ms=20.0)], {"GPU": "RTX 9000"}, dry=False)
    assert "| 20.00 | 0.00 | 50.0 | n/a |" in text


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A CUDA runtime and an NVML that note the order of calls; every run takes 5 ms and 300 MiB."""
    calls: list[str] = []
    used = iter((1000, 1300))
    error = SimpleNamespace(cudaSuccess=SimpleNamespace(name="cudaSuccess"))
    state = SimpleNamespace(calls=calls, error=error.cudaSuccess)

    def call(name: str, *values: Any) -> Callable[..., Any]:
        return lambda *_: calls.append(name) or (state.error, *values)

    runtime = SimpleNamespace(
        cudaError_t=error,
        cudaEventCreate=call("create", "event"),
        cudaEventRecord=call("record"),
        cudaDeviceSynchronize=call("synchronise"),
        cudaEventElapsedTime=call("elapsed", 5.0),
    )
    nvml = ModuleType("pynvml")
    vars(nvml).update(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetComputeRunningProcesses=lambda gpu: [],
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(used=next(used) * 2**20),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setitem(sys.modules, "cuda.bindings", SimpleNamespace(runtime=runtime))
    return state


def test_cuda_events_surround_the_run_of_an_idle_device(cuda: SimpleNamespace) -> None:
    instruments = CudaInstruments()
    cuda.calls.clear()
    assert instruments.time_ms(lambda: cuda.calls.append("run")) == 5.0
    assert cuda.calls == ["synchronise", "record", "run", "record", "synchronise", "elapsed"]
    assert instruments.memory_mib() == (None, 300.0), "NVML does not see this process: the GPU's rise is known"


def test_a_failed_cuda_call_is_an_error(cuda: SimpleNamespace) -> None:
    instruments = CudaInstruments()
    cuda.error = SimpleNamespace(name="cudaErrorIllegalAddress")
    with pytest.raises(EngineError, match="cudaErrorIllegalAddress: check the driver"):
        instruments.time_ms(lambda: None)


def test_names_are_distinct_and_weights_must_be_there(tmp_path: Path) -> None:
    assert len({contender.name for contender in CONTENDERS}) == len(CONTENDERS)
    asked = bench_gpu.Asked(NETWORK, tmp_path, tmp_path, None, (1,), (), dry=True)
    with pytest.raises(CameoError, match="has no GPEN-BFR-256.pth: name the folder that holds it with --weights"):
        bench_gpu.run(asked)
    assert json.loads((tmp_path / "machine.json").read_text())["dry run"] == "yes"


@pytest.mark.slow
def test_a_bound_run_gives_what_a_run_gives(narrow: tuple[Path, onnx.ModelProto]) -> None:
    from cameo.backends import SessionOptions, backend

    image = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)
    with backend("onnxruntime").open_session(narrow[0] / "graph.onnx", SessionOptions()) as session:
        bound: Any = session.bound({"image": image})  # type: ignore[attr-defined]
        bound.run()
        assert np.array_equal(bound.results()["result"], session.run({"image": image})["result"])
