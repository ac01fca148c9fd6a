"""TensorRT-RTX engines, built ahead of time on any CPU for several consumer GPUs in one file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cameo.cuda_driver import not_installed
from cameo.errors import EngineUnavailable
from engines import EngineOptions, InputRange

PRECISIONS = {"fp32": ("fp32",), "fp16": ("fp16",), "int8": ("int8",)}


@dataclass(frozen=True)
class BuildTensorRtRtx:
    """One engine for all `targets` with one optimization profile per range."""

    name: ClassVar[str] = "build-tensorrt-rtx"
    output: ClassVar[str] = "engine.rtx"
    tools: ClassVar[tuple[str, ...]] = ("tensorrt-rtx",)

    ranges: tuple[InputRange, ...] = ()
    targets: tuple[str, ...] = EngineOptions.targets

    def check(self) -> None:
        """Raises RequestError: a target is unknown."""
        import tensorrt_rtx

        from engines._tensorrt_builder import capability

        for target in self.targets:
            capability(tensorrt_rtx, "tensorrt-rtx", target)

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the engine and return its targets and the memory planned per target and profile.

        Raises:
            EngineUnavailable: the package is missing.
            EngineError: the graph cannot be built.
            RequestError: a target is unknown.
        """
        if reason := why_not_buildable():
            raise EngineUnavailable(f"tensorrt-rtx: {reason}")
        import tensorrt_rtx

        from engines._tensorrt_builder import Builder

        builder = Builder(tensorrt_rtx, "tensorrt-rtx", source, self.ranges)
        profiles = [profile for target in self.targets for profile in builder.planned(target)]
        engine, _ = builder.build(self.targets)
        out.write_bytes(engine)
        return {"targets": list(self.targets), "profiles": profiles}


def builder(options: EngineOptions) -> BuildTensorRtRtx:
    """The stage that builds this engine for the ranges and targets of `options`."""
    return BuildTensorRtRtx(options.ranges, options.targets)


def why_not_buildable() -> str | None:
    """None, or the package that is missing: no GPU is needed."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return not_installed("tensorrt-rtx")
    return None
