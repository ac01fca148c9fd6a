"""Frozen graphs hold finite weights, and constants no larger than a file can be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cameo.errors import CheckpointError
from exporters.checkpoints.frozen_graph import read_frozen_graph
from exporters.dctnet.export import exporter
from tests.support import frozen_graphs

tf = pytest.importorskip("tensorflow")

NEEDED = ("input_image", "output_image")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return frozen_graphs.write_small(tmp_path_factory.mktemp("weights") / "cartoon_h.pb")


def changed(small: Path, folder: Path, change: Callable[[Any], None]) -> Path:
    graph = frozen_graphs.read(small)
    change(graph)
    (folder / "changed.pb").write_bytes(graph.SerializeToString())
    return folder / "changed.pb"


def kernel(graph: Any) -> Any:
    return next(node for node in graph.node if node.name == "generator/Conv_2/weights").attr["value"].tensor


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_broken_weight_is_refused_before_anything_is_written(value: float, small: Path, tmp_path: Path) -> None:
    def break_one(graph: Any) -> None:
        array = tf.make_ndarray(kernel(graph)).copy()
        array.flat[7] = value
        kernel(graph).CopyFrom(tf.make_tensor_proto(array))

    source = changed(small, tmp_path, break_one)
    with pytest.raises(CheckpointError, match=r"generator/Conv_2/weights has 1 of \d+ values that are NaN or infinite"):
        exporter("dctnet-head").run(source, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_one_broken_number_for_all_of_a_shape_is_refused(small: Path, tmp_path: Path) -> None:
    def break_all(graph: Any) -> None:
        kernel(graph).tensor_content = b""
        kernel(graph).float_val.append(np.nan)

    with pytest.raises(CheckpointError, match="generator/Conv_2/weights has 1 of 1 values"):
        read_frozen_graph(changed(small, tmp_path, break_all), "dctnet-head", NEEDED)


@pytest.mark.parametrize("shape", [(30_000, 30_000, 30), (-3, 3, 8, 8), (3, 3, 8, 1000)])
def test_a_constant_of_another_size_than_it_says_is_refused(
    shape: tuple[int, ...], small: Path, tmp_path: Path
) -> None:
    def claim(graph: Any) -> None:
        if shape[-1] == 30:  # one number for all
            kernel(graph).tensor_content = b""
            kernel(graph).float_val.append(0.5)
        for dim, size in zip(kernel(graph).tensor_shape.dim, (*shape, 1), strict=False):
            dim.size = size

    with pytest.raises(CheckpointError, match="generator/Conv_2/weights' does not hold what its shape"):
        read_frozen_graph(changed(small, tmp_path, claim), "dctnet-head", NEEDED)


def test_infinities_that_bound_stay(small: Path, tmp_path: Path) -> None:
    def bound(graph: Any) -> None:
        limit = graph.node.add(name="limit", op="Const")
        limit.attr["dtype"].type = tf.float32.as_datatype_enum
        limit.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.inf, tf.float32))
        image = graph.node.add(name="bounded", op="Minimum", input=["limit", "input_image"])
        image.attr["T"].type = tf.float32.as_datatype_enum

    read_frozen_graph(changed(small, tmp_path, bound), "dctnet-head", NEEDED)


def test_a_checkpoint_of_torch_is_called_one(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.ones(2)}, tmp_path / "w.pb")
    with pytest.raises(CheckpointError, match="is a PyTorch checkpoint, not the weights of dctnet-head"):
        read_frozen_graph(tmp_path / "w.pb", "dctnet-head", NEEDED)
