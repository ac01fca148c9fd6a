"""Folds constants and drops do-nothing nodes with onnxsim."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from cameo.errors import EngineError
from optimize._graph_pass import GraphPass

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class SimplifyGraph(GraphPass):
    """onnxsim with its own check against random inputs left to the contract tests."""

    name: ClassVar[str] = "simplify-graph"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnxsim")

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the simplified model."""
        import onnxsim

        simplified, proven = onnxsim.simplify(model)
        if not proven:
            raise EngineError("onnxsim gave a graph that differs from its input: leave simplify-graph out for this one")
        return simplified


def graph_pass() -> SimplifyGraph:
    """The pass with its default configuration."""
    return SimplifyGraph()
