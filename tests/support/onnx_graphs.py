"""Small ONNX graphs for pass tests, and how to run any of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

H, W = 20, 28


def model(
    nodes: list[onnx.NodeProto], inputs: Mapping[str, list[Any]], outputs: list[str], **constants: Any
) -> onnx.ModelProto:
    """A float32 model of opset 18."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(graph: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs, computed by ONNX Runtime."""
    return opened(graph)(feeds)


def opened(graph: onnx.ModelProto) -> Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]:
    """`run` of a graph that is opened once for many feeds."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda feeds: [np.asarray(output) for output in session.run(None, dict(feeds))]


def box_filter() -> onnx.ModelProto:
    """mean(x) as TensorFlow writes it: conv(x) / conv(ones), NHWC outside, NCHW around each convolution."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "one", "three"], ["size"]),
        helper.make_node("Concat", ["first", "size", "first"], ["ones_shape"], axis=0),
        helper.make_node("Expand", ["unit", "ones_shape"], ["ones"]),
        helper.make_node("Transpose", ["ones"], ["ones_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["ones_nchw", "w1"], ["n_nchw"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["n_nchw"], ["n"], perm=[0, 2, 3, 1]),
        helper.make_node("Transpose", ["x"], ["x_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["x_nchw", "w3"], ["sum_nchw"], pads=[1, 1, 1, 1], group=3),
        helper.make_node("Transpose", ["sum_nchw"], ["sum"], perm=[0, 2, 3, 1]),
        helper.make_node("Div", ["sum", "n"], ["y"]),
    ]
    ninth = np.float32(1 / 9)
    return model(
        nodes,
        {"x": ["N", "H", "W", 3]},
        ["y"],
        one=[1],
        three=[3],
        first=[1],
        unit=np.float32(1),
        w1=np.full((1, 1, 3, 3), ninth),
        w3=np.full((3, 1, 3, 3), ninth),
    )


def doubling() -> onnx.ModelProto:
    """Resize to 2 * shape(x), the shape read from a transposed copy, as a converter writes it."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Shape", ["nhwc"], ["shape"]),
        helper.make_node("Slice", ["shape", "one", "three"], ["size"]),
        helper.make_node("Mul", ["size", "two"], ["doubled"]),
        helper.make_node("Shape", ["x"], ["front"], start=0, end=2),
        helper.make_node("Concat", ["front", "doubled"], ["sizes"], axis=0),
        helper.make_node(
            "Resize", ["x", "", "", "sizes"], ["y"], mode="linear", coordinate_transformation_mode="asymmetric"
        ),
    ]
    return model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], one=[1], three=[3], two=np.int64(2))


def shuffle() -> onnx.ModelProto:
    """ShuffleNet's channel shuffle between two NCHW branches, in NHWC."""
    nodes = [
        helper.make_node("Relu", ["a"], ["ra"]),
        helper.make_node("Relu", ["b"], ["rb"]),
        helper.make_node("Unsqueeze", ["ra", "axis1"], ["ua"]),
        helper.make_node("Unsqueeze", ["rb", "axis1"], ["ub"]),
        helper.make_node("Concat", ["ua", "ub"], ["stacked"], axis=1),
        helper.make_node("Transpose", ["stacked"], ["turned"], perm=[0, 3, 4, 2, 1]),
        helper.make_node("Reshape", ["turned", "joined"], ["shuffled"]),
        helper.make_node("Split", ["shuffled"], ["left", "right"], axis=3, num_outputs=2),
        helper.make_node("Transpose", ["left"], ["left_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Transpose", ["right"], ["right_nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Sigmoid", ["left_nchw"], ["y"]),
        helper.make_node("Tanh", ["right_nchw"], ["z"]),
    ]
    shape = ["N", 6, H, W]
    return model(nodes, {"a": shape, "b": shape}, ["y", "z"], axis1=[1], joined=[-1, H, W, 12])


def sandwich() -> onnx.ModelProto:
    """Elementwise nodes, a per-channel constant, a concat and a mean between layout changes."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["t", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "half"], ["shifted"]),
        helper.make_node("Concat", ["shifted", "t"], ["both"], axis=3),
        helper.make_node("Transpose", ["both"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("LeakyRelu", ["nchw"], ["y"], alpha=0.2),
    ]
    scale = np.array([1, 2, 3], np.float32)
    return model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], scale=scale, half=np.float32(0.5))


def moments() -> onnx.ModelProto:
    """The statistics of a guided filter: variance of x and covariance of x and y over 3×3 windows."""
    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 0}
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["xx"]),
        helper.make_node("Mul", ["y", "x"], ["xy"]),
        *(helper.make_node("AveragePool", [name], [f"mean_{name}"], **window) for name in ("x", "y", "xx", "xy")),
        helper.make_node("Mul", ["mean_x", "mean_x"], ["mean_x_squared"]),
        helper.make_node("Sub", ["mean_xx", "mean_x_squared"], ["variance"]),
        helper.make_node("Mul", ["mean_x", "mean_y"], ["product_of_means"]),
        helper.make_node("Sub", ["mean_xy", "product_of_means"], ["covariance"]),
    ]
    shape = ["N", 3, "H", "W"]
    return model(nodes, {"x": shape, "y": shape}, ["variance", "covariance"])


def few_channels() -> onnx.ModelProto:
    """A 7×7 convolution to three channels."""
    rng = np.random.default_rng(1)
    weights = (rng.standard_normal((3, 8, 7, 7)) / 20).astype(np.float32)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[3, 3, 3, 3])
    return model([node], {"x": ["N", 8, "H", "W"]}, ["y"], w=weights, b=np.array([0.1, 0.2, 0.3], np.float32))


def untouched() -> onnx.ModelProto:
    """A graph that no pass has anything to do in."""
    weights = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    return model([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": ["N", 3, "H", "W"]}, ["y"], w=weights)


GRAPHS: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "box_filter": box_filter,
    "doubling": doubling,
    "shuffle": shuffle,
    "sandwich": sandwich,
    "moments": moments,
    "few_channels": few_channels,
    "untouched": untouched,
}


def feeds_for(graph: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Standard normal inputs, batch 2, dynamic sides 20 and 28."""
    rng = np.random.default_rng(seed)
    sizes = {"N": 2, "H": H, "W": W}
    return {
        value.name: rng.standard_normal(
            [d.dim_value or sizes[d.dim_param] for d in value.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for value in graph.graph.input
    }
