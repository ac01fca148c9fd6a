"""A small checkpoint of every exporter, and `python -m tests.support.small_checkpoints FOLDER OUT`, which exports them.

One process exports them all: starting PyTorch and TensorFlow takes longer than the small exports.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from tests.support import frozen_graphs, fusion_weights, stand_ins
from tests.support.filled_networks import filled, save_checkpoint
from tests.support.heap import keep_memory

if TYPE_CHECKING:
    from torch import nn

    from pipeline.stage import Stage

COMPANIONS = {"dctnet-detector": "detector", "dctnet-landmarks": "keypoints"}
WHOLE = ("parsenet", "retinaface-r50")
"""Of these the published widths are tried, which are as quick to export as narrow ones."""
GPEN_SIDE, PARSED_SIDE = 32, 64
PASSED_BYTES = 2**23
"""Passes over larger networks, and their engines, would take longer than all the others together."""


def export_whole(network: str, out: Path) -> None:
    """Write the checkpoint of a network of `WHOLE`, its exported graph and the facts of the export into a folder."""
    checkpoint = save_checkpoint(filled(_whole(network)), out / "weights.pth")
    (out / "facts.json").write_text(json.dumps(dict(_stage(network).run(checkpoint, out / "model.onnx"))))


def _whole(network: str) -> nn.Module:
    from exporters.parsenet.network import ParseNet
    from exporters.retinaface.network import RetinaFace

    return {"parsenet": ParseNet, "retinaface-r50": RetinaFace}[network]()


def _stage(network: str) -> Stage:
    from exporters import family_of
    from exporters.parsenet.export import ExportParseNet

    return ExportParseNet(network, PARSED_SIDE) if network == "parsenet" else family_of(network).exporter(network)


def write_all(folder: Path) -> dict[str, Path]:
    """Write the checkpoints; return the file of each network."""
    from exporters.gpen.network import Architecture, FullGenerator
    from exporters.realesrnet.network import RRDBNet

    plan = Architecture.of(GPEN_SIDE, narrow=0.0625, channel_multiplier=1, style_dim=32)
    generator = FullGenerator.without_weights(plan)
    networks = {
        "gpen-bfr-256": filled(generator.to_empty(device="cpu")),
        "realesrnet-x2": filled(RRDBNet(2, 1)),
        **{network: filled(_whole(network)) for network in WHOLE},
    }
    files = {name: save_checkpoint(network, folder / f"{name}.pth") for name, network in networks.items()}
    files["dctnet-head"] = frozen_graphs.write_small(folder / "dctnet-head.pb")
    files["fusion-generator"] = fusion_weights.write_generator(folder)
    files["curricularface"] = fusion_weights.write_recogniser(folder)
    files["face-recon-3d"] = fusion_weights.write_shapes(folder / "face-recon-3d")
    return files | {network: stand_ins.write_companion(name, folder) for network, name in COMPANIONS.items()}


def export_all(files: Mapping[str, Path], out: Path) -> dict[str, str]:
    """Export them with the standard passes and as OpenVINO's engines; return the sha256 of every file by its name."""
    import engines
    import optimize
    from cameo.artifact import sha256_of, size_of
    from exporters.gpen import export as gpen
    from exporters.recipe import STANDARD_PASSES

    found = {}

    def kept(name: str, path: Path) -> Path:
        found[name] = sha256_of(path)
        return path

    for network, file in files.items():
        stage = _stage(network)
        graph = out / f"{network}.onnx"
        with patch.object(gpen, "sizes_of", lambda network: (GPEN_SIDE, GPEN_SIDE)):  # no published one is so small
            stage.run(file, graph)
        kept(network, graph)
        if size_of(file) > PASSED_BYTES:
            continue
        for name in STANDARD_PASSES:
            optimize.graph_pass(name).run(graph, graph)
            kept(f"{network}, {name}", graph)
        builder = engines.engine("openvino").builder(engines.EngineOptions())
        builder.run(graph, out / network)
        kept(f"{network}, {builder.name}", out / network)
    return found


if __name__ == "__main__":
    keep_memory()
    listing, out = map(Path, sys.argv[1:])
    hashes = export_all({name: Path(file) for name, file in json.loads(listing.read_text()).items()}, out)
    (out / "hashes.json").write_text(json.dumps(hashes))
