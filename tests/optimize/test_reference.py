"""The reference computes what ONNX Runtime computes in FP32, and rounds and overflows as FP16 does."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cameo.errors import EngineError
from tests.support import onnx_graphs
from tests.support.onnx_graphs import GRAPHS, feeds_for, model

pytest.importorskip("torch")

from optimize._conversion.reference import Reference

TOLERANCE = 1e-5  # of values of order one: sums in another order
SHAPE = ["N", 4, 8, 10]


def node(op: str, *inputs: str, **attributes: object) -> onnx.ModelProto:
    """A model of one node over x, whose other inputs are constants by these names."""
    rng = np.random.default_rng(3)
    constants = {
        "w": rng.standard_normal((6, 4, 3, 3)).astype(np.float32),
        "turned": rng.standard_normal((4, 6, 3, 3)).astype(np.float32),
        "depthwise": rng.standard_normal((4, 1, 4, 4)).astype(np.float32),
        "bias": rng.standard_normal(6).astype(np.float32),
        "row": rng.standard_normal((1, 4, 1, 1)).astype(np.float32),
        "low": np.float32(-0.5),
        "high": np.float32(0.5),
        "scales": np.array([1, 1, 2, 1.5], np.float32),
        "sizes": np.array([2, 4, 5, 20], np.int64),
        "order": np.array([2, 0, 3], np.int64),
        "axes": np.array([2, 3], np.int64),
        "starts": np.array([1, 7], np.int64),
        "ends": np.array([7, 0], np.int64),
        "steps": np.array([2, -3], np.int64),
        "pads": np.array([0, 0, 1, 2, 0, 0, 3, 1], np.int64),
        "parts": np.array([1, 3], np.int64),
        "flat": np.array([0, -1], np.int64),
        "places": rng.uniform(-1.2, 1.2, (2, 5, 6, 2)).astype(np.float32),
    }
    used = {name: value for name, value in constants.items() if name in inputs}
    return model([helper.make_node(op, ["x", *inputs], ["y"], **attributes)], {"x": SHAPE}, ["y"], **used)


CASES: dict[str, Callable[[], onnx.ModelProto]] = {
    **GRAPHS,
    "strided convolution": lambda: node("Conv", "w", "bias", strides=[2, 2], auto_pad="SAME_UPPER"),
    "dilated convolution": lambda: node("Conv", "w", dilations=[2, 1], pads=[1, 0, 2, 1]),
    "transposed convolution": lambda: node("ConvTranspose", "turned", strides=[2, 2], pads=[1, 1, 1, 1]),
    "depthwise transposed": lambda: node("ConvTranspose", "depthwise", strides=[2, 2], pads=[1, 1, 1, 1], group=4),
    "linear, asymmetric": lambda: node(
        "Resize", "", "scales", mode="linear", coordinate_transformation_mode="asymmetric"
    ),
    "linear, half pixel": lambda: node("Resize", "", "", "sizes", mode="linear"),
    "linear, corners": lambda: node(
        "Resize", "", "", "sizes", mode="linear", coordinate_transformation_mode="align_corners"
    ),
    "nearest": lambda: node("Resize", "", "scales", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
    "nearest, half pixel": lambda: node("Resize", "", "", "sizes"),
    "average of what is there": lambda: node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 2]),
    "average with zeros": lambda: node("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
    "maximum": lambda: node("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
    "clip": lambda: node("Clip", "low", "high"),
    "gather": lambda: node("Gather", "order", axis=1),
    "mean": lambda: node("ReduceMean", "axes"),
    "slice": lambda: node("Slice", "starts", "ends", "axes", "steps"),
    "reflection": lambda: node("Pad", "pads", mode="reflect"),
    "zero padding": lambda: node("Pad", "pads"),
    "sampling": lambda: node("GridSample", "places"),
    "sampling, corners": lambda: node("GridSample", "places", align_corners=1, padding_mode="border"),
    "columns first": lambda: node("DepthToSpace", blocksize=2, mode="CRD"),
    "softmax": lambda: node("Softmax", axis=1),
    "slopes": lambda: node("PRelu", "row"),
    "reshape": lambda: node("Reshape", "flat"),
}


def feeds(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    return feeds_for(graph)


@pytest.mark.parametrize("case", CASES)
def test_fp32_is_what_onnx_runtime_computes(case: str) -> None:
    graph = CASES[case]()
    expected = onnx_graphs.run(graph, feeds(graph))
    got = list(Reference(graph).run(feeds(graph)).values())
    assert any(np.abs(array).max() > 0.1 for array in expected)
    for one, other in zip(expected, got, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(other, one, atol=TOLERANCE, rtol=TOLERANCE)


def half(op: str, *values: float) -> np.ndarray:
    """The result of one operator on FP16 numbers."""
    names = [f"x{i}" for i in range(len(values))]
    edges = [helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1]) for name in [*names, "y"]]
    graph = helper.make_graph([helper.make_node(op, names, ["y"])], "half", edges[:-1], edges[-1:])
    program = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    arrays = {name: np.array([value], np.float16) for name, value in zip(names, values, strict=True)}
    return Reference(program).run(arrays)["y"]


def test_half_is_half() -> None:
    assert half("Mul", 256, 256) == np.inf
    assert half("Add", 2048, 1) == 2048, "no FP32 in between that would give 2049"
    assert half("Mul", 2**-13, 2**-13) == 0
    assert half("Mul", 2**-12, 2**-12) == 2**-24, "the smallest number that is not lost"


def test_tensors_are_seen_once_each() -> None:
    seen = []
    graph = GRAPHS["moments"]()
    Reference(graph).run(feeds(graph), lambda name, tensor: seen.append(name))
    assert sorted(seen) == sorted(name for node in graph.graph.node for name in node.output)


def test_an_unknown_operator_is_one_sentence() -> None:
    graph = node("Det")
    graph.graph.node[0].name = "strange"
    with pytest.raises(EngineError, match="node 'strange' is of operator Det.*add it to"):
        Reference(graph)


def test_an_unknown_mode_is_one_sentence() -> None:
    graph = node("Resize", "", "scales", mode="cubic")
    with pytest.raises(EngineError, match=r"cannot compute node .*\(Resize\).*cubic"):
        Reference(graph).run(feeds(graph))
