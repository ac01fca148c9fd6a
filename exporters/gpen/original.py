"""GPEN's generators in PyTorch eager mode, with the pre- and post-processing of their authors (FaceGAN.process).

The picture becomes float32 RGB in [-1, 1] (Seg2face: [0, 1]); the result is clipped and truncated to uint8. Where a
generator wants noise, it gets the seeded noise of the engines instead of the authors' fresh one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cameo.noise import with_noise
from cameo.session import Session
from cameo.tensors import TensorSpec
from exporters.graphs.torch_session import TorchSession, to_photo

if TYPE_CHECKING:
    import torch

LIBRARIES = ("torch",)


def open_original(network: str, weights: Path, part: str = "") -> Session:
    """The generator of the checkpoint at `weights`.

    Raises:
        CheckpointError: not a checkpoint of `network`.
    """
    from exporters.gpen.export import is_normalised, load_generator, noise_inputs

    generator, normalised = load_generator(weights, network, part), is_normalised(network)

    noises = noise_inputs(generator.architecture)

    def run(image: torch.Tensor, **fed: torch.Tensor) -> Mapping[str, torch.Tensor]:
        levels, noise = image / 255, [fed[name] for name in noises]
        result = generator((levels - 0.5) / 0.5, noise) * 0.5 + 0.5 if normalised else generator(levels, noise)
        return {"result": to_photo(result.clip(0, 1) * 255)}

    inputs = [TensorSpec(name, "float32", ("N", *shape)) for name, shape in noises.items()]
    return with_noise(TorchSession(run), inputs)
