"""Face fusion's networks: the generator, and those that tell it the face's identity and shape.

Each has a module of its own with its stage; here they are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from exporters.checkpoints.kinds import Shapes, has_keys
from exporters.face_fusion.export_backbone import ExportBackbone
from exporters.face_fusion.export_generator import ExportGenerator
from exporters.face_fusion.export_recon import FILES, ExportRecon
from exporters.family import WeightFiles


@dataclass(frozen=True)
class Entry:
    """One network: its files, its stage, and how its checkpoint is told from others: by `keys`, in `words`."""

    files: WeightFiles
    stage: Callable[[str], Any]
    keys: tuple[str, ...]
    words: str


ENTRIES: Mapping[str, Entry] = {
    "fusion-generator": Entry(
        WeightFiles.one("pytorch_model.pt"),
        ExportGenerator,
        keys=("encoder.conv1.conv.weight", "dense_motion_network.mask.weight"),
        words="the face fusion generator AEI",
    ),
    "curricularface": Entry(
        WeightFiles.one("faceRecog/CurricularFace_Backbone.pth"),
        ExportBackbone,
        keys=("input_layer.0.weight", "output_layer.3.weight"),
        words="CurricularFace, an identity network",
    ),
    "face-recon-3d": Entry(
        FILES,
        ExportRecon,
        keys=("backbone.conv1.weight", "final_layers.0.weight"),
        words="the 3-D face coefficients (recon ResNet-50)",
    ),
}
NETWORKS: Mapping[str, WeightFiles] = {network: entry.files for network, entry in ENTRIES.items()}


def exporter(network: str) -> Any:
    """The stage that exports `network`."""
    return ENTRIES[network].stage(network)


def recognise(shapes: Shapes) -> str:
    """A few words for a state dict of this family, else ""."""
    return next((entry.words for entry in ENTRIES.values() if has_keys(shapes, *entry.keys)), "")
