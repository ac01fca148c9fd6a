"""CurricularFace as ONNX: an aligned face of 256 x 256 -> its identity."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from exporters.checkpoints.torch_checkpoint import load_state_dict, with_weights
from exporters.graphs.edges import RGB, add_image_input
from exporters.graphs.torch_graph import export_graph, save_graph

if TYPE_CHECKING:
    from exporters.face_fusion.backbone import Backbone

SIZE = 256
_FIRST = "input_layer.0.weight"
_COUNTER = "num_batches_tracked"  # which BatchNorms keep for training; old checkpoints lack it
_LISTED = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportBackbone:
    """A backbone's checkpoint as ONNX: `image` -> `embedding`, float32 `(N, 512)` of length 1.

    `depths` are the units of its stages, where they are not those of the authors' IR-101. `part` names the weights in a
    file that has several.
    """

    network: str
    depths: Sequence[int] = ()
    part: str = ""

    name: ClassVar[str] = "export-curricularface"
    output: ClassVar[str] = "model.onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnx-ir", "onnxscript")

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the ONNX graph; return its node counts and the number of parameters.

        Raises:
            CheckpointError: `source` is not a checkpoint of this network.
        """
        from exporters.face_fusion.backbone_form import EmbeddedLevels

        network = load_backbone(source, self.network, self.part, self.depths)
        model = export_graph(EmbeddedLevels(network), (SIZE, SIZE), ["embedding"], any_size=False)
        add_image_input(model, RGB, (SIZE, SIZE))
        return {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            **save_graph(model, self.network, out),
        }


def load_backbone(source: Path, network: str, part: str = "", depths: Sequence[int] = ()) -> Backbone:
    """The backbone in its faithful form, in evaluation mode, as wide as its checkpoint is.

    What is no weight of it, as the classes it was trained on, is left out and said (docs/decisions/145).

    Raises:
        CheckpointError: `source` is not a checkpoint of `network`, or lacks weights.
    """
    from exporters.face_fusion.backbone import DEPTHS, WIDTH, Backbone

    state = load_state_dict(source, network, part)
    backbone = Backbone(len(state[_FIRST]) if _FIRST in state else WIDTH, depths or DEPTHS)
    own = backbone.state_dict()
    state = {key: tensor for key, tensor in own.items() if key.endswith(_COUNTER)} | state
    if own.keys() < state.keys():
        extra = [key for key in state if key not in own]
        more = ", ..." if len(extra) > _LISTED else ""
        note = f"{source.name}: left out what is no weight of {network}: {', '.join(extra[:_LISTED])}{more}"
        log.info(note, extra={"note": note})
        state = {key: state[key] for key in own}
    return with_weights(backbone, state, network, source)
