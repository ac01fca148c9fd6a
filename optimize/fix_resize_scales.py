"""Replaces sizes that a Resize computes from its own input's shape by constant scales.

TensorFlow code asks for `2 * shape(x)`; the converted graph carries that arithmetic along, which keeps engine builders
from planning memory tightly. The size subgraph is small and integer only: it is evaluated on two unrelated shapes,
and if both give the same whole-number ratio to the input, that ratio is the scale (docs/decisions/003).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from optimize._graph_pass import GraphPass, constant, drop_unused

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_PROBES = (np.array([2, 3, 20, 28]), np.array([5, 7, 44, 52]))


@dataclass(frozen=True)
class FixResizeScales(GraphPass):
    """Resize(x, sizes=k * shape(x)) -> Resize(x, scales=k)."""

    name: ClassVar[str] = "fix-resize-scales"

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the model with constant scales wherever sizes are a fixed multiple of the input's."""
        import onnx_ir as ir

        graph_model = ir.from_proto(model)
        resizes = [node for node in graph_model.graph if node.op_type == "Resize" and len(node.inputs) == 4]
        fixed = 0
        for node in resizes:
            scales = _scales(node)
            if scales is not None:
                initializer = ir.val(f"{node.outputs[0].name}/scales", const_value=ir.tensor(scales))
                initializer.const_value.name = initializer.name
                graph_model.graph.register_initializer(initializer)
                node.replace_input_with(2, initializer)
                node.replace_input_with(3, None)
                node.resize_inputs(3)
                fixed += 1
        if not fixed:
            return model
        drop_unused(graph_model)
        return ir.to_proto(graph_model)


def _scales(resize: ir.Node) -> NDArray[np.float32] | None:
    image, sizes = resize.inputs[0], resize.inputs[3]
    if image is None or sizes is None or constant(sizes) is not None:
        return None
    ratios = []
    for shape in _PROBES:
        wanted = _evaluate(sizes, image, shape)
        if wanted is None or np.any(wanted % shape):
            return None
        ratios.append(wanted // shape)
    return ratios[0].astype(np.float32) if np.array_equal(*ratios) else None


def _evaluate(sizes: ir.Value, image: ir.Value, shape: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """What `sizes` is when `image` has `shape`, or None if it depends on anything else."""
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    nodes, feeds, constants = [], {}, {}
    waiting, seen = [sizes], set()
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if value in seen:
            continue
        seen.add(value)
        if constant(value) is not None:
            constants[value.name] = constant(value)
        elif node is None:
            return None
        elif node.op_type == "Shape":
            permuted = _shape_seen_by(node, image, shape)
            if permuted is None:
                return None
            feeds[value.name] = permuted
        else:
            nodes.append(node)
            waiting.extend(source for source in node.inputs if source is not None)
    nodes.sort(key=lambda node: list(node.graph).index(node))
    graph = onnx.helper.make_graph(
        [ir.to_proto(node) for node in nodes],
        "sizes",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None) for name in feeds],
        [onnx.helper.make_tensor_value_info(sizes.name, onnx.TensorProto.INT64, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = sizes.producer().graph.opset_imports[""]
    program = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return np.asarray(ReferenceEvaluator(program).run(None, feeds)[0], np.int64)


def _shape_seen_by(node: ir.Node, image: ir.Value, shape: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """The output of a Shape node when `image` has `shape`; None unless it measures `image` or a transpose of it."""
    value, permutation = node.inputs[0], np.arange(len(shape))
    while value is not image:
        turn = value.producer() if value is not None else None
        if turn is None or turn.op_type not in ("Transpose", "Identity"):
            return None
        if turn.op_type == "Transpose":
            permutation = np.array(turn.attributes["perm"].as_ints())[permutation]
        value = turn.inputs[0]
    start = node.attributes["start"].as_int() if "start" in node.attributes else 0
    end = node.attributes["end"].as_int() if "end" in node.attributes else None
    return shape[permutation][start:end]


def graph_pass() -> FixResizeScales:
    """The pass with its default configuration."""
    return FixResizeScales()
