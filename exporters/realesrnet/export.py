"""RealESRNet x1, x2 and x4: photos cleaned and enlarged.

H and W must be multiples of 4 for x1, of 2 for x2, and may be any for x4 (`SIZE_MULTIPLES`): the network works at a
quarter of its result's size. Whoever runs it pads the photo; the graph itself would drop the rows that are over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from exporters.checkpoints.kinds import Shapes, has_keys
from exporters.checkpoints.torch_checkpoint import load_state_dict, with_weights
from exporters.family import WeightFiles
from exporters.graphs.edges import RGB, add_image_input, add_image_output
from exporters.graphs.torch_graph import export_graph, save_graph

if TYPE_CHECKING:
    from exporters.realesrnet.network import RRDBNet

NETWORKS: Mapping[str, WeightFiles] = {
    "realesrnet-x1": WeightFiles.one("realesrnet_x1.pth"),
    "realesrnet-x2": WeightFiles.one("realesrnet_x2.pth"),
    "realesrnet-x4": WeightFiles.one("realesrnet_x4.pth"),
}
SCALES = {"realesrnet-x1": 1, "realesrnet-x2": 2, "realesrnet-x4": 4}
SIZE_MULTIPLES = {network: 4 // scale for network, scale in SCALES.items()}
_TRACED = (32, 48)


@dataclass(frozen=True)
class ExportRealEsrNet:
    """A RealESRNet checkpoint as ONNX: `image` -> `result`, `scale` times as large; `part` is of the file."""

    network: str
    part: str = ""

    name: ClassVar[str] = "export-realesrnet"
    output: ClassVar[str] = "model.onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnx-ir", "onnxscript")

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the ONNX graph; return its node counts, the number of parameters, the scale and the depth.

        Raises:
            CheckpointError: `source` is not a checkpoint of this network.
        """
        from exporters.realesrnet.export_form import RRDBNetExport

        scale = SCALES[self.network]
        network = load_network(source, self.network, self.part)
        model = export_graph(RRDBNetExport(network), _TRACED, ["levels"], any_size=True)
        add_image_input(model, RGB, ("H", "W"))
        add_image_output(model, RGB, ("H", "W") if scale == 1 else (f"{scale}*H", f"{scale}*W"))
        return {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "scale": scale,
            "blocks": len(network.body),
            **save_graph(model, self.network, out),
        }


def exporter(network: str) -> ExportRealEsrNet:
    """The stage that exports `network`."""
    return ExportRealEsrNet(network)


def recognise(shapes: Shapes) -> str:
    """A few words for a state dict of this family, else ""."""
    if not has_keys(shapes, "conv_first.weight", "body.0.rdb1.conv1.weight"):
        return ""
    scale = {3: 4, 12: 2, 48: 1}.get(shapes["conv_first.weight"][1], "of unknown scale")
    return f"RealESRNet (RRDBNet) x{scale}"


def load_network(source: Path, network: str, part: str = "") -> RRDBNet:
    """The network in its faithful form, in evaluation mode; its depth is the checkpoint's.

    Raises:
        CheckpointError: `source` is not a checkpoint of `network`.
    """
    from exporters.realesrnet.network import RRDBNet, count_blocks

    weights = load_state_dict(source, network, part)
    return with_weights(RRDBNet(SCALES[network], count_blocks(weights)), weights, network, source)
