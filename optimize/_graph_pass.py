"""What all passes share: read, change, check, save, and report node counts."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cameo.any_locale import as_utf8
from cameo.errors import CheckpointError
from engines._external_data import files_of
from metrics.finite import check_onnx

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

log = logging.getLogger(__name__)


class GraphPass(ABC):
    """A stage that reads one ONNX graph and writes a leaner one of the same inputs and outputs."""

    name: ClassVar[str]
    output: ClassVar[str] = "model.onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir")

    @abstractmethod
    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the leaner model; the argument may be changed."""

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the pass's result to `out`; return node counts before and after.

        Raises:
            CheckpointError: `source` is not an ONNX graph.
        """
        import onnx

        before = read_onnx(source)
        ops_before = Counter(node.op_type for node in before.graph.node)
        serialized = before.SerializeToString(deterministic=True)
        after = self.apply(before)
        onnx.checker.check_model(after, full_check=True)
        onnx.save(after, out)
        ops_after = Counter(node.op_type for node in after.graph.node)
        log.info("%s: %d -> %d nodes", self.name, ops_before.total(), ops_after.total())
        return {
            "changed": after.SerializeToString(deterministic=True) != serialized,
            "nodes_before": ops_before.total(),
            "nodes_after": ops_after.total(),
            "ops_removed": dict(sorted((ops_before - ops_after).items())),
            "ops_added": dict(sorted((ops_after - ops_before).items())),
        }


def read_onnx(path: Path) -> onnx.ModelProto:
    """The ONNX model at `path`, its weights inside and every node after those that it reads.

    Raises:
        CheckpointError: missing, damaged, with nodes that wait for themselves, without its external weight data, or
            with weights that are not finite.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: expected an ONNX graph (.onnx)")
    try:
        model = onnx.load(path, "protobuf", load_external_data=False)
        if files_of(model, path):
            onnx.load_external_data_for_model(model, as_utf8(path.parent))
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise CheckpointError(
            f"{path} is not an ONNX graph, or damaged ({type(error).__name__}): export it again"
        ) from error
    if not model.graph.node:
        raise CheckpointError(f"{path} holds no nodes: expected an ONNX graph; export it again")
    check_onnx(path, model)
    return model if _is_sorted(model.graph) else _sorted(model, path)


def _is_sorted(graph: onnx.GraphProto) -> bool:
    """Whether no node of the graph reads what a later one gives."""
    later = {output for node in graph.node for output in node.output if output}
    for node in graph.node:
        if not later.isdisjoint(node.input):
            return False
        later.difference_update(node.output)
    return True


def _sorted(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    import onnx_ir as ir

    graph_model = ir.from_proto(model)
    try:
        graph_model.graph.sort()
    except ValueError as error:
        raise CheckpointError(
            f"{path} has nodes that wait for themselves, expected a graph that can be computed: export it again"
        ) from error
    return ir.to_proto(graph_model)


def drop_unused(model: ir.Model) -> None:
    """Remove what no output needs: identities, repeated computations, dead nodes, unused initializers."""
    from onnx_ir.passes import Sequential, common

    Sequential(
        common.IdentityEliminationPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.TopologicalSortPass(),
    )(model)


def constant(value: ir.Value | None) -> Any:
    """The numpy array of a constant value, or None."""
    if value is None or value.const_value is None:
        return None
    return value.const_value.numpy()


def through(value: ir.Value, ops: tuple[str, ...]) -> ir.Value:
    """Walk up first inputs while the producer is one of `ops`; return the value reached."""
    while (node := value.producer()) is not None and node.op_type in ops:
        source = node.inputs[0]
        if source is None:
            break
        value = source
    return value


def replace(old: ir.Value, new: ir.Value) -> None:
    """Let every consumer of `old`, and the graph's outputs, read `new` instead."""
    from onnx_ir.convenience import replace_all_uses_with

    if new.shape is None:
        new.shape = old.shape
    if new.type is None:
        new.type = old.type
    if old.is_graph_output():
        old.name, new.name = f"{old.name}/replaced", old.name
    replace_all_uses_with(old, new, replace_graph_outputs=True)
