"""Replaces chains of pure data movement that only permute channels by one Gather.

ShuffleNet's shuffle is stack, transpose, reshape, split: five nodes and two layouts for what is a permutation of
channels. Such a chain moves numbers and computes none, so what it does can be read off by running it: every source is
filled with the numbers of its own elements, and the result says where each element came from. If element (c, h, w) of
the result is always element (p(c), h, w) of the sources joined along the channels, the chain is (docs/decisions/003)

    Gather(Concat(sources), p)
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

_MOVES = frozenset({"Concat", "Identity", "Reshape", "Split", "Squeeze", "Transpose", "Unsqueeze"})
_NCHW_TO_NHWC = (0, 2, 3, 1)


@dataclass(frozen=True)
class FuseChannelShuffle(GraphPass):
    """stack, transpose, reshape, split -> Gather on the channel axis."""

    name: ClassVar[str] = "fuse-channel-shuffle"

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the model with its channel shuffles as Gather."""
        import onnx
        import onnx_ir as ir

        graph_model = ir.from_proto(onnx.shape_inference.infer_shapes(model))
        graph = graph_model.graph
        ends = [
            value
            for node in graph
            if node.op_type in _MOVES
            for value in node.outputs
            if any(user.op_type not in _MOVES for user in value.consumers())
        ]
        if not sum(_fuse(graph, value) for value in ends):
            return model
        drop_unused(graph_model)
        return ir.to_proto(graph_model)


def _fuse(graph: ir.Graph, end: ir.Value) -> bool:
    import onnx_ir as ir

    nodes, sources = _chain(end)
    if not {"Reshape", "Concat"} <= {node.op_type for node in nodes}:
        return False  # a lone Transpose or Concat is no shuffle
    shapes = [_chw(source) for source in sources]
    if any(shape is None or shape[1:] != shapes[0][1:] for shape in shapes):  # type: ignore[index]
        return False
    found = _permutation(nodes, sources, shapes, end)
    if found is None:
        return False
    channels, layout = found
    joined = ir.node("Concat", sources, {"axis": 1})
    order = ir.val(f"{end.name}/channels", const_value=ir.tensor(channels, name=f"{end.name}/channels"))
    graph.register_initializer(order)
    steps = [joined, ir.node("Gather", [joined.outputs[0], order], {"axis": 1})]
    if layout == _NCHW_TO_NHWC:
        steps.append(ir.node("Transpose", steps[-1].outputs, {"perm": list(layout)}))
    for index, step in enumerate(steps):
        step.outputs[0].name = f"{end.name}/shuffle_{index}"
    last = end.producer()
    assert last is not None  # every end is the output of a node
    graph.insert_after(last, steps)
    replace(end, steps[-1].outputs[0])
    return True


def _chain(end: ir.Value) -> tuple[list[ir.Node], list[ir.Value]]:
    """The movement nodes above `end` and the values that they move."""
    nodes: list[ir.Node] = []
    sources: list[ir.Value] = []
    waiting = [end]
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if node is not None and node.op_type in _MOVES:
            if node not in nodes:
                nodes.append(node)
                waiting.extend(i for i in node.inputs if i is not None and constant(i) is None)
        elif value not in sources:
            sources.append(value)
    return nodes, sources


def _chw(value: ir.Value) -> tuple[int, int, int] | None:
    """Channels, height and width where the graph knows them."""
    if value.shape is None or len(value.shape) != 4 or not all(isinstance(d, int) for d in value.shape[1:]):
        return None
    channels, height, width = (int(d) for d in value.shape[1:])  # type: ignore[arg-type]
    return channels, height, width


def _permutation(
    nodes: list[ir.Node], sources: list[ir.Value], shapes: list[Any], end: ir.Value
) -> tuple[NDArray[np.int64], tuple[int, ...]] | None:
    """The channel of the joined sources that each channel of `end` is, and the layout of `end`."""
    height, width = shapes[0][1:]
    total = sum(shape[0] for shape in shapes)
    numbers = np.arange(2 * total * height * width, dtype=np.float32).reshape(2, total, height, width)
    splits = np.cumsum([shape[0] for shape in shapes])[:-1]
    feeds = {s.name: part for s, part in zip(sources, np.split(numbers, splits, axis=1), strict=True)}
    moved = _evaluate(nodes, feeds, end)
    for layout in ((0, 1, 2, 3), _NCHW_TO_NHWC):
        if moved.ndim != 4:
            return None
        nchw = moved.transpose(np.argsort(layout))
        channels = (nchw[0, :, 0, 0] // (height * width)).astype(np.int64)
        if np.array_equal(nchw, numbers[:, channels]):
            return channels, layout
    return None


def _evaluate(nodes: list[ir.Node], feeds: dict[Any, NDArray[Any]], end: ir.Value) -> NDArray[Any]:
    import onnx
    import onnx_ir as ir
    from onnx.reference import ReferenceEvaluator

    position = {node: index for index, node in enumerate(nodes[0].graph)}  # type: ignore[arg-type]
    constants = {
        i.name: constant(i) for node in nodes for i in node.inputs if i is not None and constant(i) is not None
    }
    graph = onnx.helper.make_graph(
        [ir.to_proto(node) for node in sorted(nodes, key=position.__getitem__)],
        "moves",
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in feeds],
        [onnx.helper.make_tensor_value_info(end.name, onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = nodes[0].graph.opset_imports[""]  # type: ignore[union-attr]
    program = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return np.asarray(ReferenceEvaluator(program).run(None, feeds)[0])


def graph_pass() -> FuseChannelShuffle:
    """The pass with its default configuration."""
    return FuseChannelShuffle()
