"""One graph is converted by command: on what the family of the network that it is named after makes of photos."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

from cameo.errors import EngineError
from cameo.progress import Pace
from pipeline.bar import StageBar
from pipeline.cli import app

PHOTO = Path(__file__).resolve().parents[2] / "demo" / "photo.jpg"
SIZE = 16

pytestmark = pytest.mark.usefixtures("in_process")


def optimized(name: str, folder: Path) -> Result:
    """A photo times the sum of an identity, in a graph of this name, converted to FP16."""
    nodes = [
        helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["identity"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["levels", "sum"], ["product"]),
        helper.make_node("Tanh", ["product"], ["result"]),
    ]
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3]),
        helper.make_tensor_value_info("identity", TensorProto.FLOAT, ["N", 512]),
    ]
    result = helper.make_tensor_value_info("result", TensorProto.FLOAT, ["N", SIZE, SIZE, 3])
    graph = helper.make_graph(nodes, name, inputs, [result])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "in.onnx")
    options = ["--passes", "simplify-graph", "--precision", "fp16", "--calibration", str(PHOTO)]
    return CliRunner().invoke(app, ["optimize", str(folder / "in.onnx"), "--out", str(folder / "out.onnx"), *options])


def test_a_graph_of_several_inputs_is_fed_as_its_family_says(tmp_path: Path) -> None:
    assert optimized("fusion-generator", tmp_path).exit_code == 0
    assert (tmp_path / "out.onnx").is_file()
    assert (tmp_path / "out.precision.json").is_file()


def test_every_stage_tells_that_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As each does by itself when it takes longer."""
    begin = StageBar.__enter__

    def begin_and_go_on(bar: StageBar) -> StageBar:
        bar.still()
        return begin(bar)

    monkeypatch.setattr(StageBar, "__enter__", begin_and_go_on)
    monkeypatch.setattr(Pace, "is_due", lambda pace: True)
    said = optimized("fusion-generator", tmp_path).stdout
    for stage in ("simplify-graph", "convert-to-fp16"):
        assert f"{stage}: 0 s so far" in said


def test_of_another_one_only_an_image_can_be_fed(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="photos cannot feed this graph"):
        raise optimized("a stranger", tmp_path).exception or AssertionError
