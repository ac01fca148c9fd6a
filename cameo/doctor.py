"""Which engines can run here, and why others cannot."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cameo import __version__
from cameo.backends import backend, backend_names
from cameo.cuda_driver import devices, driver_version, why_no_gpu

_CPU_FEATURES = {"avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx512_bf16": "bf16", "amx_bf16": "AMX bf16"}


class Doctor:
    """What this machine is and which engines it can run, as text (`str`) and for programs (`facts`)."""

    @property
    def facts(self) -> dict[str, Any]:
        """What JSON is made of; `why_no_gpu` and an engine's `why_not` are None where all is well."""
        return {
            "cameo": __version__,
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "cpu_features": [name for flag, name in _CPU_FEATURES.items() if flag in _cpu_flags()],
            "available_mib": _available_mib(),
            "gpus": [
                {"name": gpu.name, "capability": gpu.capability, "vram_mib": gpu.vram_mib, "cuda": driver_version()}
                for gpu in devices()
            ],
            "why_no_gpu": why_no_gpu(),
            "engines": list(_engines()),
        }

    def __str__(self) -> str:
        facts = self.facts
        return "\n".join([*_machine_lines(facts), "", *map(_engine_line, facts["engines"])])


def _machine_lines(facts: dict[str, Any]) -> Iterator[str]:
    yield f"cameo {facts['cameo']}, Python {facts['python']}, {facts['system']}"
    features = ", ".join(facts["cpu_features"]) or "no vector features that matter here"
    yield f"CPU: {facts['cores']} cores, {features}"
    if facts["available_mib"] is not None:
        yield f"memory: {facts['available_mib']} MiB available"
    for gpu in facts["gpus"]:
        yield f"GPU: {gpu['name']}, {gpu['capability']}, {gpu['vram_mib']} MiB, driver for CUDA {gpu['cuda']}"
    if facts["why_no_gpu"] is not None:
        yield f"GPU: {facts['why_no_gpu']}"


def _engine_line(engine: dict[str, Any]) -> str:
    reason = engine["why_not"]
    version = f" ({engine['version']})" if engine["version"] else ""
    return f"{engine['engine']:14}{engine['precision']:6}" + (
        f"cannot run here: {reason}" if reason else f"runs here{version}"
    )


def _engines() -> Iterator[dict[str, Any]]:
    for name in backend_names():
        for precision in backend(name).PRECISIONS:
            reason = backend(name).why_unavailable(precision)
            version = _version(name) if reason is None else ""
            yield {"engine": name, "precision": precision, "why_not": reason, "version": version}


def _version(engine: str) -> str:
    for distribution in backend(engine).DISTRIBUTIONS:
        try:
            return f"{distribution} {importlib.metadata.version(distribution)}"
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
