"""Turns the box filters of a guided filter into average pooling.

TensorFlow code writes the mean over a window as a depthwise convolution with equal weights w over zero padding,
divided by the same convolution of an image of ones:

    mean(x) = conv(x, w) / conv(1, w) = (w * sum over the window) / (w * number of pixels in the window)

w cancels, and what remains is average pooling that does not count the padding. That drops a division at full
resolution for each filter, and the image of ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from optimize._graph_pass import GraphPass, constant, drop_unused, replace, through

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_SHAPING = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity")


@dataclass(frozen=True)
class FuseBoxFilter(GraphPass):
    """conv(x, w) / conv(1, w) -> AveragePool(x)."""

    name: ClassVar[str] = "fuse-box-filter"

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the model with its box filters as AveragePool."""
        import onnx_ir as ir

        graph_model = ir.from_proto(model)
        fused = [node for node in list(graph_model.graph) if node.op_type == "Div" and _fuse(graph_model.graph, node)]
        if not fused:
            return model
        drop_unused(graph_model)
        return ir.to_proto(graph_model)


def _fuse(graph: ir.Graph, division: ir.Node) -> bool:
    import onnx_ir as ir

    numerator, denominator = division.inputs
    if numerator is None or denominator is None:
        return False
    turn = numerator.producer()
    conv = through(numerator, ("Transpose",)).producer()
    ones = through(denominator, _SHAPING).producer()
    window = _box(conv)
    if turn is None or conv is None or ones is None or window is None or window != _box(ones):
        return False
    if not _is_ones(through(ones.inputs[0], _SHAPING)):
        return False
    kernel, pads, _ = window
    pool = ir.node("AveragePool", [conv.inputs[0]], {"kernel_shape": kernel, "pads": pads, "count_include_pad": 0})
    pool.outputs[0].name = f"{division.outputs[0].name}/mean"
    nodes = [pool]
    if turn is not conv:
        nodes.append(ir.node("Transpose", pool.outputs, {"perm": list(turn.attributes["perm"].as_ints())}))
        nodes[-1].outputs[0].name = f"{division.outputs[0].name}/turned"
    graph.insert_before(division, nodes)
    replace(division.outputs[0], nodes[-1].outputs[0])
    return True


def _box(conv: ir.Node | None) -> tuple[list[int], list[int], float] | None:
    """Kernel, pads and weight of a stride-1 depthwise convolution with equal weights and SAME padding, else None."""
    if conv is None or conv.op_type != "Conv" or len([i for i in conv.inputs if i is not None]) != 2:
        return None
    weights = constant(conv.inputs[1])
    if weights is None or weights.ndim != 4 or weights.shape[1] != 1 or not np.all(weights == weights.flat[0]):
        return None
    kernel = [int(k) for k in weights.shape[2:]]
    if _ints(conv, "strides", [1, 1]) != [1, 1] or _ints(conv, "dilations", [1, 1]) != [1, 1]:
        return None
    same = [(k - 1) // 2 for k in kernel] + [k // 2 for k in kernel]
    padding = conv.attributes["auto_pad"].as_string() if "auto_pad" in conv.attributes else "NOTSET"
    pads = same if padding == "SAME_UPPER" else _ints(conv, "pads", [0, 0, 0, 0])
    return (kernel, pads, float(weights.flat[0])) if pads == same else None


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else default


def _is_ones(value: ir.Value) -> bool:
    node = value.producer()
    if node is None:
        return False
    filler: Any = None
    if node.op_type == "Expand":
        filler = constant(node.inputs[0])
    elif node.op_type == "ConstantOfShape" and "value" in node.attributes:
        filler = node.attributes["value"].as_tensor().numpy()
    return filler is not None and bool(np.all(filler == 1))


def graph_pass() -> FuseBoxFilter:
    """The pass with its default configuration."""
    return FuseBoxFilter()
