"""RetinaFace-R50: where a photo's faces are, as numbers relative to anchors, for photos of any size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from exporters.checkpoints.kinds import Shapes, has_keys
from exporters.checkpoints.torch_checkpoint import load_state_dict, with_weights
from exporters.family import WeightFiles
from exporters.graphs.edges import RGB, add_image_input
from exporters.graphs.torch_graph import export_graph, save_graph

if TYPE_CHECKING:
    import onnx

    from exporters.retinaface.network import RetinaFace

NETWORKS: Mapping[str, WeightFiles] = {"retinaface-r50": WeightFiles.one("RetinaFace-R50.pth")}
OUTPUTS = {"loc": 4, "conf": 2, "landms": 10}  # numbers of an anchor
_LEVELS = ("level8", "level16", "level32")
_TRACED = (96, 128)


@dataclass(frozen=True)
class ExportRetinaFace:
    """A RetinaFace checkpoint as ONNX: `image` -> `loc`, `conf`, `landms`; of the `part` of a file that has several."""

    network: str
    part: str = ""

    name: ClassVar[str] = "export-retinaface"
    output: ClassVar[str] = "model.onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnx-ir", "onnxscript")

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the ONNX graph; return its node counts and the number of parameters.

        Raises:
            CheckpointError: `source` is not a checkpoint of this network.
        """
        from exporters.retinaface.export_form import RetinaFaceExport

        network = load_network(source, self.network, self.part)
        model = export_graph(RetinaFaceExport(network), _TRACED, _LEVELS, any_size=True)
        _double_to_neighbours(model)
        add_image_input(model, RGB, ("H", "W"))
        _add_rows(model)
        return {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            **save_graph(model, self.network, out),
        }


def exporter(network: str) -> ExportRetinaFace:
    """The stage that exports `network`."""
    return ExportRetinaFace(network)


def recognise(shapes: Shapes) -> str:
    """A few words for a state dict of this family, else ""."""
    known = has_keys(shapes, "body.conv1.weight", "ClassHead.0.conv1x1.weight")
    return "RetinaFace-R50, a face detector" if known else ""


def _double_to_neighbours(model: onnx.ModelProto) -> None:
    """Let each Resize of the pyramid take the whole shape of the level that its result is added to.

    Both have the same batch and channels, so this Shape stands for all of torch's arithmetic with the photo's size.
    """
    from onnx import helper

    nodes = model.graph.node
    for resize in [node for node in nodes if node.op_type == "Resize"]:
        add = next(node for node in nodes if resize.output[0] in node.input)
        (level,) = (name for name in add.input if name != resize.output[0])
        shape = f"{resize.output[0]}/shape"
        resize.input[3] = shape
        nodes.insert(list(nodes).index(resize), helper.make_node("Shape", [level], [shape], shape))


def _add_rows(model: onnx.ModelProto) -> None:
    """Put the numbers of all cells and anchors in rows, with the scores as probabilities.

    A cell's 32 numbers are those of its two boxes, two scores and two sets of landmarks.
    """
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    constants = {"rows/flat": [0, 32, -1], "rows/split": [2 * numbers for numbers in OUTPUTS.values()]}
    constants |= {f"rows/{name}_shape": [0, -1, numbers] for name, numbers in OUTPUTS.items()}
    steps: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        *(("Reshape", [level, "rows/flat"], [f"rows/{level}"], {}) for level in _LEVELS),
        ("Concat", [f"rows/{level}" for level in _LEVELS], ["rows/columns"], {"axis": 2}),
        ("Transpose", ["rows/columns"], ["rows/cells"], {"perm": [0, 2, 1]}),
        ("Split", ["rows/cells", "rows/split"], [f"rows/{name}" for name in OUTPUTS], {"axis": 2}),
        ("Reshape", ["rows/loc", "rows/loc_shape"], ["loc"], {}),
        ("Reshape", ["rows/conf", "rows/conf_shape"], ["rows/logits"], {}),
        ("Softmax", ["rows/logits"], ["conf"], {"axis": 2}),
        ("Reshape", ["rows/landms", "rows/landms_shape"], ["landms"], {}),
    ]
    for op, inputs, outputs, attributes in steps:
        graph.node.append(helper.make_node(op, inputs, outputs, outputs[0], **attributes))
    graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in constants.items())
    del graph.output[:]
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "P", numbers]) for name, numbers in OUTPUTS.items()
    )


def load_network(source: Path, network: str, part: str = "") -> RetinaFace:
    """The network in its faithful form, in evaluation mode.

    Raises:
        CheckpointError: `source` is not a checkpoint of `network`.
    """
    from exporters.retinaface.network import RetinaFace

    return with_weights(RetinaFace(), load_state_dict(source, network, part), network, source)
