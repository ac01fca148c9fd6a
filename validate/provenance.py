"""Where and with what a report was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterable
from pathlib import Path

from cameo.backends import backend, backend_names
from cameo.cuda_driver import devices

LIBRARIES = ("numpy", "opencv-python-headless")


def device() -> dict[str, str]:
    """The machine: processor, cores that this process may use, memory, GPU and system."""
    flags = _cpuinfo("flags").split()
    bf16 = [name for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512")) if flag in flags]
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "bf16 instructions": " and ".join(bf16) or "none",
        "memory": f"{memory_gib:.0f} GiB",
        "GPU": ", ".join(gpu.name for gpu in devices()) or "none",
        "system": f"{platform.system()} {platform.release()}",
    }


def _cpuinfo(field: str) -> str:
    """The first value of a field of /proc/cpuinfo, or "" where there is none."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.split("\t")[0] == field), "")


def versions(more: Iterable[str] = ()) -> dict[str, str]:
    """The version of Python and of every library that had a part in the measurements and is installed."""
    found = {"python": platform.python_version()}
    engines = (library for engine in backend_names() for library in backend(engine).DISTRIBUTIONS)
    for library in (*LIBRARIES, *engines, *more):
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
