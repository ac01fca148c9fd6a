"""Positions keep their precision where the rest is bf16."""

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from cameo.backends import SessionOptions, backend
from engines import EngineOptions, engine
from metrics import psnr

SIDE = 256


@pytest.fixture(scope="module")
def warp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that samples `image` at its own places moved by `shift`, between convolutions that change nothing."""
    line = (2 * np.arange(SIDE, dtype=np.float32) + 1) / SIDE - 1
    constants = {
        "places": np.stack(np.meshgrid(line, line), axis=-1)[None],
        "same": np.eye(3, dtype=np.float32)[:, :, None, None],
        "largest": np.float32(255),
        "half": np.float32(0.5),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["levels"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["levels", "same"], ["before"]),
        helper.make_node("Add", ["places", "shift"], ["grid"]),
        helper.make_node("GridSample", ["before", "grid"], ["moved"], mode="linear", padding_mode="border"),
        helper.make_node("Conv", ["moved", "same"], ["after"]),
        helper.make_node("Add", ["after", "half"], ["rounded"]),
        helper.make_node("Min", ["rounded", "largest"], ["limited"]),
        helper.make_node("Transpose", ["limited"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Cast", ["last"], ["result"], to=TensorProto.UINT8),
    ]
    graph = helper.make_graph(
        nodes,
        "warp",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3]),
            helper.make_tensor_value_info("shift", TensorProto.FLOAT, ["N", 1, 1, 2]),
        ],
        [helper.make_tensor_value_info("result", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    folder = tmp_path_factory.mktemp("warp")
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), folder / "warp.onnx")
    built = engine("openvino")
    if reason := built.why_not_buildable():
        pytest.skip(reason)
    (folder / "ir").mkdir()
    built.builder(EngineOptions()).run(folder / "warp.onnx", folder / "ir")
    return folder / "ir"


def run(ir: Path, precision: str) -> np.ndarray:
    if reason := backend("openvino").why_unavailable(precision):
        pytest.skip(reason)
    across = np.linspace(0, 255, SIDE, dtype=np.uint8)
    stripes = np.where(np.arange(SIDE) % 8 < 4, across, 255 - across)
    image = np.broadcast_to(stripes[None, None, :, None], (1, SIDE, SIDE, 3)).astype(np.uint8)
    feeds = {"image": image, "shift": np.full((1, 1, 1, 2), 0.3 / SIDE, np.float32)}
    with backend("openvino").open_session(ir, SessionOptions(precision, threads=1)) as session:
        return session.run(feeds)["result"]


def test_positions_are_as_exact_as_in_fp32(warp: Path, tmp_path: Path) -> None:
    expected = run(warp, "fp32")
    assert psnr.measure(expected, run(warp, "bf16")) > 45
    (tmp_path / "model.bin").symlink_to(warp / "model.bin")
    tree = ET.parse(warp / "model.xml")
    marked = [about for about in tree.iter("rt_info") if about.find("attribute[@name='precise']") is not None]
    assert len(marked) == 1
    for about in marked:
        about.remove(about.find("attribute[@name='precise']"))  # type: ignore[arg-type]
    tree.write(tmp_path / "model.xml")
    assert psnr.measure(expected, run(tmp_path, "bf16")) < 35, "without the mark they are not"
