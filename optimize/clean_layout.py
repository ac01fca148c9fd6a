"""Moves layout changes to the edges of the network, where most of them meet their inverse and vanish.

A frozen TensorFlow graph computes in NHWC, ONNX convolutions in NCHW. Converters put a Transpose around every node
that they turn; the rest of the graph stays in between. Elementwise nodes do not care:

    f(transpose(x), transpose(y)) = transpose(f(x, y))

so each Transpose sinks below them, is remapped through nodes that work along one axis, and cancels with the next.
It stops at casts: TensorRT gives uint8 from a cast only if that is the last node.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from optimize._graph_pass import GraphPass, constant, drop_unused, replace

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

ELEMENTWISE = frozenset(
    "Abs Add Ceil Clip Div Elu Erf Exp Floor HardSigmoid Identity LeakyRelu Log Max Min Mul Neg Pow Relu Round "
    "Selu Sigmoid Sqrt Sub Tanh".split()
)
REDUCTIONS = frozenset({"ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"})
AXIS_ATTRIBUTE = frozenset({"Concat", "Split", "Softmax"})


@dataclass(frozen=True)
class CleanLayout(GraphPass):
    """Transpose only at the edges."""

    name: ClassVar[str] = "clean-layout"

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the model with its transposes sunk and cancelled."""
        import onnx_ir as ir

        graph_model = ir.from_proto(model)
        graph = graph_model.graph
        changed = False
        while any(
            _merge(graph, node) or _sink(graph, node) or _reduce(graph, node)
            for node in list(graph)
            if node.graph is graph
        ):
            changed = True
            drop_unused(graph_model)
        if not changed:
            return model
        return ir.to_proto(graph_model)


def _perm(value: ir.Value | None) -> tuple[int, ...] | None:
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Transpose":
        return None
    return tuple(node.attributes["perm"].as_ints())


def _merge(graph: ir.Graph, node: ir.Node) -> bool:
    """transpose(transpose(x)) -> one transpose, or x itself."""
    import onnx_ir as ir

    inner, outer = _perm(node.inputs[0]) if node.inputs else None, _perm(node.outputs[0])
    if inner is None or outer is None:
        return False
    source = node.inputs[0].producer().inputs[0]  # type: ignore[union-attr]
    merged = [inner[axis] for axis in outer]
    if merged == sorted(merged):
        replace(node.outputs[0], source)
        return True
    turn = ir.node("Transpose", [source], {"perm": merged})
    turn.outputs[0].name = f"{node.outputs[0].name}/merged"
    graph.insert_before(node, turn)
    replace(node.outputs[0], turn.outputs[0])
    return True


def _sink(graph: ir.Graph, node: ir.Node) -> bool:
    """f(transpose(x), ...) -> transpose(f(x, ...)), when every input allows it."""
    import onnx_ir as ir

    if node.op_type not in ELEMENTWISE and node.op_type not in AXIS_ATTRIBUTE:
        return False
    perms = {perm for value in node.inputs if (perm := _perm(value)) is not None}
    if len(perms) != 1:
        return False
    perm = perms.pop()
    inputs = [_unturned(value, perm, graph, node.op_type in AXIS_ATTRIBUTE) for value in node.inputs]
    if any(new is None and old is not None for new, old in zip(inputs, node.inputs, strict=True)):
        return False
    attributes = dict(node.attributes)
    if node.op_type in AXIS_ATTRIBUTE:
        axis = attributes["axis"].as_int() if "axis" in attributes else -1 if node.op_type == "Softmax" else 0
        attributes["axis"] = ir.AttrInt64("axis", perm[axis])
    below = ir.Node("", node.op_type, inputs, attributes, num_outputs=len(node.outputs))
    turns = []
    for old, new in zip(node.outputs, below.outputs, strict=True):
        new.name = f"{old.name}/unturned"
        turn = ir.node("Transpose", [new], {"perm": list(perm)})
        turn.outputs[0].name = f"{old.name}/turned"
        turns.append(turn)
    graph.insert_before(node, [below, *turns])
    for old, turn in zip(node.outputs, turns, strict=True):
        replace(old, turn.outputs[0])
    return True


def _reduce(graph: ir.Graph, node: ir.Node) -> bool:
    """reduce(transpose(x), axes) -> reduce(x, other axes), when what is left stays in order."""
    import onnx_ir as ir

    perm = _perm(node.inputs[0]) if node.op_type in REDUCTIONS and node.inputs else None
    axes = constant(node.inputs[1]) if perm is not None and len(node.inputs) > 1 else None
    keeps = "keepdims" not in node.attributes or node.attributes["keepdims"].as_int() == 1
    if perm is None or axes is None or keeps:
        return False
    reduced = {int(axis) % len(perm) for axis in axes}
    left = [perm[axis] for axis in range(len(perm)) if axis not in reduced]
    if left != sorted(left):
        return False
    name = f"{node.outputs[0].name}/axes"
    value = np.array(sorted(perm[axis] for axis in reduced), np.int64)
    initializer = ir.val(name, const_value=ir.tensor(value, name=name))
    graph.register_initializer(initializer)
    node.replace_input_with(0, node.inputs[0].producer().inputs[0])  # type: ignore[union-attr]
    node.replace_input_with(1, initializer)
    return True


def _unturned(value: ir.Value | None, perm: tuple[int, ...], graph: ir.Graph, axis_op: bool) -> ir.Value | None:
    """The input that gives the same result before the transpose, or None where there is none."""
    import onnx_ir as ir

    if _perm(value) == perm:
        return value.producer().inputs[0]  # type: ignore[union-attr]
    array = constant(value)
    if array is None or value is None or value.name is None:
        return None
    if array.size == 1 or axis_op:  # scalars broadcast anyhow; an axis op's constants are split sizes
        return value
    padded = array.reshape((1,) * (len(perm) - array.ndim) + array.shape)
    turned = np.ascontiguousarray(padded.transpose(np.argsort(perm)))
    name = f"{value.name}/unturned_{''.join(map(str, perm))}"
    if name in graph.initializers:
        return graph.initializers[name]
    initializer = ir.val(name, const_value=ir.tensor(turned, name=name))
    graph.register_initializer(initializer)
    return initializer


def graph_pass() -> CleanLayout:
    """The pass with its default configuration."""
    return CleanLayout()
