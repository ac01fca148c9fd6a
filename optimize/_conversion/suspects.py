"""Which nodes cannot be FP16: by what calibration photos showed, and by what they compute (docs/decisions/052)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from optimize._conversion.fp16_graph import FOLLOW
from optimize._conversion.ranges import Range

if TYPE_CHECKING:
    import onnx_ir as ir

HEADROOM = 4
"""FP16 ends at 65504: other photos may give four times what the calibration's gave at double contrast."""

LARGEST = 65504 / HEADROOM

MOST_LOSS = 2**-7
"""Rounding normal numbers loses 2^-12; a channel that loses 32 times as much lies mostly below 2^-19."""

_ROOTS = frozenset({"Sqrt", "ReduceL2"})
_SUMS = frozenset("Add AveragePool Clip Gemm GlobalAveragePool MatMul Max ReduceMean ReduceSum".split())


@dataclass(frozen=True)
class Reason:
    """Why a node stays in FP32, and the tensor that says so, with its range where calibration saw it."""

    why: str
    tensor: str
    range: Range | None


def unfit(graph: ir.Graph, ranges: Mapping[str, Range]) -> dict[str, Reason]:
    """The nodes that stay in FP32 whatever the gate says, by name."""
    return {**dict(_sums_of_squares(graph, ranges)), **dict(_out_of_range(graph, ranges))}


def _out_of_range(graph: ir.Graph, ranges: Mapping[str, Range]) -> Iterator[tuple[str, Reason]]:
    """Whoever writes or reads a tensor that FP16 cannot hold."""
    for node in graph:
        for value in (*node.inputs, *node.outputs):
            found = ranges.get(str(value.name)) if value is not None else None
            if found is not None and (why := _unfit(found)) and not _vanishes(value, ranges):
                yield str(node.name), Reason(why, str(value.name), found)  # type: ignore[union-attr]
                break


def _vanishes(value: ir.Value | None, ranges: Mapping[str, Range]) -> bool:
    """Whether a value that underflows is only added to larger ones: its loss is no more than the sum's own rounding.

    Constants never do: one that is tiny, as an epsilon is, is there for the case that nothing else is.
    """
    found = ranges.get(str(value.name)) if value is not None else None
    if value is None or found is None or value.producer() is None or found.largest > LARGEST:
        return False
    uses = [use.node for use in value.uses()]
    return bool(uses) and all(use.op_type == "Add" and _is_held(use.outputs[0], ranges) for use in uses)


def _is_held(value: ir.Value, ranges: Mapping[str, Range]) -> bool:
    found = ranges.get(str(value.name))
    return found is not None and (not _unfit(found) or _vanishes(value, ranges))


def _unfit(found: Range) -> str:
    if found.largest > LARGEST:
        return f"overflow: magnitudes up to {found.largest:.3g}, and FP16 ends at 65504"
    if found.loss > MOST_LOSS:
        return f"underflow: a channel so small that rounding to FP16 loses {found.loss:.2%} of it"
    return ""


def _sums_of_squares(graph: ir.Graph, ranges: Mapping[str, Range]) -> Iterator[tuple[str, Reason]]:
    """Roots of sums of squares (norms, demodulation), from the square to the reciprocal.

    A square doubles the exponent, and so overflows at 256, which photos that were not seen may give. The tensors are
    small: one value a channel.
    """
    for root in graph:
        if root.op_type not in _ROOTS:
            continue
        path = [root] if root.op_type == "ReduceL2" else _down_to_square(root)
        behind = [use.node for use in root.outputs[0].uses() if use.node.op_type == "Reciprocal"] if path else []
        for node in (*path, *behind):
            output = str(node.outputs[0].name)
            yield str(node.name), Reason("sum of squares: overflows from 256 up", output, ranges.get(output))


def _down_to_square(node: ir.Node) -> list[ir.Node]:
    """The nodes from `node` up to the squares that it sums, empty where there are none."""
    for value in node.inputs:
        above = value.producer() if value is not None else None
        if above is None:
            continue
        square = above.op_type == "Pow" or (above.op_type == "Mul" and above.inputs[0] is above.inputs[1])
        path = [above] if square else _down_to_square(above) if above.op_type in _SUMS else []
        if path:
            return [node, *path]
    return []


def with_followers(graph: ir.Graph, kept: set[str]) -> set[str]:
    """`kept` and the nodes that only move values between kept ones: a cast there and back would round for nothing."""
    grown = set(kept)
    for node in graph:
        if node.op_type in FOLLOW and node.name not in grown:
            moved = _moving_together(node)
            around = [n for m in moved for n in _neighbours(m) if n not in moved]
            if around and all(str(n.name) in kept for n in around):
                grown |= {str(n.name) for n in moved}
    return grown


def _neighbours(node: ir.Node) -> list[ir.Node]:
    above = [value.producer() for value in node.inputs if value is not None]
    below = [use.node for value in node.outputs for use in value.uses()]
    return [n for n in (*above, *below) if n is not None]


def _moving_together(node: ir.Node) -> set[ir.Node]:
    """The nodes that move the same values, joined to `node` through such nodes alone."""
    together, waiting = {node}, [node]
    while waiting:
        for other in _neighbours(waiting.pop()):
            if other.op_type in FOLLOW and other not in together:
                together.add(other)
                waiting.append(other)
    return together
