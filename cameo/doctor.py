"""Which engines can run here, and why others cannot."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from cameo import __version__
from cameo.backends import backend, backend_names
from cameo.cuda_driver import devices, driver_version, why_no_gpu

_CPU_FEATURES = {"avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "bf16", "amx_bf16": "AMX bf16"}
_DISTRIBUTIONS = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}


def doctor_text() -> str:
    """Versions, hardware, and a line for each engine and precision."""
    return "\n".join([*_machine(), "", *_engines()])


def _machine() -> Iterator[str]:
    yield f"cameo {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    features = [name for flag, name in _CPU_FEATURES.items() if flag in _cpu_flags()]
    yield f"CPU: {os.cpu_count()} cores, {', '.join(features) or 'no vector features that matter here'}"
    memory = _available_mib()
    if memory is not None:
        yield f"memory: {memory} MiB available"
    for device in devices():
        yield f"GPU: {device.name}, {device.capability}, {device.vram_mib} MiB, driver for CUDA {driver_version()}"
    if (reason := why_no_gpu()) is not None:
        yield f"GPU: {reason}"


def _engines() -> Iterator[str]:
    for name in backend_names():
        for precision in ("fp32", "bf16" if name == "openvino" else "fp16", "int8"):
            reason = backend(name).why_unavailable(precision)
            verdict = "runs here" if reason is None else f"cannot run here: {reason}"
            yield f"{name:14}{precision:6}{verdict}{_version(name) if reason is None else ''}"


def _version(engine: str) -> str:
    for distribution in _DISTRIBUTIONS.get(engine, (engine,)):
        try:
            return f" ({distribution} {importlib.metadata.version(distribution)})"
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def _cpu_flags() -> set[str]:
    """The CPU's feature flags (Linux); empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((set(line.split(":")[1].split()) for line in lines if line.startswith("flags")), set())


def _available_mib() -> int | None:
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("MemAvailable")), None)
