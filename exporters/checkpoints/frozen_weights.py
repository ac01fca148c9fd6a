"""The numbers in a frozen TensorFlow graph: finite, and as many as their shapes say."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cameo.errors import CheckpointError
from metrics.finite import check_constants

_MAX_BYTES = 2**31 - 1
"""Of all constants together: what a file can hold. A constant may be one number for all of a large shape."""


def check_weights(graph: Any, path: Path) -> None:
    """Do nothing where the constants of a `GraphDef` are sound.

    Raises:
        CheckpointError: a NaN, an infinity in what is no bound or mask, or a constant of another size than it says.
    """
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    readers: dict[str, list[tuple[str, tuple[str]]]] = {}
    for node in nodes:
        for source in node.input:
            if not source.startswith("^"):
                readers.setdefault(source.split(":")[0], []).append((node.op, (node.name,)))
    check_constants(path, _floats(nodes, path), readers)


def _floats(nodes: list[Any], path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """The floats of every constant by its name, one where one stands for all."""
    import tensorflow as tf

    total = 0
    for node in nodes:
        if node.op != "Const":
            continue
        tensor = node.attr["value"].tensor
        try:
            dtype = tf.dtypes.as_dtype(tensor.dtype)
            count = math.prod(dim.size for dim in tensor.tensor_shape.dim)
            total += max(count, 0) * dtype.size
            sound = all(dim.size >= 0 for dim in tensor.tensor_shape.dim) and total <= _MAX_BYTES
            sound &= len(tensor.tensor_content) in (0, count * dtype.size)
        except TypeError:
            sound = False
        if not sound:
            shape = [dim.size for dim in tensor.tensor_shape.dim]
            raise CheckpointError(
                f"{path} is damaged: its constant '{node.name}' does not hold what its shape {shape} needs; "
                "download it again"
            )
        if dtype.is_floating:
            yield node.name, _values(tensor, dtype)


def _values(tensor: Any, dtype: Any) -> NDArray[Any]:
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype.as_numpy_dtype)
    if tensor.half_val:
        return np.array(tensor.half_val, np.uint16).view(dtype.as_numpy_dtype)
    return np.array([*tensor.float_val, *tensor.double_val])
