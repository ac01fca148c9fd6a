"""OpenVINO's own form of the graph (IR), which loads without an ONNX parser and runs as f32 or bf16."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cameo.errors import EngineError
from cameo.openvino_package import openvino_package
from engines import EngineOptions
from engines._positions import mark_positions

PRECISIONS = {"fp32": ("fp32", "bf16"), "int8": ("int8",)}


@dataclass(frozen=True)
class BuildOpenVino:
    """A folder with model.xml and model.bin, weights kept in FP32; positions stay in FP32 in bf16 as well."""

    name: ClassVar[str] = "build-openvino"
    output: ClassVar[str] = "ir"
    tools: ClassVar[tuple[str, ...]] = ("openvino",)

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the engine.

        Raises:
            EngineError: OpenVINO cannot read the graph.
        """
        openvino = openvino_package()
        try:
            model = openvino.Core().read_model(source)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise EngineError(
                f"openvino cannot read {source}: {reason}; leave the engine out for this network"
            ) from error
        # Nodes without a name are called after a counter of the process: the same graph must give the same engine.
        for index, node in enumerate(model.get_ordered_ops()):
            if re.fullmatch(rf"{node.get_type_name()}_\d+", node.get_friendly_name()):
                node.set_friendly_name(f"{node.get_type_name()}_{index}")
        # Without this, weights are stored in FP16 and the FP32 engine is no longer exact.
        openvino.save_model(model, out / "model.xml", compress_to_fp16=False)
        mark_positions(out / "model.xml")
        return {"targets": [], "profiles": []}


def builder(options: EngineOptions) -> BuildOpenVino:
    """The stage that builds this engine; it needs no ranges and no targets."""
    return BuildOpenVino()


def why_not_buildable() -> str | None:
    """None, or why OpenVINO is not here."""
    from cameo.backends import backend

    return backend("openvino").why_unavailable()
