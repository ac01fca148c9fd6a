"""Amounts, what is free, budgets, and what fits into them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cameo
from cameo.bundle import EngineEntry, Profile, StoredFile
from cameo.errors import BundleError, EngineError, OutOfMemory, PhotoError, RequestError
from cameo.memory import free
from cameo.memory.amounts import as_bytes, in_words
from cameo.memory.budget import Budget
from cameo.memory.exhaustion import ran_out_of_memory
from cameo.memory.free import Memory
from cameo.memory.need import Need, fitted, planned
from cameo.memory.room import Room
from cameo.runtime import Runtime

GIB = 2**30
FILE = StoredFile("file", "engine", "0" * 64, 1)


@pytest.mark.parametrize(
    ("amount", "size"),
    [("4GiB", 4 * GIB), ("512 MiB", 2**29), ("2.5gb", 2_500_000_000), ("1kib", 1024), ("7700000", 7_700_000), (77, 77)],
)
def test_amounts_are_read(amount: str | int, size: int) -> None:
    assert as_bytes(amount) == size


@pytest.mark.parametrize(
    "amount", ["", "much", "4 elephants", "-1GiB", "0", 0, "0.0001b", True, "1e9", "GiB", "4", "77.5"]
)
def test_what_is_no_amount_is_refused(amount: Any) -> None:
    with pytest.raises(RequestError, match="The amount of memory is .*, expected one such as 4GiB or 512MiB"):
        as_bytes(amount)


def test_amounts_in_words() -> None:
    assert [in_words(size) for size in (0, 5.4 * 2**20, GIB, 1.26 * GIB)] == ["0 MiB", "5 MiB", "1.0 GiB", "1.3 GiB"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemory("of ours"),
        RuntimeError("std::bad_alloc"),
        EngineError("onnxruntime failed: Failed to allocate memory for requested buffer of size 123"),
        RuntimeError("(-4:Insufficient memory) in function 'OutOfMemoryError'"),
    ],
)
def test_errors_that_mean_memory(error: Exception) -> None:
    assert ran_out_of_memory(error)
    outer = EngineError("an engine failed")
    outer.__cause__ = error
    assert ran_out_of_memory(outer)


@pytest.mark.parametrize("error", [None, EngineError("a wrong shape"), PhotoError("bad_alloc.jpg does not exist")])
def test_errors_that_do_not(error: Exception | None) -> None:
    assert not ran_out_of_memory(error)


@pytest.mark.parametrize(("visible", "gpu"), [(None, 0), ("", 0), ("1", 1), ("1,0", 1), ("GPU-1234", "GPU-1234")])
def test_the_gpu_that_counts_is_the_one_that_this_process_sees(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, gpu: int | str
) -> None:
    """One worker for each of several GPUs: each has its own one's memory."""
    free_of = {0: 10 * GIB, 1: 20 * GIB, "GPU-1234": 30 * GIB}
    nvml = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetMemoryInfo=lambda gpu: SimpleNamespace(free=free_of[gpu]),
        nvmlDeviceGetComputeRunningProcesses=lambda gpu: [],
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert free.memory_of(free.CUDA) == Memory(free_of[gpu], 0)


def group(root: Path, where: str, **files: str) -> None:
    folder = root / "sys/fs/cgroup" / where
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def of_process(root: Path, text: str) -> None:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(text)


def test_the_tightest_group_of_version_2_counts_and_files_are_given_back(tmp_path: Path) -> None:
    of_process(tmp_path, "0::/pod/one\n")
    group(tmp_path, "pod/one", memory__max="max\n", memory__current="50\n")
    group(tmp_path, "pod", memory__max="1000\n", memory__current="300\n", memory__stat="anon 1\ninactive_file 100\n")
    assert list(free._left_in_groups(tmp_path)) == [800]


def test_groups_of_version_1_are_read(tmp_path: Path) -> None:
    of_process(tmp_path, "5:cpu,cpuacct:/x\n4:memory:/outside/of/the/container\n0::/\n")
    usage = {"memory__limit_in_bytes": "4000\n", "memory__usage_in_bytes": "1000\n"}
    group(tmp_path, "memory", **usage, memory__stat="total_inactive_file 500\n")
    assert list(free._left_in_groups(tmp_path)) == [3500]


def test_without_groups_nothing_limits(tmp_path: Path) -> None:
    assert list(free._left_in_groups(tmp_path)) == []
    of_process(tmp_path, "4:memory:/\n")
    assert list(free._left_in_groups(tmp_path)) == []


def test_this_machine_tells() -> None:
    memory = free.memory_of("cpu")
    assert memory is not None
    assert memory.own > 10 * 2**20
    assert memory.free > 0
    assert free.peak_resident_bytes() >= free.resident_bytes() - 2**20


class Meter:
    """Memory and time as the test wants them."""

    def __init__(self) -> None:
        self.memory: Memory | None = Memory(1000, 100)
        self.now = 0.0
        self.reads = 0

    def read(self, place: str) -> Memory | None:
        self.reads += 1
        return self.memory

    def budget(self) -> Budget:
        return Budget("cpu", None, self.read, lambda: self.now)


def test_a_budget_is_a_share_of_what_is_free_and_what_is_held() -> None:
    assert Meter().budget().bytes == 100 + 800


def test_it_follows_within_ten_seconds_and_is_read_once_a_second() -> None:
    meter = Meter()
    budget = meter.budget()
    assert budget.bytes == 900
    meter.memory = Memory(0, 100)
    meter.now = 0.5
    assert (budget.bytes, meter.reads) == (900, 1)
    meter.now = 1.0
    assert 800 < (budget.bytes or 0) < 850
    for second in range(2, 60):
        meter.now = float(second)
        assert budget.bytes is not None
    assert budget.bytes == pytest.approx(100, abs=10)


def test_without_a_meter_it_is_not_known() -> None:
    meter = Meter()
    meter.memory = None
    budget = meter.budget()
    assert (budget.bytes, budget.left, budget.own) == (None, None, 0)
    assert "not known" in budget.describe()
    assert Room(budget, Need(0, 1, "measured")).rows(10) is None


def test_what_models_hold_is_not_left() -> None:
    budget = Budget(given=1000)
    budget.hold(300, base=100)
    budget.hold(200, base=50)
    assert budget.left == 400
    assert Room(budget, Need(300, 2, "measured")).rows(50) == 4
    assert Room(budget, Need(300, 2, "measured"), at_once=2).most_pixels == 100
    budget.hold(-300)
    assert budget.left == 700
    assert Room(budget, None).rows(50) is None


def test_no_measured_point_lies_above_the_line() -> None:
    points = [(100, 1, 1100), (100, 2, 1350), (400, 1, 1400), (400, 4, 2700)]
    need = fitted(points)
    assert all(need.of(pixels, batch) >= size for pixels, batch, size in points)
    assert need.per_pixel == pytest.approx(1.04, abs=0.1)
    assert fitted([(100, 1, 50)]) == Need(50, 0, "measured")


def test_what_a_builder_planned_is_the_need() -> None:
    shapes = ((1, 8, 8, 3), (1, 16, 16, 3), (2, 16, 16, 3))
    profile = Profile("range", *shapes, target="sm_86", weight_bytes=1000, activation_bytes=5120)
    assert planned(EngineEntry("tensorrt", "fp16", FILE, ("sm_86",), (profile,))) == Need(1000, 10, "planned")
    assert planned(EngineEntry("openvino", "fp32", FILE)) is None


def test_the_budget_that_was_given_is_the_gpus_where_an_engine_runs_on_one() -> None:
    both = Runtime("1GiB").budgets({"cpu", "cuda"})
    assert (both["cuda"].given, both["cpu"].given) == (GIB, None)
    assert Runtime("1GiB").budgets({"cpu"})["cpu"].given == GIB


def test_load_is_seen_from_outside() -> None:
    assert "load" in dir(cameo)
    assert issubclass(OutOfMemory, EngineError)
    assert issubclass(BundleError, cameo.CameoError)
