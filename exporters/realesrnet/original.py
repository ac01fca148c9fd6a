"""RealESRNet in PyTorch eager mode: RGB in [0, 1]; the result is clipped and rounded half to even."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.graphs.torch_session import TorchSession, to_photo

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch",)


def open_original(network: str, weights: Path, part: str = "") -> TorchSession:
    """The network of the checkpoint at `weights`.

    Raises:
        CheckpointError: not a checkpoint of `network`.
    """
    from exporters.realesrnet.export import load_network

    module = load_network(weights, network, part)

    def run(image: torch.Tensor) -> Mapping[str, torch.Tensor]:
        return {"result": to_photo((module(image / 255).clip(0, 1) * 255).round())}

    return TorchSession(run)
