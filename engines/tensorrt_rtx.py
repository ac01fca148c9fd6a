"""TensorRT-RTX engines for consumer GPUs, built ahead of time on any CPU.

One file serves every target asked for; what runs on the GPU is compiled from it there, once, in seconds.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cameo.errors import EngineError
from engines import EngineOptions, InputRange
from engines._tensorrt_common import BuildRequest

PRECISIONS = ("fp32",)


@dataclass(frozen=True)
class BuildTensorRtRtx:
    """One engine for all `targets` ("sm_86"), with one optimization profile per range."""

    ranges: tuple[InputRange, ...]
    targets: tuple[str, ...]

    name: ClassVar[str] = "build-tensorrt-rtx"
    output: ClassVar[str] = "engine.rtx"
    tools: ClassVar[tuple[str, ...]] = ("tensorrt-rtx",)

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the engine; return its targets and the memory planned per profile and target.

        Raises:
            EngineError: the graph cannot be built, or a target is unknown to this version.
        """
        return BuildRequest("tensorrt_rtx", source, self.ranges, _target).write(out, self.targets)


def _target(trt: Any, config: Any, targets: Sequence[str]) -> None:
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        capability = getattr(trt.ComputeCapability, target.replace("_", "").upper(), None)
        if capability is None:
            known = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
            raise EngineError(
                f"tensorrt-rtx {trt.__version__} cannot build for {target}: it knows "
                f"{', '.join(name.lower().replace('sm', 'sm_') for name in known)}; choose GPUs among these with --gpu"
            )
        config.set_compute_capability(capability, index)


def builder(options: EngineOptions) -> BuildTensorRtRtx:
    """The stage that builds this engine."""
    return BuildTensorRtRtx(options.ranges, options.targets)


def why_not_buildable() -> str | None:
    """None, or why its builder is not here."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return "the package tensorrt-rtx is not installed (pip install tensorrt-rtx)"
    return None
