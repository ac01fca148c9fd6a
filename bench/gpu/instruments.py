"""Clock and memory of the device, and their stand-ins for a dry run."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import Any, Protocol

from cameo.errors import EngineError
from metrics.memory import vram_mib

_PACKAGES = {"pynvml": "nvidia-ml-py", "cuda": "cuda-bindings"}
Run = Callable[[], object]


class Instruments(Protocol):
    """How a run is timed, and what memory it takes."""

    def time_ms(self, run: Run) -> float:
        """Milliseconds of one run, from an idle device until its work is done."""
        ...

    def memory_mib(self) -> tuple[float | None, float | None]:
        """GPU memory now, in MiB: of this process, and the rise of the whole GPU's since the start."""
        ...


def why_unavailable() -> str | None:
    """None, or which package is missing that measures a GPU."""
    missing = [package for module, package in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    return f"measuring a GPU needs {' and '.join(missing)} (pip install {' '.join(missing)})" if missing else None


class CudaInstruments:
    """CUDA events on the default stream, and NVML."""

    def __init__(self) -> None:
        import pynvml
        from cuda.bindings import runtime

        pynvml.nvmlInit()
        self._nvml: Any = pynvml
        self._gpu: Any = pynvml.nvmlDeviceGetHandleByIndex(0)
        self._at_start = self._used_mib()  # before this process has a context
        self._runtime: Any = runtime
        self._events = [self._checked(runtime.cudaEventCreate()) for _ in range(2)]

    def time_ms(self, run: Run) -> float:
        begin, end = self._events
        self._checked(self._runtime.cudaDeviceSynchronize())
        self._checked(self._runtime.cudaEventRecord(begin, 0))
        run()
        self._checked(self._runtime.cudaEventRecord(end, 0))
        self._checked(self._runtime.cudaDeviceSynchronize())
        return float(self._checked(self._runtime.cudaEventElapsedTime(begin, end)))

    def memory_mib(self) -> tuple[float | None, float | None]:
        return vram_mib(), self._used_mib() - self._at_start

    def _used_mib(self) -> float:
        return float(self._nvml.nvmlDeviceGetMemoryInfo(self._gpu).used) / 2**20

    def _checked(self, answer: tuple[Any, ...]) -> Any:
        """What a CUDA call returns besides its error code."""
        error, *value = answer
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise EngineError(f"CUDA failed with {error.name}: check the driver with `cameo doctor`, then try again")
        return value[0] if value else None


class DryInstruments:
    """The wall clock, and no memory: what a dry run has."""

    def time_ms(self, run: Run) -> float:
        started = time.perf_counter()
        run()
        return (time.perf_counter() - started) * 1000

    def memory_mib(self) -> tuple[float | None, float | None]:
        return None, None
