"""ONNX Runtime runs the ONNX graph itself, so its engine is the graph, loaded once to prove that it can be."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from engines import EngineOptions
from engines._external_data import external_files

PRECISIONS = {"fp32": ("fp32",), "fp16": ("fp16",), "int8": ("int8",)}


@dataclass(frozen=True)
class BuildOnnxRuntime:
    """The graph as it is: portable between CPUs and to CUDA, where a graph optimised ahead of time is not."""

    name: ClassVar[str] = "build-onnxruntime"
    output: ClassVar[str] = "engine.onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnxruntime",)

    rests_on: ClassVar[tuple[str, ...]] = ("cameo.backends.onnxruntime",)  # proves that the graph loads

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the engine.

        Raises:
            EngineError: ONNX Runtime cannot load the graph.
        """
        from cameo.backends import SessionOptions, backend

        backend("onnxruntime").open_session(source, SessionOptions(device="cpu")).close()
        _copy_whole(source, out)
        return {"targets": [], "profiles": []}


def _copy_whole(source: Path, out: Path) -> None:
    """Copy the graph; weights that it keeps in files beside it are written into the copy."""
    if not external_files(source):
        shutil.copyfile(source, out)
        return
    import onnx

    onnx.save(onnx.load(source), out)


def builder(options: EngineOptions) -> BuildOnnxRuntime:
    """The stage that builds this engine; it needs no ranges and no targets."""
    return BuildOnnxRuntime()


def why_not_buildable() -> str | None:
    """None: it is part of the workshop."""
    from cameo.backends import backend

    return backend("onnxruntime").why_unavailable()
