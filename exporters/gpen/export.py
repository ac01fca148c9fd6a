"""GPEN: faces restored, and by the same network coloured, filled in, drawn from a label image, and enlarged.

Size and widths are read from the checkpoint; a network's name says which size is expected.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cameo.errors import CheckpointError
from cameo.noise import PREFIX
from exporters.checkpoints.kinds import Shapes, has_keys, looks_like
from exporters.checkpoints.torch_checkpoint import load_state_dict, shapes_of, with_weights, wrong_network
from exporters.family import WeightFiles
from exporters.graphs.edges import RGB, add_image_input, add_image_output
from exporters.graphs.torch_graph import export_graph, save_graph

if TYPE_CHECKING:
    from exporters.gpen.network import Architecture, FullGenerator

NETWORKS: Mapping[str, WeightFiles] = {
    "gpen-bfr-256": WeightFiles.one("GPEN-BFR-256.pth"),
    "gpen-bfr-512": WeightFiles.one("GPEN-BFR-512.pth", "pytorch_model.pt"),
    "gpen-bfr-1024": WeightFiles.one("GPEN-BFR-1024.pth", "pytorch_model.pt"),
    "gpen-bfr-2048": WeightFiles.one("GPEN-BFR-2048.pth", "pytorch_model-2048.pt"),
    "gpen-colorization-1024": WeightFiles.one("GPEN-Colorization-1024.pth"),
    "gpen-inpainting-1024": WeightFiles.one("GPEN-Inpainting-1024.pth"),
    "gpen-seg2face-512": WeightFiles.one("GPEN-Seg2face-512.pth"),
    # Nobody publishes these; the authors' training code makes them.
    "gpen-sr-128-256": WeightFiles.one("GPEN-SR-128-256.pth"),
    "gpen-sr-256-512": WeightFiles.one("GPEN-SR-256-512.pth"),
    "gpen-sr-512-1024": WeightFiles.one("GPEN-SR-512-1024.pth"),
    "gpen-sr-256-1024": WeightFiles.one("GPEN-SR-256-1024.pth"),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportGpen:
    """A GPEN checkpoint as ONNX in its export form: `image` -> `result`, both S x S.

    Networks that enlarge (`gpen-sr-IN-OUT`) take `noise_0`, ... as well (`Architecture.noise_shapes`). `part`
    names the weights in a file that has several.
    """

    network: str
    part: str = ""

    name: ClassVar[str] = "export-gpen"
    output: ClassVar[str] = "model.onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnx-ir", "onnxscript")

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the ONNX graph; return its node counts, and the size, widths and parameters found.

        Raises:
            CheckpointError: `source` is not a checkpoint of this network, or of another size.
        """
        from exporters.gpen.export_form import ExportForm, RestoredLevels

        generator = load_generator(source, self.network, self.part)
        architecture = generator.architecture
        in_side, side = architecture.in_size, architecture.out_size
        form = RestoredLevels(ExportForm(generator), normalised=is_normalised(self.network))
        noises = noise_inputs(architecture)
        model = export_graph(form, (in_side, in_side), ["levels"], any_size=False, others=noises)
        add_image_input(model, RGB, (in_side, in_side))
        add_image_output(model, RGB, (side, side))
        log.info("%s: %s", self.network, architecture)
        return {
            "parameters": sum(parameter.numel() for parameter in generator.parameters()),
            "size": side,
            "channels": {"encoder": list(architecture.encoder), "generator": list(architecture.styled)},
            "narrow": architecture.narrow,
            "channel_multiplier": architecture.channel_multiplier,
            "separable": architecture.separable,
            **save_graph(model, self.network, out),
        }


def exporter(network: str) -> ExportGpen:
    """The stage that exports `network`."""
    return ExportGpen(network)


def recognise(shapes: Shapes) -> str:
    """A few words for a state dict of this family, else ""."""
    from exporters.gpen.network import sizes_in

    if not has_keys(shapes, "ecd0.0.0.weight", "generator.conv1.conv.weight"):
        return ""
    in_size, out_size = sizes_in(shapes)
    size = f"size {in_size}" if in_size == out_size else f"sizes {in_size} in, {out_size} out"
    return f"a GPEN generator of {size} with {shapes['ecd0.0.0.weight'][0]} channels at full resolution"


def noise_inputs(architecture: Architecture) -> dict[str, tuple[int, int, int]]:
    """The inputs that noise comes in by, without their batch axis."""
    return {f"{PREFIX}{index}": shape for index, shape in enumerate(architecture.noise_shapes)}


def size_of(network: str) -> int:
    """The side of the network's result, which ends its name."""
    return int(network.rpartition("-")[2])


def sizes_of(network: str) -> tuple[int, int]:
    """The sides of the network's image and result, which end its name where they differ."""
    *_, before, last = network.split("-")
    return int(before if before.isdigit() else last), int(last)


def is_normalised(network: str) -> bool:
    """Whether the network works in [-1, 1]; Seg2face was trained in [0, 1] (the original's is_norm=False)."""
    return not network.startswith("gpen-seg2face")


def load_generator(source: Path, network: str, part: str = "") -> FullGenerator:
    """The generator in its faithful form, in evaluation mode.

    Raises:
        CheckpointError: `source` is not a checkpoint of `network`.
    """
    from exporters.gpen.network import Architecture, FullGenerator

    state = load_state_dict(source, network, part)
    shapes = shapes_of(state)
    try:
        architecture = Architecture.from_shapes(shapes)
    except (KeyError, IndexError) as error:
        raise wrong_network(state, "a GPEN generator", network, source) from error
    in_size, out_size = sizes_of(network)
    if (architecture.in_size, architecture.out_size) != (in_size, out_size):
        expected = f"size {out_size}" if in_size == out_size else f"sizes {in_size} in, {out_size} out"
        raise CheckpointError(
            f"{source} is of another size than {network}: it looks like {looks_like(shapes)}, expected {expected}; "
            "name the network of the checkpoint's size, or use the file published for this one"
        )
    return with_weights(FullGenerator.without_weights(architecture), state, network, source, assign=True)
