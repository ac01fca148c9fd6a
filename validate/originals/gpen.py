"""GPEN's generators in PyTorch eager mode, with the pre- and post-processing of their authors (FaceGAN.process).

The picture becomes float32 RGB in [-1, 1] (Seg2face: [0, 1]); the result is clipped and truncated to uint8.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from validate.originals._torch_session import TorchSession, to_photo

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch",)


def open_original(network: str, weights: Path) -> TorchSession:
    """The generator of the checkpoint at `weights`.

    Raises:
        CheckpointError: not a checkpoint of `network`.
    """
    from exporters.gpen import is_normalised, load_generator

    generator, normalised = load_generator(weights, network), is_normalised(network)

    def run(image: torch.Tensor) -> Mapping[str, torch.Tensor]:
        levels = image / 255
        restored = generator((levels - 0.5) / 0.5) * 0.5 + 0.5 if normalised else generator(levels)
        return {"result": to_photo(restored.clip(0, 1) * 255)}

    return TorchSession(run)
