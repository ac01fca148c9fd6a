"""GPU memory is that of this process alone; without a GPU there is no figure."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from metrics.memory import vram_mib

_OURS = os.getpid()


class NVMLError(Exception):
    pass


def _nvml(*gpus: list[SimpleNamespace]) -> SimpleNamespace:
    """A stand-in for pynvml on a machine with these processes on its GPUs."""
    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(gpus),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetComputeRunningProcesses=lambda index: gpus[index],
    )


def _process(pid: int, mib: int | None) -> SimpleNamespace:
    return SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else mib * 2**20)


def test_gpu_memory_of_this_process_over_all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = _nvml([_process(_OURS, 300), _process(1, 9000)], [_process(_OURS, 50)])
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert vram_mib() == 350


@pytest.mark.parametrize("gpus", [[], [[]], [[_process(1, 9000)]], [[_process(_OURS, None)]]])
def test_no_figure_where_nvml_does_not_know(monkeypatch: pytest.MonkeyPatch, gpus: list[list[SimpleNamespace]]) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _nvml(*gpus))
    assert vram_mib() is None


def test_no_figure_without_a_driver_or_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> None:
        raise NVMLError("driver not loaded")

    nvml = _nvml()
    nvml.nvmlInit = no_driver
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert vram_mib() is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # makes `import pynvml` fail
    assert vram_mib() is None


@pytest.mark.slow
def test_peak_rss_sees_an_allocation_after_it_is_gone() -> None:
    """In a process of its own: that of the tests may have taken gigabytes, and would have to take more."""
    program = """
import numpy as np
from metrics.memory import peak_rss_mib

before = peak_rss_mib()
size_mib = int(before) + 64
block = np.ones(size_mib * 2**20, np.uint8)
del block
assert peak_rss_mib() > max(before, size_mib)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
