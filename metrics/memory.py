"""What this process takes: peak resident memory, and GPU memory where there is a GPU."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from metrics.measurement import Measurement, Metric

_PEAK_RSS = Metric("peak_rss", "Peak RSS", "MiB", False, "The process's own high-water mark, libraries and all.")
_PEAK_RSS_RATIO = Metric(
    "peak_rss_ratio", "Peak RSS against the original", "×", False, "The engine's peak RSS over the original's."
)
_VRAM = Metric("vram", "GPU memory", "MiB", False, "What the process holds on all GPUs after the runs, by NVML.")
PLANNED_MEMORY = Metric(
    "planned_memory", "Planned GPU memory", "MiB", False, "Weights and activations, as the engine's builder plans them."
)
METRICS = (_PEAK_RSS, _PEAK_RSS_RATIO, _VRAM, PLANNED_MEMORY)


def peak_rss_mib() -> float:
    """The largest resident set of this process since it started, in MiB (VmHWM, proc(5))."""
    status = Path("/proc/self/status").read_text()
    kib = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(kib) / 1024


def vram_mib() -> float | None:
    """GPU memory of this process now, over all GPUs, in MiB by NVML; None without pynvml or where NVML cannot tell.

    Inside a container NVML lists processes by the host's numbers, so that this one may not be found.
    """
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        gpus = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        processes = [p for gpu in gpus for p in pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)]
    finally:
        pynvml.nvmlShutdown()
    used = [p.usedGpuMemory for p in processes if p.pid == os.getpid() and p.usedGpuMemory is not None]
    return sum(used) / 2**20 if used else None


def measurements(subject: str, memory: Mapping[str, float | None], original: float | None = None) -> list[Measurement]:
    """Peak RSS, its ratio to the original's, and GPU memory, as far as they are known."""
    peak, vram = memory["peak_rss_mib"], memory["vram_mib"]
    found = [_PEAK_RSS.of(subject, peak)] if peak is not None else []
    if peak is not None and original is not None:
        found.append(_PEAK_RSS_RATIO.of(subject, peak / original))
    if vram is not None:
        found.append(_VRAM.of(subject, vram))
    return found
