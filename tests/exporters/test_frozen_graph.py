"""Frozen graphs as TensorFlow takes them: nodes in any order, and none that waits for itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cameo.errors import CheckpointError
from exporters.checkpoints.frozen_graph import node_name, read_frozen_graph
from exporters.dctnet.export import exporter
from tests.support import fill, frozen_graphs

tf = pytest.importorskip("tensorflow")

NEEDED = ("input_image", "output_image")
FLOAT = tf.float32.as_datatype_enum


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return frozen_graphs.write_small(tmp_path_factory.mktemp("weights") / "cartoon_h.pb")


def reordered(source: Path, target: Path, order: Callable[[list[Any]], list[Any]]) -> Path:
    graph = frozen_graphs.read(source)
    mixed = tf.compat.v1.GraphDef(versions=graph.versions)
    mixed.node.extend(order(list(graph.node)))
    target.write_bytes(mixed.SerializeToString())
    return target


def edited(source: Path, target: Path, edit: Callable[[Any], None]) -> Path:
    graph = frozen_graphs.read(source)
    edit(graph)
    target.write_bytes(graph.SerializeToString())
    return target


def shuffled(nodes: list[Any]) -> list[Any]:
    return random.Random(0).sample(nodes, len(nodes))


def result(graph: Path, image: np.ndarray) -> np.ndarray:
    from cameo.backends import SessionOptions, backend

    with backend("onnxruntime").open_session(graph, SessionOptions(device="cpu")) as session:
        return session.run({"image": image[None]})["result"]


@pytest.mark.parametrize("order", [lambda nodes: nodes[::-1], shuffled])
def test_nodes_in_any_order_give_the_same_picture(order: Any, small: Path, tmp_path: Path) -> None:
    mixed = reordered(small, tmp_path / "mixed.pb", order)
    read = read_frozen_graph(mixed, "dctnet-head", NEEDED)
    seen: set[str] = set()
    for node in read.node:
        assert {node_name(source) for source in node.input} <= seen
        seen.add(node.name)
    for name, source in (("plain", small), ("sorted", mixed)):
        exporter("dctnet-head").run(source, tmp_path / f"{name}.onnx")
    image = fill.smooth_u8("sorted", 64, 48)
    np.testing.assert_array_equal(*(result(tmp_path / f"{name}.onnx", image) for name in ("plain", "sorted")))


def test_sorted_nodes_keep_their_order(small: Path) -> None:
    read = read_frozen_graph(small, "dctnet-head", NEEDED)
    assert [node.name for node in read.node] == [node.name for node in frozen_graphs.read(small).node]


def before_the_cast(graph: Any) -> tuple[Any, str]:
    """The node that rounds the result, and what it reads."""
    nodes = {node.name: node for node in graph.node}
    node = nodes["output_image"]
    while node.op == "Identity":
        node = nodes[node_name(node.input[0])]
    return node, node.input[0]


def of_identities(graph: Any) -> None:
    cast, _ = before_the_cast(graph)
    for name, source in (("one", "two"), ("two", "one")):
        graph.node.add(name=name, op="Identity", input=[source]).attr["T"].type = FLOAT
    cast.input[0] = "two"


def of_itself(graph: Any) -> None:
    node = next(node for node in graph.node if node.name == "output_image")
    node.input[0] = "output_image"


def through_control(graph: Any) -> None:
    next(node for node in graph.node if node.op == "Conv2D").input.append("^output_image")


def long(graph: Any) -> None:
    cast, _ = before_the_cast(graph)
    for index in range(2000):
        graph.node.add(name=f"n{index}", op="Identity", input=[f"n{(index + 1) % 2000}"]).attr["T"].type = FLOAT
    cast.input[0] = "n0"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (of_identities, "one -> two -> one|two -> one -> two"),
        (of_itself, "output_image -> output_image"),
        (through_control, "generator/Conv/Conv2D -> .*-> generator/Conv/Conv2D"),
        (long, r"n\d+ -> n\d+ -> n\d+ -> n\d+ -> \.\.\. -> n\d+"),
    ],
)
def test_a_cycle_is_refused(edit: Callable[[Any], None], named: str, small: Path, tmp_path: Path) -> None:
    source = edited(small, tmp_path / "cycle.pb", edit)
    with pytest.raises(CheckpointError, match=rf"has nodes that wait for themselves \(.*({named})") as caught:
        exporter("dctnet-head").run(source, tmp_path / "out.onnx")
    assert len(str(caught.value)) < 600
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize("first", ["next", "enter"])
def test_a_loop_around_the_result_is_refused(first: str, small: Path, tmp_path: Path) -> None:
    """TensorFlow takes the loop, which ends never."""

    def loop(graph: Any) -> None:
        cast, source = before_the_cast(graph)
        enter = graph.node.add(name="enter", op="Enter", input=[source])
        enter.attr["frame_name"].s = b"loop"
        merge = graph.node.add(
            name="merge", op="Merge", input=sorted(("next", "enter"), key=lambda name: name != first)
        )
        merge.attr["N"].i = 2
        turn = graph.node.add(name="next", op="NextIteration", input=["merge"])
        leave = graph.node.add(name="exit", op="Exit", input=["merge"])
        for node in (enter, merge, turn, leave):
            node.attr["T"].type = FLOAT
        cast.input[0] = "exit"

    source = edited(small, tmp_path / "loop.pb", loop)
    with pytest.raises(CheckpointError, match="cannot be converted"):
        exporter("dctnet-head").run(source, tmp_path / "out.onnx")
