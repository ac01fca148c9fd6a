"""A small network with the edges of every image network, for tests of engines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EDGE = ["N", "H", "W", 3]


def write_blur(path: Path, channels: int = 16, layers: int = 2) -> Path:
    """Write a network that sums neighbourhoods: `layers` convolutions at full size; returns `path`."""
    random = np.random.default_rng(0)
    widths = [3, *[channels] * (layers - 1), 3]
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    weights = []
    for layer, (before, after) in enumerate(pairwise(widths)):
        kernel = random.uniform(0, 2 / (9 * before), (after, before, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        nodes.append(
            helper.make_node("Conv", [f"x{layer}", f"w{layer}"], [f"c{layer}"], name=f"conv{layer}", pads=[1] * 4)
        )
        nodes.append(helper.make_node("LeakyRelu", [f"c{layer}"], [f"x{layer + 1}"], alpha=0.2))
    weights.append(numpy_helper.from_array(np.float32(255), "most"))
    nodes += [
        helper.make_node("Min", [f"x{layers}", "most"], ["limited"]),
        helper.make_node("Transpose", ["limited"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["last"], ["result"], to=TensorProto.UINT8),
    ]
    return _write(path, nodes, weights)


def write_transposed_bytes(path: Path) -> Path:
    """Write a network that transposes uint8, which no TensorRT takes; returns `path`."""
    return _write(
        path, [helper.make_node("Transpose", ["image"], ["result"], name="mirror", perm=[0, 2, 1, 3])], weights=[]
    )


def write_masked(path: Path, mask: list[str | int]) -> Path:
    """Write a network that multiplies `image` by `mask`, float32 of these axes, or `(N, 3)`; returns `path`."""
    nodes = [helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT)]
    shape = numpy_helper.from_array(np.array([0, 1, 1, 3]), "shape")
    if len(mask) == 2:
        nodes.append(helper.make_node("Reshape", ["mask", "shape"], ["factor"]))
    nodes += [
        helper.make_node("Mul", ["float", "factor" if len(mask) == 2 else "mask"], ["masked"]),
        helper.make_node("Cast", ["masked"], ["result"], to=TensorProto.UINT8),
    ]
    inputs = [helper.make_tensor_value_info("mask", TensorProto.FLOAT, mask)]
    return _write(path, nodes, [shape] if len(mask) == 2 else [], inputs)


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    others: Sequence[onnx.ValueInfoProto] = (),
) -> Path:
    edges = [helper.make_tensor_value_info(name, TensorProto.UINT8, EDGE) for name in ("image", "result")]
    graph = helper.make_graph(nodes, "test", [*edges[:1], *others], edges[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
