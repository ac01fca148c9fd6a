"""One rule for every format: weights are finite numbers.

A NaN is a broken weight wherever it stands. An infinity is one too, except in a constant of a graph that only bounds
or masks: every way from it leads to a comparison, a clip, a threshold, a choice or a fill, or, where it is
negative, to an addition (docs/decisions/110).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cameo.errors import CheckpointError

if TYPE_CHECKING:
    import onnx

Readers = Mapping[str, Sequence[tuple[str, Sequence[str]]]]
"""What reads a value: the op and the names of its outputs."""

BOUNDS = frozenset(
    """
    Clip ClipByValue Equal Fill Greater GreaterEqual GreaterOrEqual Less LessEqual LessOrEqual Max Maximum Min Minimum
    NonMaxSuppression NonMaxSuppressionV3 NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual OneHot Pad PadV2
    ScatterElements ScatterND Select SelectV2 Where
    """.split()
)
MASKS = frozenset(("Add", "AddV2"))
PASSES_ON = frozenset(
    """
    BroadcastTo Cast Concat ConcatV2 Enter Exit Expand ExpandDims Gather GatherV2 Identity Loop Merge NextIteration Pack
    Reshape Slice Squeeze StridedSlice Switch Tile Transpose Trilu Unsqueeze
    """.split()
)


def not_finite(path: Path, name: str, bad: int, total: int) -> CheckpointError:
    """The error for weights called `name`, of which `bad` are not finite."""
    return CheckpointError(
        f"{path}: {name} has {bad} of {total} values that are NaN or infinite: the training broke or the file is "
        "damaged; get it again"
    )


def check_constants(path: Path, constants: Iterable[tuple[str, NDArray[Any]]], readers: Readers) -> None:
    """Insist on finite floats among a graph's constants, given by the names that `readers` knows them by.

    Raises:
        CheckpointError: a NaN, or an infinity in what is no bound or mask.
    """
    for name, values in constants:
        if np.isfinite(values).all():
            continue
        allowed = BOUNDS if np.isposinf(values).any() else BOUNDS | MASKS
        if np.isnan(values).any() or not _leads_to(allowed, name, readers, set()):
            raise not_finite(path, name, int((~np.isfinite(values)).sum()), values.size)


def check_onnx(path: Path, model: onnx.ModelProto) -> None:
    """The same for the ONNX model that was read from `path`, its external data loaded.

    Raises:
        CheckpointError: a NaN, an infinity in what is no bound or mask, or a tensor that is not as long as it says.
    """
    graphs = list(_graphs(model.graph))
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [node for function in model.functions for node in function.node]
    readers: dict[str, list[tuple[str, Sequence[str]]]] = {}
    for node in nodes:
        for name in filter(None, node.input):
            readers.setdefault(name, []).append((node.op_type, node.output))
    check_constants(path, _floats(path, graphs, nodes), readers)


def _leads_to(allowed: frozenset[str], name: str, readers: Readers, seen: set[str]) -> bool:
    """Whether every way from the value ends in an op that is allowed."""
    seen.add(name)
    return all(
        op in allowed
        or (
            op in PASSES_ON
            and all(_leads_to(allowed, output, readers, seen) for output in outputs if output not in seen)
        )
        for op, outputs in readers.get(name, ())
    )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph and all that its nodes hold (the branches of If, the body of Loop)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    yield from _graphs(inner)


def _floats(
    path: Path, graphs: Iterable[onnx.GraphProto], nodes: Iterable[onnx.NodeProto]
) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every initializer and constant of floats, by name."""
    from onnx import TensorProto, numpy_helper

    tensors = [(tensor.name, tensor) for graph in graphs for tensor in graph.initializer]
    tensors += [(sparse.values.name, sparse.values) for graph in graphs for sparse in graph.sparse_initializer]
    for node in nodes:
        for attribute in node.attribute:
            tensors += [(node.output[0], one) for one in (attribute.t, *attribute.tensors) if one.data_type]
            if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                yield node.output[0], np.array([attribute.f, *attribute.floats], np.float32)
    for name, tensor in tensors:
        if tensor.data_type in (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16):
            try:
                yield name, numpy_helper.to_array(tensor)
            except (ValueError, TypeError) as error:
                raise CheckpointError(
                    f"{path} is damaged: the numbers of {name} are not as many as its shape {list(tensor.dims)} says; "
                    "export it again"
                ) from error
