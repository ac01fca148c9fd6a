"""Weights that are not finite are refused in ONNX graphs, wherever they are kept; bounds and masks may be infinite."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from cameo.errors import CheckpointError
from optimize import graph_pass
from optimize._graph_pass import read_onnx
from pipeline.cli import app
from tests.support import onnx_graphs

SENTENCE = "{} has 1 of {} values that are NaN or infinite: the training broke or the file is damaged; get it again"
BROKEN = [np.nan, np.inf, -np.inf]


def weights(value: float, dtype: type = np.float32) -> np.ndarray:
    array = np.ones((2, 3, 1, 1), dtype)
    array.flat[4] = value
    return array


def convolution(value: float) -> onnx.ModelProto:
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    return onnx_graphs.model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], w=weights(value))


def in_constant_node(value: float) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(weights(value))),
        helper.make_node("Conv", ["x", "w"], ["y"]),
    ]
    return onnx_graphs.model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"])


def behind_others(value: float) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Cast", ["w"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["cast"], ["same"]),
        helper.make_node("Conv", ["x", "same"], ["y"]),
    ]
    return onnx_graphs.model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], w=weights(value, np.float16))


def in_a_branch(value: float) -> onnx.ModelProto:
    def branch(name: str) -> onnx.GraphProto:
        out = [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [None] * 4)]
        node = helper.make_node("Conv", ["x", "w"], [f"{name}_y"])
        return helper.make_graph([node], name, [], out, [numpy_helper.from_array(weights(value), "w")])

    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=branch("then"), else_branch=branch("else"))]
    return onnx_graphs.model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], yes=np.array(True))


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("make", [convolution, in_constant_node, behind_others, in_a_branch])
def test_broken_weights_are_refused(make, value: float, tmp_path: Path) -> None:
    onnx.save(make(value), tmp_path / "in.onnx")
    with pytest.raises(CheckpointError, match=SENTENCE.format("w", 6)):
        graph_pass("simplify-graph").run(tmp_path / "in.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
    onnx.save(make(1), tmp_path / "in.onnx")
    read_onnx(tmp_path / "in.onnx")


def test_broken_weights_beside_the_graph_are_refused(tmp_path: Path) -> None:
    model, source = convolution(1), tmp_path / "in.onnx"
    onnx.save(model, source, save_as_external_data=True, location="w.bin", size_threshold=0)
    read_onnx(source)
    data = bytearray((tmp_path / "w.bin").read_bytes())
    data[16:20] = np.float32(np.nan).tobytes()
    (tmp_path / "w.bin").write_bytes(data)
    result = CliRunner().invoke(app, ["optimize", str(source), "--out", str(tmp_path / "out.onnx")])
    assert isinstance(result.exception, CheckpointError)
    assert SENTENCE.format("w", 6) in str(result.exception)
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(
    ("nodes", "value"),
    [
        ([helper.make_node("Clip", ["x", "c"], ["y"])], -np.inf),
        ([helper.make_node("Min", ["x", "c"], ["y"])], np.inf),
        ([helper.make_node("Add", ["x", "c"], ["y"])], -np.inf),
        ([helper.make_node("NonMaxSuppression", ["x", "x", "", "", "c"], ["y"])], -np.inf),
        ([helper.make_node("Expand", ["c", "s"], ["e"]), helper.make_node("Max", ["x", "e"], ["y"])], -np.inf),
    ],
)
def test_infinities_that_bound_or_mask_stay(nodes: list[onnx.NodeProto], value: float, tmp_path: Path) -> None:
    constants = {"c": np.float32(value)} | ({"s": np.array([1])} if len(nodes) > 1 else {})
    model = onnx_graphs.model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"], **constants)
    onnx.save(model, tmp_path / "in.onnx")
    read_onnx(tmp_path / "in.onnx")
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.float32(np.nan), "c"))
    onnx.save(model, tmp_path / "in.onnx")
    with pytest.raises(CheckpointError, match=SENTENCE.format("c", 1)):
        read_onnx(tmp_path / "in.onnx")


@pytest.mark.parametrize("op", ["Add", "Mul"])
def test_infinities_that_shift_or_scale_do_not(op: str, tmp_path: Path) -> None:
    model = onnx_graphs.model(
        [helper.make_node(op, ["x", "c"], ["y"])], {"x": ["N", 3, "H", "W"]}, ["y"], c=np.float32(np.inf)
    )
    onnx.save(model, tmp_path / "in.onnx")
    with pytest.raises(CheckpointError, match=SENTENCE.format("c", 1)):
        read_onnx(tmp_path / "in.onnx")


def test_a_tensor_that_is_shorter_than_its_shape_is_refused(tmp_path: Path) -> None:
    model = convolution(1)
    model.graph.initializer[0].dims[0] = 1000
    (tmp_path / "in.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="the numbers of w are not as many as its shape"):
        read_onnx(tmp_path / "in.onnx")
