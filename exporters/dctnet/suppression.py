"""The detector's non-maximum suppression as ONNX, for a whole batch.

The original does, per image: keep scores >= t; NonMaxSuppressionV3(at most K, IoU u); pad boxes and scores with zeros
to K rows; and counts them. ONNX's operator returns rows (image, class, index) for the whole batch, best first within
an image, and keeps scores strictly > t; so t is lowered by one float32 step. Each row's place in its image is its
rank among the rows of the same image: a cumulative sum over the one-hot of the image column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from exporters.checkpoints.frozen_graph import node_name

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Suppression:
    """Where the loop reads its boxes and scores, and its constants."""

    boxes: str
    scores: str
    most: int
    iou: float
    score: float


def read_suppression(graph: Any) -> Suppression:
    """Find the per-image NMS loop of a frozen TensorFlow 1 graph and read its inputs and constants.

    Raises:
        ValueError: the graph has no such loop.
    """
    from tensorflow import make_ndarray

    nodes = {node.name: node for node in graph.node}

    def constant(tensor: str) -> float:
        node = nodes[node_name(tensor)]
        while node.op in ("Enter", "Identity"):
            node = nodes[node_name(node.input[0])]
        return float(make_ndarray(node.attr["value"].tensor))

    found = [node for node in graph.node if node.op.startswith("NonMaxSuppressionV")]
    scattered = [node.input[2] for node in graph.node if node.op == "TensorArrayScatterV3"]
    compared = [node for node in graph.node if node.op == "GreaterEqual"]
    if len(found) != 1 or len(scattered) != 2 or len(compared) != 1:
        raise ValueError(
            f"expected one NMS, two scattered inputs and one score comparison, got {len(found)}, {len(scattered)} "
            f"and {len(compared)}"
        )
    boxes, scores = scattered  # map_fn unstacks its elements in the order (boxes, scores)
    return Suppression(
        boxes,
        scores,
        most=int(constant(found[0].input[2])),
        iou=constant(found[0].input[3]),
        score=constant(compared[0].input[1]),
    )


def add_suppression(model: onnx.ModelProto, suppression: Suppression) -> None:
    """Append the NMS to a model that gives boxes (N, A, 4) and scores (N, A), in place.

    Outputs become `boxes` float32 (N, K, 4) as (ymin, xmin, ymax, xmax) in 0..1, `scores` float32 (N, K) and `count`
    int32 (N,).
    """
    from onnx import TensorProto, helper, numpy_helper

    boxes, scores = (output.name for output in model.graph.output)
    most = suppression.most
    constants = {
        "nms/most": np.array([most], np.int64),
        "nms/iou": np.array([suppression.iou], np.float32),
        "nms/score": np.nextafter(np.array([suppression.score], np.float32), np.float32(0)),
        "nms/axis0": np.array([0], np.int64),
        "nms/axis1": np.array([1], np.int64),
        "nms/axis_last": np.array([-1], np.int64),
        "nms/zero": np.array(0, np.int64),
        "nms/one": np.array(1, np.int64),
        "nms/first": np.array(0, np.int64),
        "nms/columns": np.array([0, 2], np.int64),
        "nms/k5": np.array([most, 5], np.int64),
        "nms/four": np.array([4], np.int64),
        "nms/five": np.array([5], np.int64),
    }
    steps = [
        ("Unsqueeze", [scores, "nms/axis1"], "nms/class_scores", {}),
        ("NonMaxSuppression", [boxes, "nms/class_scores", "nms/most", "nms/iou", "nms/score"], "nms/rows", {}),
        ("Gather", ["nms/rows", "nms/first"], "nms/image", {"axis": 1}),
        ("Gather", ["nms/rows", "nms/columns"], "nms/place", {"axis": 1}),
        # images 0..N-1, and for each row a one-hot of its image
        ("Shape", [scores], "nms/n", {"start": 0, "end": 1}),
        ("Squeeze", ["nms/n", "nms/axis0"], "nms/n_scalar", {}),
        ("Range", ["nms/zero", "nms/n_scalar", "nms/one"], "nms/images", {}),
        ("Unsqueeze", ["nms/image", "nms/axis1"], "nms/image_column", {}),
        ("Equal", ["nms/image_column", "nms/images"], "nms/is_of", {}),
        ("Cast", ["nms/is_of"], "nms/one_hot", {"to": TensorProto.FLOAT}),
        # its rank within the image
        ("CumSum", ["nms/one_hot", "nms/first"], "nms/ranks", {}),
        ("Mul", ["nms/ranks", "nms/one_hot"], "nms/own_ranks", {}),
        ("ReduceSum", ["nms/own_ranks", "nms/axis1"], "nms/rank_float", {"keepdims": 1}),
        ("Cast", ["nms/rank_float"], "nms/rank_from_one", {"to": TensorProto.INT64}),
        ("Sub", ["nms/rank_from_one", "nms/one"], "nms/rank", {}),
        ("Concat", ["nms/image_column", "nms/rank"], "nms/target", {"axis": 1}),
        # the chosen boxes and scores, scattered into zeros (N, K, 5)
        ("Unsqueeze", [scores, "nms/axis_last"], "nms/score_column", {}),
        ("Concat", [boxes, "nms/score_column"], "nms/table", {"axis": 2}),
        ("GatherND", ["nms/table", "nms/place"], "nms/chosen", {}),
        ("Concat", ["nms/n", "nms/k5"], "nms/full", {"axis": 0}),
        ("ConstantOfShape", ["nms/full"], "nms/zeros", {}),
        ("ScatterND", ["nms/zeros", "nms/target", "nms/chosen"], "nms/padded", {}),
        ("Slice", ["nms/padded", "nms/axis0", "nms/four", "nms/axis_last"], "boxes", {}),
        ("Slice", ["nms/padded", "nms/four", "nms/five", "nms/axis_last"], "nms/padded_scores", {}),
        ("Squeeze", ["nms/padded_scores", "nms/axis_last"], "scores", {}),
        ("ReduceSum", ["nms/one_hot", "nms/axis0"], "nms/count_float", {"keepdims": 0}),
        ("Cast", ["nms/count_float"], "count", {"to": TensorProto.INT32}),
    ]
    for op, inputs, output, attributes in steps:
        model.graph.node.append(helper.make_node(op, inputs, [output], output, **attributes))
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    del model.graph.output[:]
    model.graph.output.extend(
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", most, 4]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", most]),
            helper.make_tensor_value_info("count", TensorProto.INT32, ["N"]),
        ]
    )
