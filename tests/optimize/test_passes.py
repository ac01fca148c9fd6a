"""The contract of every pass, and what each is for."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

import optimize
from cameo.errors import CheckpointError, RequestError
from tests.support import onnx_graphs
from tests.support.onnx_graphs import GRAPHS, feeds_for

TOLERANCE = 1e-6  # of values of order one: passes reorder sums, they approximate nothing

# What each pass is for: the graph it must change, the ops that must be gone, the ops that must be there.
PURPOSE = {
    "fuse-box-filter": ("box_filter", {"Conv", "Div", "Expand"}, {"AveragePool"}),
    "fix-resize-scales": ("doubling", {"Shape", "Concat", "Mul"}, {"Resize"}),
    "fuse-channel-shuffle": ("shuffle", {"Reshape", "Split", "Transpose", "Unsqueeze"}, {"Gather"}),
    "clean-layout": ("sandwich", {"Transpose"}, {"Mul", "Sub", "Concat", "LeakyRelu"}),
    "stack-moments": ("moments", set(), {"Concat", "Split"}),
    "block-small-outputs": ("few_channels", set(), {"Conv", "DepthToSpace"}),
    "simplify-graph": ("doubling", set(), {"Resize"}),
}


def apply(name: str, graph: onnx.ModelProto, folder: Path) -> tuple[onnx.ModelProto, dict]:
    source, out = folder / "in.onnx", folder / "out.onnx"
    onnx.save(graph, source)
    facts = optimize.graph_pass(name).run(source, out)
    return onnx.load(out), dict(facts)


@pytest.mark.parametrize("graph_name", GRAPHS)
@pytest.mark.parametrize("name", optimize.pass_names())
def test_every_pass_keeps_edges_and_results(name: str, graph_name: str, tmp_path: Path) -> None:
    before = GRAPHS[graph_name]()
    after, facts = apply(name, before, tmp_path)
    feeds = feeds_for(before)
    for expected, got in zip(onnx_graphs.run(before, feeds), onnx_graphs.run(after, feeds), strict=True):
        np.testing.assert_allclose(got, expected, atol=TOLERANCE, rtol=0)
    assert [i.name for i in after.graph.input] == [i.name for i in before.graph.input]
    assert [o.name for o in after.graph.output] == [o.name for o in before.graph.output]
    assert facts["nodes_before"] == len(before.graph.node)
    assert facts["nodes_after"] == len(after.graph.node)


@pytest.mark.parametrize("name", optimize.pass_names())
def test_every_pass_does_what_it_is_for(name: str, tmp_path: Path) -> None:
    graph_name, gone, there = PURPOSE[name]
    after, facts = apply(name, GRAPHS[graph_name](), tmp_path)
    ops = {node.op_type for node in after.graph.node}
    assert not ops & gone
    assert there <= ops
    assert facts["changed"]
    if name not in ("stack-moments", "block-small-outputs"):  # they trade nodes for memory and for time
        assert facts["nodes_after"] <= facts["nodes_before"]
    assert facts["ops_removed"].get("AveragePool", 0) == (2 if name == "stack-moments" else 0)


@pytest.mark.parametrize("name", [name for name in optimize.pass_names() if name != "simplify-graph"])
def test_a_pass_with_nothing_to_do_says_so(name: str, tmp_path: Path) -> None:
    _, facts = apply(name, GRAPHS["untouched"](), tmp_path)
    assert facts["changed"] is False


def test_box_filter_needs_equal_weights(tmp_path: Path) -> None:
    graph = onnx_graphs.box_filter()
    weights = next(i for i in graph.graph.initializer if i.name == "w3")
    uneven = onnx.numpy_helper.to_array(weights).copy()
    uneven[0, 0, 1, 1] = 0.5
    weights.CopyFrom(onnx.numpy_helper.from_array(uneven, "w3"))
    after, facts = apply("fuse-box-filter", graph, tmp_path)
    assert facts["changed"] is False
    assert Counter(node.op_type for node in after.graph.node)["Conv"] == 2


def test_resize_scales_need_a_fixed_ratio(tmp_path: Path) -> None:
    graph = onnx_graphs.doubling()
    addition = next(node for node in graph.graph.node if node.op_type == "Mul")
    addition.op_type = "Add"  # shape + 2 is no multiple of shape
    _, facts = apply("fix-resize-scales", graph, tmp_path)
    assert facts["changed"] is False


def test_layout_stops_at_casts(tmp_path: Path) -> None:
    nodes = [
        onnx.helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        onnx.helper.make_node("Cast", ["t"], ["y"], to=onnx.TensorProto.UINT8),
    ]
    graph = onnx_graphs.model(nodes, {"x": ["N", 3, "H", "W"]}, ["y"])
    graph.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    after, _ = apply("clean-layout", graph, tmp_path)
    assert after.graph.node[-1].op_type == "Cast"


@pytest.mark.parametrize(
    ("content", "match"),
    [(None, "there is no file"), (b"", "holds no nodes"), (b"not a graph at all", "not an ONNX graph")],
)
def test_bad_graphs_are_one_sentence(content: bytes | None, match: str, tmp_path: Path) -> None:
    source = tmp_path / "bad.onnx"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(CheckpointError, match=match):
        optimize.graph_pass("clean-layout").run(source, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_unknown_pass_names_the_known() -> None:
    with pytest.raises(RequestError, match="choose one of block-small-outputs, clean-layout"):
        optimize.graph_pass("polish-graph")
