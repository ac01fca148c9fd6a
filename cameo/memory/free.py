"""What a device has free, and what this process holds of it.

The computer's own memory is what its control group may still take (version 2 or 1, the tightest of its ancestors; what
the kernel would give back, inactive pages of files, counts as free), at most what the machine has available. GPU memory
is asked of NVML, if nvidia-ml-py is installed, else of the driver, which tells only how much there is in all.

Sources: the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst; proc(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cameo.cuda_driver import devices

CPU, CUDA = "cpu", "cuda"
"""The places where engines run."""


class Memory(NamedTuple):
    """Bytes that a place has free, and bytes of it that this process holds."""

    free: int
    own: int


def memory_of(place: str) -> Memory | None:
    """What `place` has free now; None where nothing here can tell."""
    return _gpu() if place == CUDA else _computer()


def resident_bytes() -> int:
    """The resident set of this process; 0 where the system does not tell."""
    return _status("VmRSS")


def peak_resident_bytes() -> int:
    """The largest resident set of this process so far; 0 where the system does not tell."""
    return _status("VmHWM")


def _status(name: str) -> int:
    return next((kib * 1024 for key, kib in _table(Path("/proc/self/status")) if key == name), 0)


def _computer() -> Memory | None:
    available = next((kib * 1024 for key, kib in _table(Path("/proc/meminfo")) if key == "MemAvailable"), None)
    if available is None:
        return None
    return Memory(min([available, *_left_in_groups(Path("/"))]), resident_bytes())


def _table(path: Path) -> Iterator[tuple[str, int]]:
    """The lines "name: number ..." or "name number" of a file of the kernel."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        name, *values = line.replace(":", " ").split() or [""]
        if values and values[0].isdigit():
            yield name, int(values[0])


def _left_in_groups(root: Path) -> Iterator[int]:
    """Bytes that this process's control group, and each above it, may still take."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            yield from _left_in(root / "sys/fs/cgroup", group, ("memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            yield from _left_in(root / "sys/fs/cgroup/memory", group, names)


def _left_in(mount: Path, group: str, names: tuple[str, str, str]) -> Iterator[int]:
    limit_name, usage_name, reclaimable = names
    parts = [part for part in group.split("/") if part and part != ".."]
    for depth in range(len(parts), -1, -1):  # in a container the group's own path may not be there: then its mount is
        folder = mount.joinpath(*parts[:depth])
        limit, usage = _number(folder / limit_name), _number(folder / usage_name)
        if limit is not None and usage is not None:
            given_back = next((size for key, size in _table(folder / "memory.stat") if key == reclaimable), 0)
            yield max(limit - usage + given_back, 0)


def _number(path: Path) -> int | None:
    """The number in a file; None where there is none ("max", or no file)."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _gpu() -> Memory | None:
    """The memory of the first GPU that CUDA shows this process; NVML shows every one."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip() or "0"
    try:
        import pynvml
    except ModuleNotFoundError:
        found = devices()
        return Memory(found[0].vram_mib * 2**20, 0) if found else None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        by_index = first.isdigit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(int(first)) if by_index else pynvml.nvmlDeviceGetHandleByUUID(first)
        free = int(pynvml.nvmlDeviceGetMemoryInfo(gpu).free)
        return Memory(free, _own_of(pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _own_of(processes: list[Any]) -> int:
    """What this process holds; 0 in a container, where NVML lists processes by the host's numbers."""
    return sum(int(process.usedGpuMemory or 0) for process in processes if process.pid == os.getpid())
