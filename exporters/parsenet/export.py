"""ParseNet: which part of a face each pixel shows, for aligned faces of 512 x 512."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from exporters.checkpoints.kinds import Shapes, has_keys
from exporters.checkpoints.torch_checkpoint import load_state_dict, with_weights
from exporters.family import WeightFiles
from exporters.graphs.edges import RGB, add_image_input
from exporters.graphs.torch_graph import export_graph, save_graph

if TYPE_CHECKING:
    from exporters.parsenet.network import ParseNet

NETWORKS: Mapping[str, WeightFiles] = {"parsenet": WeightFiles.one("ParseNet-latest.pth")}
SIZE = 512


@dataclass(frozen=True)
class ExportParseNet:
    """A ParseNet checkpoint as ONNX: `image` -> `mask`, logits of 19 classes.

    `size` is the side of the faces, a multiple of 16: the authors' is 512, smaller is faster and coarser. `part` names
    the weights in a file that has several.
    """

    network: str
    size: int = SIZE
    part: str = ""

    name: ClassVar[str] = "export-parsenet"
    output: ClassVar[str] = "model.onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnx-ir", "onnxscript")

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the ONNX graph; return its node counts and the number of parameters.

        Raises:
            CheckpointError: `source` is not a checkpoint of this network.
        """
        from exporters.parsenet.export_form import ParseNetExport

        network = load_network(source, self.network, self.part)
        model = export_graph(ParseNetExport(network), (self.size, self.size), ["mask"], any_size=False)
        add_image_input(model, RGB, (self.size, self.size))
        return {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            **save_graph(model, self.network, out),
        }


def exporter(network: str) -> ExportParseNet:
    """The stage that exports `network`."""
    return ExportParseNet(network)


def recognise(shapes: Shapes) -> str:
    """A few words for a state dict of this family, else ""."""
    known = has_keys(shapes, "encoder.0.conv2d.weight", "out_mask_conv.conv2d.weight")
    return "ParseNet, a face parser" if known else ""


def load_network(source: Path, network: str, part: str = "") -> ParseNet:
    """The network in its faithful form, in evaluation mode.

    Raises:
        CheckpointError: `source` is not a checkpoint of `network`.
    """
    from exporters.parsenet.network import ParseNet

    return with_weights(ParseNet(), load_state_dict(source, network, part), network, source)
