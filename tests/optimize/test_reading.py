"""ONNX graphs as people have them: weights in files beside them, nodes in any order."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from typer.testing import CliRunner

from cameo.artifact import Artifact
from cameo.errors import CheckpointError
from engines import EngineOptions, engine
from optimize import graph_pass
from optimize._graph_pass import read_onnx
from pipeline.cli import app
from pipeline.store import Store
from tests.support import onnx_graphs

pytestmark = pytest.mark.usefixtures("in_process")

DATA = "weights.bin"


def save_beside(model: onnx.ModelProto, path: Path) -> Path:
    """Write the graph with its weights in a file beside it."""
    onnx.save(model, path, save_as_external_data=True, location=DATA, size_threshold=0, convert_attribute=True)
    return path


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return save_beside(onnx_graphs.untouched(), tmp_path / "model" / "graph.onnx")


def change_weights(graph: Path) -> None:
    data = graph.with_name(DATA)
    data.write_bytes(np.full(data.stat().st_size // 4, 2, np.float32).tobytes())


def outputs(graph: Path) -> list[np.ndarray]:
    model = onnx.load(graph)
    return onnx_graphs.run(model, onnx_graphs.feeds_for(model))


def is_whole(graph: Path) -> bool:
    """Whether the file can be taken anywhere."""
    return not list(graph.parent.glob("*.bin")) and b"weights.bin" not in graph.read_bytes()


def test_other_weights_beside_a_graph_are_another_graph(graph: Path, tmp_path: Path) -> None:
    command = ["optimize", str(graph), "--passes", "simplify-graph", "--out"]
    for out in ("before.onnx", "after.onnx", "again.onnx"):
        if out == "after.onnx":
            change_weights(graph)
        result = CliRunner().invoke(app, [*command, str(tmp_path / out)])
        assert result.exit_code == 0, result.output
    assert is_whole(tmp_path / "after.onnx")
    np.testing.assert_array_equal(outputs(tmp_path / "after.onnx"), outputs(graph))
    assert np.abs(outputs(tmp_path / "before.onnx")[0] - outputs(graph)[0]).max() > 1
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "after.onnx").read_bytes()
    assert len(list((tmp_path / ".store").glob("simplify-graph-*"))) == 2


@pytest.mark.parametrize("stage", [graph_pass("clean-layout"), engine("onnxruntime").builder(EngineOptions())])
def test_the_store_sees_the_weights_beside_a_graph(stage: Any, graph: Path, tmp_path: Path) -> None:
    store, source = Store(tmp_path / "store"), Artifact.of(graph)
    first = store.run(stage, source)
    assert not store.run(stage, source).built
    change_weights(graph)
    assert Artifact.of(graph) == source
    second = store.run(stage, source)
    assert second.built
    assert is_whole(second.artifact.path)
    np.testing.assert_array_equal(outputs(second.artifact.path), outputs(graph))
    assert first.artifact.sha256 != second.artifact.sha256


def test_constants_of_nodes_count_as_weights(tmp_path: Path) -> None:
    values = onnx.numpy_helper.from_array(np.ones((1, 3, 1, 1), np.float32), "ones")
    nodes = [helper.make_node("Constant", [], ["c"], value=values), helper.make_node("Add", ["x", "c"], ["y"])]
    graph = save_beside(onnx_graphs.model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"]), tmp_path / "graph.onnx")
    before = Store(tmp_path / "store").run(graph_pass("simplify-graph"), Artifact.of(graph))
    change_weights(graph)
    after = Store(tmp_path / "store").run(graph_pass("simplify-graph"), Artifact.of(graph))
    np.testing.assert_allclose(outputs(after.artifact.path)[0] - outputs(before.artifact.path)[0], 1, rtol=1e-5)


def gone(graph: Path) -> None:
    graph.with_name(DATA).unlink()


def cut(graph: Path) -> None:
    os.truncate(graph.with_name(DATA), 8)


def outside(graph: Path) -> None:
    shutil.move(graph.with_name(DATA), graph.parents[1] / DATA)
    graph.write_bytes(graph.read_bytes().replace(b"\x0bweights.bin", b"\x0b../eights.b"))
    (graph.parents[1] / DATA).rename(graph.parents[1] / "eights.b")


@pytest.mark.parametrize(
    ("harm", "match"),
    [
        (gone, "keeps its weights in 'weights.bin', which is missing beside it: copy that file as well"),
        (cut, "is not an ONNX graph, or damaged"),
        (outside, "keeps its weights in '../eights.b', outside its own folder"),
    ],
)
@pytest.mark.parametrize("door", ["store", "pass"])
def test_weights_that_are_not_there_are_one_sentence(
    harm: Callable[[Path], None], match: str, door: str, graph: Path, tmp_path: Path
) -> None:
    harm(graph)
    doors = {
        "store": lambda: Store(tmp_path / "store").run(graph_pass("clean-layout"), Artifact.of(graph)),
        "pass": lambda: read_onnx(graph),
    }
    with pytest.raises(CheckpointError, match=match) as caught:
        doors[door]()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["sandwich", "box_filter"])
def test_nodes_in_any_order_are_sorted(name: str, tmp_path: Path) -> None:
    model = onnx_graphs.GRAPHS[name]()
    expected = onnx_graphs.run(model, onnx_graphs.feeds_for(model))
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, tmp_path / "mixed.onnx")
    graph_pass("simplify-graph").run(tmp_path / "mixed.onnx", tmp_path / "sorted.onnx")
    for found, wanted in zip(outputs(tmp_path / "sorted.onnx"), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_sorted_nodes_keep_their_order(tmp_path: Path) -> None:
    model = onnx_graphs.box_filter()
    onnx.save(model, tmp_path / "graph.onnx")
    assert read_onnx(tmp_path / "graph.onnx") == model


def test_a_cycle_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Neg", ["b"], ["y"]),
    ]
    onnx.save(onnx_graphs.model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"]), tmp_path / "cycle.onnx")
    with pytest.raises(CheckpointError, match="cycle.onnx has nodes that wait for themselves"):
        graph_pass("clean-layout").run(tmp_path / "cycle.onnx", tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
