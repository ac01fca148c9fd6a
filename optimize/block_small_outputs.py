"""Lets convolutions with few output channels compute 2×2 blocks of pixels at once.

CPU kernels compute 16 output channels at a time; a 7×7 convolution to 3 channels wastes 13 of them, and in DCT-Net
costs 16 % of the time for 4 % of the work. The four pixels of a block see an 8×8 window together, so

    out[2i+a, 2j+b, o] = sum over dy, dx of x[2i+a+dy-3, 2j+b+dx-3] * w[dy, dx, o]

is one 8×8 convolution of stride 2 to 4·3 channels, whose kernel holds w shifted by (a, b) in zeros, and DepthToSpace.
The products are the same ones, and 12 of 16 channels are in use: a third of the time.

Height and width must be even, which the pass cannot see in the graph: only recipes whose sizes are even list it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from optimize._graph_pass import GraphPass, constant, drop_unused, replace

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

_BLOCK = 2


@dataclass(frozen=True)
class BlockSmallOutputs(GraphPass):
    """Conv to at most `most_channels` with a kernel of at least `least_kernel` -> strided Conv + DepthToSpace."""

    most_channels: int = 4
    least_kernel: int = 5

    name: ClassVar[str] = "block-small-outputs"

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the model with its wide convolutions to few channels blocked."""
        import onnx_ir as ir

        graph_model = ir.from_proto(model)
        convolutions = [node for node in graph_model.graph if node.op_type == "Conv"]
        if not sum(self._block(graph_model.graph, node) for node in convolutions):
            return model
        drop_unused(graph_model)
        return ir.to_proto(graph_model)

    def _block(self, graph: ir.Graph, conv: ir.Node) -> bool:
        import onnx_ir as ir

        weights = constant(conv.inputs[1])
        if weights is None or weights.ndim != 4 or not self._worth_it(conv, weights):
            return False
        half = (weights.shape[2] - 1) // 2
        name = conv.outputs[0].name
        inputs = [conv.inputs[0], _initializer(graph, f"{name}/blocked_weights", _blocked(weights))]
        if len(conv.inputs) > 2 and conv.inputs[2] is not None:
            bias = np.tile(constant(conv.inputs[2]), _BLOCK**2)
            inputs.append(_initializer(graph, f"{name}/blocked_bias", bias))
        size = weights.shape[2] + _BLOCK - 1
        attributes = {"kernel_shape": [size, size], "strides": [_BLOCK, _BLOCK], "pads": [half] * 4}
        blocked = ir.node("Conv", inputs, attributes)
        unblocked = ir.node("DepthToSpace", blocked.outputs, {"blocksize": _BLOCK, "mode": "DCR"})
        blocked.outputs[0].name, unblocked.outputs[0].name = f"{name}/blocks", f"{name}/pixels"
        graph.insert_before(conv, [blocked, unblocked])
        replace(conv.outputs[0], unblocked.outputs[0])
        return True

    def _worth_it(self, conv: ir.Node, weights: NDArray[Any]) -> bool:
        outputs, _, height, width = weights.shape
        plain = all(
            list(conv.attributes[name].as_ints()) == [1, 1]
            for name in ("strides", "dilations")
            if name in conv.attributes
        ) and ("group" not in conv.attributes or conv.attributes["group"].as_int() == 1)
        half = (height - 1) // 2
        padding = conv.attributes["auto_pad"].as_string() if "auto_pad" in conv.attributes else "NOTSET"
        pads = list(conv.attributes["pads"].as_ints()) if "pads" in conv.attributes else [0] * 4
        same = padding == "SAME_UPPER" or (padding == "NOTSET" and pads == [half] * 4)
        square = height == width and height % 2 == 1 and height >= self.least_kernel
        return plain and same and square and outputs <= self.most_channels


def _blocked(weights: NDArray[Any]) -> NDArray[Any]:
    """(O, I, k, k) -> (4·O, I, k+1, k+1): the kernel shifted to each pixel of the block, in the DCR order."""
    outputs, inputs, size, _ = weights.shape
    blocked = np.zeros((_BLOCK, _BLOCK, outputs, inputs, size + 1, size + 1), weights.dtype)
    for row in range(_BLOCK):
        for column in range(_BLOCK):
            blocked[row, column, :, :, row : row + size, column : column + size] = weights
    return blocked.reshape(-1, *blocked.shape[3:])


def _initializer(graph: ir.Graph, name: str, value: NDArray[Any]) -> ir.Value:
    import onnx_ir as ir

    initializer = ir.val(name, const_value=ir.tensor(value, name=name))
    graph.register_initializer(initializer)
    return initializer


def graph_pass() -> BlockSmallOutputs:
    """The pass with its default configuration."""
    return BlockSmallOutputs()
