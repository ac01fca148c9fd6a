"""Puts FP16 into a graph: every node computes in it but those that are named, with a Cast where the two meet.

A value is cast at most once in each direction, however many nodes read it. Inputs and outputs keep their dtypes: where
they are uint8, the casts that the graph has at its edges give and take FP16 themselves.

TensorRT's half kernels take channels in pairs, and pad what a convolution of an odd number of them reads with a picture
of zeros, which it plans among the weights. So such convolutions read one channel of zeros more (docs/decisions/054).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from cameo.errors import EngineError

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

STAY_FLOAT = {"Resize": (1, 2)}
"""Inputs that ONNX wants in FP32 whatever the node computes in: Resize's region and scales."""

FOLLOW = frozenset(
    "Concat DepthToSpace Expand Flatten Gather Identity MaxPool Pad Relu Reshape Slice Split Squeeze Transpose "
    "Unsqueeze".split()
)
"""Nodes that compute nothing: they have the precision of what they move."""


def named(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a name for every node, no two the same, constants as initializers, and all shapes inferred.

    Raises:
        EngineError: the graph has control flow, whose bodies would need a precision of their own.
    """
    import onnx
    import onnx_ir as ir
    from onnx_ir.passes import common

    for node in model.graph.node:
        if any(attribute.type == onnx.AttributeProto.GRAPH for attribute in node.attribute):
            raise EngineError(
                f"node '{node.name}' ({node.op_type}) has a graph inside, which cannot be converted to FP16: "
                "export the network without control flow"
            )
    graph_model = ir.from_proto(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True)(graph_model)
    taken: set[str] = set()
    for node in graph_model.graph:
        name = base = node.name or f"{node.op_type}:{node.outputs[0].name}"
        while name in taken:
            name = f"{base}:{node.outputs[0].name}"
            base = f"{base}+"
        taken.add(name)
        node.name = name
    return onnx.shape_inference.infer_shapes(ir.to_proto(graph_model), strict_mode=True)


def fp16_graph(model: onnx.ModelProto, keep: Collection[str]) -> onnx.ModelProto:
    """`model` (as `named` gives it) in FP16, apart from the nodes called `keep`, which stay in FP32."""
    import onnx
    import onnx_ir as ir
    from onnx_ir.passes import common

    graph_model = ir.from_proto(model)
    graph = graph_model.graph
    casts = _Casts(graph)
    kept = set(keep)
    for node in list(graph):
        if node.op_type == "Conv" and node.name not in kept:
            _make_channels_even(graph, node)
    for node in list(graph):
        dtype = ir.DataType.FLOAT if node.name in kept else ir.DataType.FLOAT16
        for index, value in enumerate(node.inputs):
            if value is not None and index not in STAY_FLOAT.get(node.op_type, ()):
                node.replace_input_with(index, casts.as_dtype(value, dtype, node))
        if node.op_type == "Cast" and node.attributes["to"].as_int() == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", int(dtype))
        for output in node.outputs:
            if output.dtype == ir.DataType.FLOAT:
                output.dtype = dtype
    for index, output in enumerate(list(graph.outputs)):
        if output.dtype == ir.DataType.FLOAT16:
            graph.outputs[index] = casts.output(output)
    common.RemoveUnusedNodesPass()(graph_model)
    return onnx.shape_inference.infer_shapes(ir.to_proto(graph_model), strict_mode=True)


def _make_channels_even(graph: ir.Graph, convolution: ir.Node) -> None:
    """Add a channel of zeros to what `convolution` reads, and to its weights, if it reads an odd number of them."""
    import onnx_ir as ir

    image, weights = convolution.inputs[:2]
    if weights is None or weights.const_value is None:
        return
    array = weights.const_value.numpy()
    pixels_alone = all(size == 1 for size in array.shape[2:])  # a matrix product, which is not padded
    if pixels_alone or array.shape[1] % 2 == 0 or convolution.attributes.get_int("group", 1) != 1:
        return
    name = f"{convolution.name}/even"
    one_channel = [(0, 0), (0, 1), *[(0, 0)] * (array.ndim - 2)]
    wider = ir.val(f"{name}/weights", const_value=ir.tensor(np.pad(array, one_channel), name=f"{name}/weights"))
    pads = ir.val(f"{name}/pads", const_value=ir.tensor(np.transpose(one_channel).ravel(), name=f"{name}/pads"))
    for initializer in (wider, pads):
        graph.register_initializer(initializer)
    pad = ir.node("Pad", [image, pads], name=name)
    pad.outputs[0].name, pad.outputs[0].dtype = f"{name}/channels", ir.DataType.FLOAT
    graph.insert_before(convolution, pad)
    convolution.replace_input_with(0, pad.outputs[0])
    convolution.replace_input_with(1, wider)


class _Casts:
    """The casts of one graph, made when they are first needed."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._made: dict[tuple[ir.Value, ir.DataType], ir.Value] = {}

    def as_dtype(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node) -> ir.Value:
        """`value`, or a copy of it, as `dtype`; values that are no floats stay what they are."""
        import onnx_ir as ir

        if value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16) or value.dtype == dtype:
            return value
        if (value, dtype) not in self._made:
            constant = value.const_value is not None
            self._made[value, dtype] = self._constant(value) if constant else self._cast(value, dtype, reader)
        return self._made[value, dtype]

    def _constant(self, value: ir.Value) -> ir.Value:
        import onnx_ir as ir

        array = value.const_value.numpy()  # type: ignore[union-attr]
        with np.errstate(over="ignore"):  # the reference finds what overflows
            tensor = ir.tensor(array.astype(np.float16), name=f"{value.name}/fp16")
        half = ir.val(tensor.name, const_value=tensor)
        self._graph.register_initializer(half)
        return half

    def _cast(self, value: ir.Value, dtype: ir.DataType, reader: ir.Node) -> ir.Value:
        import onnx_ir as ir

        name = f"{value.name}/{'fp16' if dtype == ir.DataType.FLOAT16 else 'fp32'}"
        cast = ir.node("Cast", [value], {"to": int(dtype)}, name=f"{name}/cast")
        self._describe(cast.outputs[0], name, value, dtype)
        producer = value.producer()
        if producer is None:
            self._graph.insert_before(reader, cast)
        else:
            self._graph.insert_after(producer, cast)
        return cast.outputs[0]

    def output(self, value: ir.Value) -> ir.Value:
        """An FP32 value of `value`'s name, which becomes another."""
        import onnx_ir as ir

        name, value.name = value.name, f"{value.name}/fp16"
        cast = ir.node("Cast", [value], {"to": int(ir.DataType.FLOAT)}, name=f"{name}/cast")
        self._describe(cast.outputs[0], str(name), value, ir.DataType.FLOAT)
        self._graph.append(cast)
        return cast.outputs[0]

    @staticmethod
    def _describe(result: ir.Value, name: str, source: ir.Value, dtype: ir.DataType) -> None:
        result.name, result.shape, result.dtype = name, source.shape, dtype
