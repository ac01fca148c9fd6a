"""What this process takes: peak resident memory, and GPU memory where there is a GPU."""

from __future__ import annotations

import os
from pathlib import Path


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
