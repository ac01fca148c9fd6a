"""DCT-Net: the cartoon generators (head and background), and the face detector and landmarks that its flow uses.

All four are frozen TensorFlow 1 graphs. They are converted by graph, never by an assumed architecture: the generators
are recognised by their two fixed node names, the companions by theirs, and everything between may differ.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cameo.errors import CheckpointError
from exporters.checkpoints.frozen_graph import node_name, read_frozen_graph
from exporters.checkpoints.kinds import Shapes, has_keys
from exporters.family import WeightFiles
from exporters.graphs.edges import BGR, RGB, add_image_input, add_image_output
from exporters.graphs.tensorflow_graph import freeze_flag, to_onnx

if TYPE_CHECKING:
    import onnx

NETWORKS: Mapping[str, WeightFiles] = {
    "dctnet-background": WeightFiles.one("cartoon_bg.pb", "cartoon_anime_bg.pb"),
    "dctnet-head": WeightFiles.one("cartoon_h.pb", "cartoon_anime_h.pb"),
    "dctnet-detector": WeightFiles.one("detector.pb"),
    "dctnet-landmarks": WeightFiles.one("keypoints.pb"),
}
DETECTOR_SIZE = 512
LANDMARKS_SIZE = 160

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportDctnet:
    """A frozen graph of DCT-Net as ONNX with uint8 RGB edges and a batch axis."""

    network: str

    name: ClassVar[str] = "export-dctnet"
    output: ClassVar[str] = "model.onnx"
    tools: ClassVar[tuple[str, ...]] = ("tensorflow-cpu", "tf2onnx", "onnx")

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the ONNX graph; return the node counts of both graphs.

        Raises:
            CheckpointError: `source` is not this network's frozen graph.
        """
        import onnx

        export = _EXPORTS[self.network]
        graph = read_frozen_graph(source, self.network, _NODES[self.network])
        try:
            model = export(graph)
        except (ValueError, KeyError, IndexError) as error:
            raise CheckpointError(
                f"{source} has the node names of {self.network} but cannot be converted ({error}): "
                "use the graph that the model's authors publish"
            ) from error
        model.graph.name = self.network
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, out)
        counts = {
            "tensorflow_nodes": len(graph.node),
            "onnx_nodes": len(model.graph.node),
            "onnx_ops": dict(Counter(node.op_type for node in model.graph.node).most_common()),
        }
        log.info("%s: %d TensorFlow nodes -> %d ONNX nodes", self.network, len(graph.node), len(model.graph.node))
        return counts


def exporter(network: str) -> ExportDctnet:
    """The stage that exports `network`."""
    return ExportDctnet(network)


def recognise(shapes: Shapes) -> str:
    """A few words for a state dict of this family, else ""."""
    return "the DCT-Net cartoon generator" if has_keys(shapes, "generator/Conv/weights") else ""


def _export_generator(graph: Any) -> onnx.ModelProto:
    """`input_image` float32 [H, W, 3] BGR -> `output_image` uint8, as image -> result."""
    levels = _add_batch_axis(graph)
    model = to_onnx(graph, "input_image", [levels], (-1, -1, -1, 3))
    add_image_input(model, BGR, ("H", "W"))
    add_image_output(model, BGR)
    return model


def _add_batch_axis(graph: Any) -> str:
    """Let the placeholder carry the batch axis that the graph adds and drops; return the tensor before the last cast.

    The graph makes its batch of one by a slice with a new axis (or ExpandDims) right after the input, and drops it by
    a slice that shrinks axis 0 (or Squeeze) near the output; only unary or scalar-constant ops lie outside the two.
    Once converted, that would be harder to see (docs/decisions/002).
    """
    nodes = {node.name: node for node in graph.node}
    if len(nodes["input_image"].attr["shape"].shape.dim) != 4:
        adds = _first(graph, nodes, lambda node: node.attr["new_axis_mask"].i == 1 or node.op == "ExpandDims")
        drops = _last(graph, nodes, lambda node: node.attr["shrink_axis_mask"].i == 1 or node.op == "Squeeze")
        for node in [*_slices_before(nodes, adds), adds, drops]:
            _make_identity(node)
    cast = nodes["output_image"]
    while cast.op == "Identity":
        cast = nodes[node_name(cast.input[0])]
    if cast.op != "Cast":
        raise ValueError(f"output_image is a {cast.op}, expected the cast to uint8")
    return str(cast.input[0])


def _first(graph: Any, nodes: Mapping[str, Any], matches: Callable[[Any], bool]) -> Any:
    """The first node on the way from the input that matches."""
    reached = {"input_image"}
    for node in graph.node:
        if any(node_name(source) in reached for source in node.input):
            if matches(node):
                return node
            reached.add(node.name)
    raise ValueError("no node adds a batch axis to input_image")


def _slices_before(nodes: Mapping[str, Any], node: Any) -> list[Any]:
    """The do-nothing slices between the input and `node` (x[:, :, :] in the original code)."""
    before = []
    while (node := nodes[node_name(node.input[0])]).op == "StridedSlice":
        before.append(node)
    return before


def _last(graph: Any, nodes: Mapping[str, Any], matches: Callable[[Any], bool]) -> Any:
    """The last node on the way to the output that matches, following first inputs backwards."""
    node, passed = nodes["output_image"], set()
    while not matches(node):
        if not node.input or node.name in passed:  # a loop leads back to itself
            raise ValueError("no node drops the batch axis before output_image")
        passed.add(node.name)
        node = nodes[node_name(node.input[0])]
    return node


def _make_identity(node: Any) -> None:
    kept = node.attr["T"].type
    del node.input[1:]
    node.op = "Identity"
    node.attr.clear()
    node.attr["T"].type = kept


def _export_landmarks(graph: Any) -> onnx.ModelProto:
    """`tower_0/images` float32 [?, 160, 160, 3] RGB 0..255 -> `prediction` (N, 143)."""
    graph = freeze_flag(graph, "training_flag")
    size = LANDMARKS_SIZE
    model = to_onnx(graph, "tower_0/images", ["tower_0/prediction"], (-1, size, size, 3))
    add_image_input(model, RGB, (size, size))
    _rename_outputs(model, {"prediction": ["N", 143]})
    return model


def _export_detector(graph: Any) -> onnx.ModelProto:
    """`tower_0/images` float32 [?, 512, 512, 3] RGB 0..255 -> `boxes`, `scores`, `count`, with the NMS inside.

    TensorFlow 1 runs the NMS in a while loop over the batch: the graph is cut before it, and the same suppression
    with the loop's own constants is done by ONNX's NonMaxSuppression over the whole batch.
    """
    from exporters.dctnet.suppression import add_suppression, read_suppression

    graph = freeze_flag(graph, "training_flag")
    suppression = read_suppression(graph)
    size = DETECTOR_SIZE
    model = to_onnx(graph, "tower_0/images", [suppression.boxes, suppression.scores], (-1, size, size, 3))
    add_image_input(model, RGB, (size, size))
    add_suppression(model, suppression)
    return model


def _rename_outputs(model: onnx.ModelProto, outputs: Mapping[str, list[int | str]]) -> None:
    from onnx import TensorProto, helper

    olds = [output.name for output in model.graph.output]
    del model.graph.output[:]
    for old, (new, shape) in zip(olds, outputs.items(), strict=True):
        model.graph.node.append(helper.make_node("Identity", [old], [new], f"{new}/name"))
        model.graph.output.append(helper.make_tensor_value_info(new, TensorProto.FLOAT, shape))


_NODES: Mapping[str, tuple[str, ...]] = {
    "dctnet-background": ("input_image", "output_image"),
    "dctnet-head": ("input_image", "output_image"),
    "dctnet-detector": ("tower_0/images", "training_flag", "tower_0/boxes", "tower_0/scores", "tower_0/num_detections"),
    "dctnet-landmarks": ("tower_0/images", "training_flag", "tower_0/prediction"),
}
_EXPORTS: Mapping[str, Callable[[Any], onnx.ModelProto]] = {
    "dctnet-background": _export_generator,
    "dctnet-head": _export_generator,
    "dctnet-detector": _export_detector,
    "dctnet-landmarks": _export_landmarks,
}
