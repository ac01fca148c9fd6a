"""TensorRT engines (10 and 11), built on the GPU that they are to run on.

Not yet built on a GPU: the code is the one that builds TensorRT-RTX engines, but for the choice of targets.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cameo.cuda_driver import devices, why_no_gpu
from engines import EngineOptions, InputRange
from engines._tensorrt_common import BuildRequest

PRECISIONS = ("fp32",)


@dataclass(frozen=True)
class BuildTensorRt:
    """An engine for `gpu`, the GPU of this machine, with one optimization profile per range."""

    ranges: tuple[InputRange, ...]
    gpu: str

    name: ClassVar[str] = "build-tensorrt"
    output: ClassVar[str] = "engine.plan"
    tools: ClassVar[tuple[str, ...]] = ("tensorrt",)

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the engine; return the memory planned per profile.

        Raises:
            EngineError: the graph cannot be built.
        """
        return BuildRequest("tensorrt", source, self.ranges, _this_gpu).write(out, ())


def _this_gpu(trt: Any, config: Any, targets: Sequence[str]) -> None:
    """TensorRT builds for the GPU that it runs on: there is nothing to set."""


def builder(options: EngineOptions) -> BuildTensorRt:
    """The stage that builds this engine."""
    return BuildTensorRt(options.ranges, gpu=", ".join(device.name for device in devices()[:1]))


def why_not_buildable() -> str | None:
    """None, or which of package and GPU driver is missing."""
    if importlib.util.find_spec("tensorrt") is None:
        return "the package tensorrt is not installed (pip install tensorrt, from NVIDIA's package index)"
    reason = why_no_gpu()
    return f"TensorRT builds on the GPU that it will run on: {reason}" if reason else None
