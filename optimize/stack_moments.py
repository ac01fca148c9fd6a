"""Computes the four local means of a guided filter in two pools instead of four.

A guided filter with guide x and target y needs mean(x), mean(y), mean(x*x) and mean(x*y). Stacked along the channels,

    mean(x), mean(y)     = split(mean([x, y]))
    mean(x*x), mean(x*y) = split(mean([x, x] * [x, y]))

are the same numbers. What it saves is memory at the peak: as long as the statistics of the guide depend on nothing but
the photo, TensorRT's planner computes them first and keeps two full-resolution images over the whole network; stacked
with the target they come last (measured: 1024² FP32 on sm_86, 428 MiB of activations before and 404 after).
Stacking all four in one pool makes it worse (440 MiB): the planner lays the stack out early.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from optimize._graph_pass import GraphPass, drop_unused, replace

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir


class _Moments(NamedTuple):
    """The four pools of one guided filter."""

    guide: ir.Node
    target: ir.Node
    square: ir.Node
    product: ir.Node


@dataclass(frozen=True)
class StackMoments(GraphPass):
    """mean(x), mean(y), mean(x*x), mean(x*y) -> two means over stacked channels."""

    name: ClassVar[str] = "stack-moments"

    def apply(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """Return the model with the means of its guided filters stacked."""
        import onnx_ir as ir

        graph_model = ir.from_proto(model)
        found = list(_guided_filters(graph_model.graph))
        if not found:
            return model
        for moments in found:
            _stack(graph_model.graph, moments)
        drop_unused(graph_model)
        return ir.to_proto(graph_model)


def _guided_filters(graph: ir.Graph) -> Iterator[_Moments]:
    pools = {node.inputs[0]: node for node in graph if node.op_type == "AveragePool" and node.inputs[0] is not None}
    for value, square in pools.items():
        factors = _factors(value)
        if factors is None or factors[0] is not factors[1] or factors[0] not in pools:
            continue
        guide = factors[0]
        for other, product in pools.items():
            pair = _factors(other)
            if pair is None or product is square or guide not in pair:
                continue
            target = pair[1] if pair[0] is guide else pair[0]
            pooled = [pools[guide], pools.get(target), square, product]
            if target in pools and len({str(node.attributes) for node in pooled}) == 1:  # type: ignore[union-attr]
                yield _Moments(*pooled)  # type: ignore[arg-type]
                break


def _factors(value: ir.Value) -> tuple[ir.Value, ir.Value] | None:
    node = value.producer()
    if node is None or node.op_type != "Mul" or None in node.inputs:
        return None
    return node.inputs[0], node.inputs[1]  # type: ignore[return-value]


def _stack(graph: ir.Graph, moments: _Moments) -> None:
    import onnx_ir as ir

    guide, target = moments.guide.inputs[0], moments.target.inputs[0]
    attributes = dict(moments.guide.attributes)
    both = ir.node("Concat", [guide, target], {"axis": 1})
    twice = ir.node("Concat", [guide, guide], {"axis": 1})
    products = ir.node("Mul", [twice.outputs[0], both.outputs[0]])
    steps = [both, twice, products]
    for stacked, pools in ((both, (moments.guide, moments.target)), (products, (moments.square, moments.product))):
        mean = ir.Node("", "AveragePool", [stacked.outputs[0]], attributes)
        parts = ir.node("Split", mean.outputs, {"axis": 1, "num_outputs": 2}, num_outputs=2)
        steps += [mean, parts]
        for pool, part in zip(pools, parts.outputs, strict=True):
            replace(pool.outputs[0], part)
    for index, step in enumerate(steps):
        for place, output in enumerate(step.outputs):
            output.name = f"{moments.square.outputs[0].name}/stacked_{index}_{place}"
    graph.extend(steps)  # drop_unused sorts


def graph_pass() -> StackMoments:
    """The pass with its default configuration."""
    return StackMoments()
