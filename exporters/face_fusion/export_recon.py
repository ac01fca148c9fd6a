"""The 3-D face as ONNX: an aligned face of 256 x 256, and another's shape -> coefficients and two jaw lines.

Two files make it up, the network's checkpoint and the face model's. Of the model the graph holds what 17 vertices
need, so that whoever runs it needs no face model (docs/decisions/144).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cameo.errors import CheckpointError
from exporters.checkpoints.torch_checkpoint import load_state_dict, with_weights
from exporters.face_fusion.bfm_file import IDENTITY, KEYPOINTS, MorphableModel, read_morphable_model
from exporters.family import WeightFiles
from exporters.graphs.edges import RGB, add_image_input
from exporters.graphs.torch_graph import export_graph, save_graph

if TYPE_CHECKING:
    from exporters.face_fusion.recon import ReconNet

FILES = WeightFiles((("3dRecon/face_3d.pth",), ("BFM/BFM_model_front.mat",)))
SIZE = 256
OUTPUTS = ("coefficients", "keypoints", "keypoints_fused")
_FIRST = "backbone.conv1.weight"


@dataclass(frozen=True)
class ExportRecon:
    """The network and the face model as ONNX.

    `image`, `shape` float32 `(N, 80)`, the identity coefficients of another face -> `coefficients` float32 `(N, 257)`;
    `keypoints` float32 `(N, 17, 2)` (x, y) in [-1, 1], the jaw line of the face itself; `keypoints_fused`, the same
    with the mean of both identities. `part` names the weights in a file that has several.
    """

    network: str
    part: str = ""

    name: ClassVar[str] = "export-face-recon-3d"
    output: ClassVar[str] = "model.onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnx-ir", "onnxscript", "scipy")

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the ONNX graph; return its node counts, the number of parameters and the model's vertices.

        Raises:
            CheckpointError: `source` is not the folder with this network's files.
        """
        from exporters.face_fusion.recon_form import PlacedLevels

        network, face = load_recon(source, self.network, self.part)
        form = PlacedLevels(network, face.of_keypoints())
        model = export_graph(form, (SIZE, SIZE), OUTPUTS, any_size=False, others={"shape": (IDENTITY,)})
        add_image_input(model, RGB, (SIZE, SIZE))
        return {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "vertices": len(face.mean),
            "keypoints": KEYPOINTS,
            **save_graph(model, self.network, out),
        }


def load_recon(source: Path, network: str, part: str = "") -> tuple[ReconNet, MorphableModel]:
    """The network in its faithful form, in evaluation mode, as wide as its checkpoint is, and the face model.

    Raises:
        CheckpointError: `source` is not the folder of both files, or one of them is not what `network` needs.
    """
    from exporters.face_fusion.recon import WIDTH, ReconNet

    names = FILES.found(source) if source.is_dir() else None
    if names is None:
        got = f"is without {' and '.join(FILES.missing(source))}" if source.is_dir() else "is no folder"
        raise CheckpointError(f"{source} {got}: {network} needs the folder that holds {' and '.join(FILES.usual)}")
    weights, face = (source / name for name in names)
    state = load_state_dict(weights, network, part)
    recon = ReconNet(len(state[_FIRST]) if _FIRST in state else WIDTH)
    return with_weights(recon, state, network, weights), read_morphable_model(face, network)
