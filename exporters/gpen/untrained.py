"""GPEN's generators with the weights that training starts from, but for its zeros. What they draw is noise."""

from __future__ import annotations

import torch

from exporters.gpen.export import size_of
from exporters.gpen.network import Architecture, FullGenerator

# Training starts with zeros, where the encoder's features would count for nothing. All of them differ, because passes
# merge two layers of the same bias and noise weight, which then plan for more memory than trained ones.
NOISE_WEIGHT, SPREAD = 0.7, 0.1
PICTURE_GAIN = 0.25  # of the layers that draw: the result lies in [-1, 1] as a photo's does, so clipping hides nothing


def untrained(network: str, narrow: float | None = None) -> FullGenerator:
    """The published architecture, if not `narrow`: GPEN-BFR-256 has half the width of the others."""
    size = size_of(network)
    small = size <= 256
    width = narrow or (0.5 if small else 1)
    generator = FullGenerator(Architecture.of(size, narrow=width, channel_multiplier=1 if small else 2))
    with torch.no_grad():
        for key, weights in generator.named_parameters():
            if key.endswith("noise.weight"):
                weights.copy_(NOISE_WEIGHT + SPREAD * torch.randn_like(weights))
            elif key.endswith("activate.bias"):
                weights.copy_(SPREAD * torch.randn_like(weights))
            elif "to_rgb" in key and key.endswith("conv.weight"):
                weights.mul_(PICTURE_GAIN)
    return generator
