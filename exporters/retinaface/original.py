"""RetinaFace in PyTorch eager mode: BGR in 0..255 minus the authors' mean."""

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
    import torch

    from exporters.retinaface.export import load_network
    from exporters.retinaface.network import MEAN_BGR

    module, mean = load_network(weights, network, part), torch.tensor(MEAN_BGR, dtype=torch.float32).view(1, 3, 1, 1)

    def run(image: torch.Tensor) -> Mapping[str, torch.Tensor]:
        loc, conf, landms = module(image.flip(1) - mean)
        return {"loc": loc, "conf": conf, "landms": landms}

    return TorchSession(run)
