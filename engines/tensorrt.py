"""TensorRT engines (10 and 11), built on the GPU that they will run on. Not yet built on a GPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cameo.cuda_driver import devices, not_installed, why_no_gpu
from cameo.errors import EngineUnavailable
from engines import EngineOptions, InputRange

PRECISIONS = {"fp32": ("fp32",), "fp16": ("fp16",), "int8": ("int8",)}


@dataclass(frozen=True)
class BuildTensorRt:
    """An engine for `gpu`, the GPU of this machine (capability `target`), with one optimization profile per range."""

    name: ClassVar[str] = "build-tensorrt"
    output: ClassVar[str] = "engine.plan"
    tools: ClassVar[tuple[str, ...]] = ("tensorrt",)

    ranges: tuple[InputRange, ...] = ()
    gpu: str = ""
    target: str = ""

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the engine and return its target and the memory planned per profile.

        Raises:
            EngineUnavailable: the package or the GPU is missing.
            EngineError: the graph cannot be built.
        """
        if reason := why_not_buildable():
            raise EngineUnavailable(f"tensorrt: {reason}")
        import tensorrt

        from engines._tensorrt_builder import Builder

        builder = Builder(tensorrt, "tensorrt", source, self.ranges)
        profiles = builder.planned(self.target, on_this_gpu=True)
        engine, _ = builder.build(())
        out.write_bytes(engine)
        return {"targets": [self.target], "profiles": profiles}


def builder(options: EngineOptions) -> BuildTensorRt:
    """The stage that builds this engine for the ranges of `options` and the GPU of this machine."""
    first = next(iter(devices()), None)
    return BuildTensorRt(options.ranges, first.name if first else "", first.capability if first else "")


def why_not_buildable() -> str | None:
    """None, or why TensorRT cannot build here: it needs its package and the target GPU."""
    if importlib.util.find_spec("tensorrt") is None:
        return not_installed("tensorrt")
    reason = why_no_gpu()
    return f"it builds on the GPU that it will run on: {reason}" if reason else None
