"""Reads frozen TensorFlow 1 graphs without running them, and converts them to ONNX.

A frozen graph is a program: TensorFlow will open files or call into Python if a node says so. So every op is checked
against a list of pure computations before the graph is imported anywhere.

TensorFlow takes the nodes of a graph in any order; what reads them here relies on each coming after those it reads.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cameo.errors import CheckpointError
from exporters.checkpoints.file_kinds import FROZEN_GRAPH, refuse_other_kinds
from exporters.checkpoints.frozen_weights import check_weights

if TYPE_CHECKING:
    pass


_MAX_BYTES = 2**31 - 1  # protobuf's own limit for one message
_MOST_NAMED = 6  # nodes of a cycle, in a message

COMPUTATIONS = frozenset(
    """
    Abs Add AddN AddV2 All Any ArgMax ArgMin Assert AvgPool BatchMatMul BatchMatMulV2 BatchToSpaceND BiasAdd
    BroadcastTo Cast Ceil CheckNumerics ClipByValue Concat ConcatV2 Const Conv2D Conv2DBackpropInput Cos CropAndResize
    DepthToSpace DepthwiseConv2dNative Div DivNoNan Elu Enter Equal Erf Exit Exp ExpandDims Fill Floor FloorDiv
    FloorMod FusedBatchNorm FusedBatchNormV2 FusedBatchNormV3 Gather GatherNd GatherV2 Greater GreaterEqual Identity
    IdentityN LeakyRelu Less LessEqual Log Log1p LogicalAnd LogicalNot LogicalOr LoopCond MatMul Max MaxPool Maximum
    Mean Merge Min Minimum MirrorPad Mul Neg NextIteration NoOp NonMaxSuppressionV2 NonMaxSuppressionV3
    NonMaxSuppressionV4 NonMaxSuppressionV5 NotEqual OneHot OnesLike Pack Pad PadV2 Placeholder PlaceholderWithDefault
    Pow PreventGradient Prod Range Rank RealDiv Reciprocal Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor
    ReverseV2 Round Rsqrt ScatterNd Select SelectV2 Selu Shape ShapeN Sigmoid Sign Sin Size Slice Softmax Softplus
    SpaceToBatchND SpaceToDepth Split SplitV Sqrt Square SquaredDifference Squeeze StopGradient StridedSlice Sub Sum
    Switch Tan Tanh TensorArrayConcatV3 TensorArrayGatherV3 TensorArrayReadV3 TensorArrayScatterV3 TensorArraySizeV3
    TensorArraySplitV3 TensorArrayV3 TensorArrayWriteV3 Tile TopK TopKV2 Transpose TruncateDiv TruncateMod Unpack
    Where ZerosLike
    """.split()
)
"""Ops that only compute: none opens a file, a socket or an interpreter, draws random numbers or keeps state."""


def read_frozen_graph(path: Path, network: str, needed: tuple[str, ...]) -> Any:
    """Return the `GraphDef` at `path`, holding the nodes `needed` and nothing but computations, each after its inputs.

    Nodes that are in such an order keep it. The one input that may come later is that of a loop's next turn.

    Raises:
        CheckpointError: the file is missing, empty, damaged, a SavedModel, of another network, could do more than
            compute, or waits for itself.
    """
    data = _read_bytes(path, network)
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(data)
    except DecodeError:
        raise CheckpointError(
            f"{path} is not a frozen TensorFlow graph, or was cut off while it was copied ({len(data):,} bytes): "
            f"{network} needs the .pb as its authors publish it; download it again"
        ) from None
    _check_ops(graph, path)
    _check_nodes(graph, path, network, needed)
    _sort_nodes(graph, path, network)
    check_weights(graph, path)
    return graph


def _read_bytes(path: Path, network: str) -> bytes:
    if path.is_dir():
        kind = "a SavedModel folder" if (path / "saved_model.pb").exists() else "a folder"
        raise CheckpointError(f"{path} is {kind}: {network} needs the single frozen graph file (.pb) of its authors")
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: {network} needs its frozen graph (.pb); check --weights")
    size = path.stat().st_size
    if size == 0:
        raise CheckpointError(f"{path} is empty: {network} needs its frozen graph (.pb); download it again")
    if size > _MAX_BYTES:
        raise CheckpointError(f"{path} has {size:,} bytes, a frozen graph has at most {_MAX_BYTES:,}: check --weights")
    refuse_other_kinds(path, network, (FROZEN_GRAPH,))
    return path.read_bytes()


def _check_ops(graph: Any, path: Path) -> None:
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    refused = sorted({node.op for node in nodes} - COMPUTATIONS)
    if refused:
        example = next(node for node in nodes if node.op == refused[0])
        raise CheckpointError(
            f"{path} holds ops that do more than compute, or that Cameo does not know ({', '.join(refused[:5])}; "
            f"node '{example.name}'): nothing of it was run; use the graph that the model's authors publish"
        )


def _check_nodes(graph: Any, path: Path, network: str, needed: tuple[str, ...]) -> None:
    names = {node.name for node in graph.node}
    missing = [name for name in needed if name not in names]
    if missing:
        ends = [node.name for node in graph.node if node.op == "Placeholder"]
        raise CheckpointError(
            f"{path} is not a {network} graph: expected the nodes {', '.join(needed)}, but {', '.join(missing)} "
            f"is not among its {len(names)} nodes (its inputs: {', '.join(ends) or 'none'}); check which file it is"
        )
    for node in graph.node:
        for source in node.input:
            if node_name(source) not in names:
                raise CheckpointError(
                    f"{path} is incomplete: its node '{node.name}' reads '{node_name(source)}', which is not there; "
                    "download it again"
                )


def _sort_nodes(graph: Any, path: Path, network: str) -> None:
    """Put every node after those that it reads, of several that could be next the one that came first."""
    places = {node.name: place for place, node in enumerate(graph.node)}
    turns = {node.name for node in graph.node if node.op == "NextIteration"}  # a loop goes on: Merge reads it later

    def inputs(node: Any) -> set[int]:
        names = {node_name(source) for source in node.input}
        return {places[name] for name in (names - turns if node.op == "Merge" else names)}

    sorter = TopologicalSorter({place: inputs(node) for place, node in enumerate(graph.node)})
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " -> ".join(_shortened([graph.node[place].name for place in error.args[1]]))
        raise CheckpointError(
            f"{path} has nodes that wait for themselves ({cycle}), expected a graph that can be computed: "
            f"it is damaged or was edited; get the graph of {network} from its authors"
        ) from None
    waiting, order = list(sorter.get_ready()), []
    heapify(waiting)
    while waiting:
        order.append(heappop(waiting))
        sorter.done(order[-1])
        for place in sorter.get_ready():
            heappush(waiting, place)
    ranks = {graph.node[place].name: rank for rank, place in enumerate(order)}
    graph.node.sort(key=lambda node: ranks[node.name])


def _shortened(names: list[str]) -> list[str]:
    return names if len(names) <= _MOST_NAMED else [*names[: _MOST_NAMED - 2], "...", names[-1]]


def node_name(tensor: str) -> str:
    """The node of a GraphDef input ("a", "a:1" and "^a" are all "a")."""
    return tensor.lstrip("^").split(":")[0]
