"""ParseNet in PyTorch eager mode: RGB in [-1, 1], both of its outputs computed as the authors do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.graphs.torch_session import TorchSession

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch",)


def open_original(network: str, weights: Path, part: str = "") -> TorchSession:
    """The network of the checkpoint at `weights`.

    Raises:
        CheckpointError: not a checkpoint of `network`.
    """
    from exporters.parsenet.export import load_network

    module = load_network(weights, network, part)

    def run(image: torch.Tensor) -> Mapping[str, torch.Tensor]:
        mask, _ = module(image / 255 * 2 - 1)
        return {"mask": mask}

    return TorchSession(run)
