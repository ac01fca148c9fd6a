"""The generator (AEI-Net) as ONNX: a face, an identity and two jaw lines -> the fused face, all of 256 x 256."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from exporters.checkpoints.torch_checkpoint import load_state_dict, shapes_of, with_weights, wrong_network
from exporters.graphs.edges import RGB, add_image_input, add_image_output
from exporters.graphs.torch_graph import export_graph, save_graph

if TYPE_CHECKING:
    from exporters.face_fusion.network import FusionGenerator

SIZE = 256


@dataclass(frozen=True)
class ExportGenerator:
    """A generator's checkpoint as ONNX in its export form.

    `image`, `identity` float32 `(N, 512)`, `keypoints_fused` and `keypoints_target` float32 `(N, 17, 2)` (x, y) in
    [-1, 1] -> `result`. `part` names the weights in a file that has several.
    """

    network: str
    part: str = ""

    name: ClassVar[str] = "export-fusion-generator"
    output: ClassVar[str] = "model.onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnx-ir", "onnxscript")

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the ONNX graph; return its node counts and the number of parameters.

        Raises:
            CheckpointError: `source` is not a checkpoint of this network.
        """
        from exporters.face_fusion.export_form import FusedLevels

        network = load_generator(source, self.network, self.part)
        plan = network.architecture
        points = (plan.keypoints, 2)
        others = {"identity": (plan.identity,), "keypoints_fused": points, "keypoints_target": points}
        model = export_graph(FusedLevels(network, SIZE), (SIZE, SIZE), ["levels"], any_size=False, others=others)
        add_image_input(model, RGB, (SIZE, SIZE))
        add_image_output(model, RGB, (SIZE, SIZE))
        return {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            **save_graph(model, self.network, out),
        }


def load_generator(source: Path, network: str, part: str = "") -> FusionGenerator:
    """The generator in its faithful form, in evaluation mode, its spectral norms folded.

    Raises:
        CheckpointError: `source` is not a checkpoint of `network`.
    """
    from exporters.face_fusion.network import Architecture, FusionGenerator

    state = load_state_dict(source, network, part)
    try:
        architecture = Architecture.from_shapes(shapes_of(state))
    except (KeyError, IndexError) as error:
        raise wrong_network(state, "the face fusion generator AEI", network, source) from error
    return with_weights(FusionGenerator.without_weights(architecture), state, network, source, assign=True)
