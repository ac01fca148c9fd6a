"""Checkpoints of the published shapes with random weights: full-size weights are not ours to ship.

Time and memory do not depend on the weights; fidelity is measured on activations of the size that training gives, which
the networks' own initialisers (equalised learning rate, He) see to. What they draw is noise.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

SAID = "random weights of the published shapes"
SEED = 0
# Training starts with zeros, where the encoder's features would count for nothing. All of them differ, because passes
# merge two layers of the same bias and noise weight, which then plan for more memory than trained ones.
NOISE_WEIGHT, SPREAD = 0.7, 0.1
PICTURE_GAIN = 0.25  # of the layers that draw: the result lies in [-1, 1] as a photo's does, so clipping hides nothing


def write_checkpoint(network: str, folder: Path, narrow: float | None = None) -> Path:
    """The checkpoint of `network` in `folder`, written unless it is there; `narrow` is another width than published."""
    import torch

    from pipeline.recipe import recipe

    path = folder / recipe(network).weight_files[0]
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with torch.random.fork_rng():
            torch.manual_seed(SEED)
            state = _network(network, narrow).state_dict()
        unfinished = path.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.rename(path)
    return path


def _network(name: str, narrow: float | None) -> nn.Module:
    from exporters.networks.parsenet import ParseNet
    from exporters.networks.retinaface import RetinaFace

    others: dict[str, type[nn.Module]] = {"parsenet": ParseNet, "retinaface-r50": RetinaFace}
    return others[name]() if name in others else _generator(int(name.rpartition("-")[2]), narrow)


def _generator(size: int, narrow: float | None) -> nn.Module:
    """The published architectures, if not `narrow`: GPEN-BFR-256 has half the width of the others."""
    import torch

    from exporters.networks.gpen import Architecture, FullGenerator

    small = size <= 256
    width = narrow or (0.5 if small else 1)
    network = FullGenerator(Architecture.of(size, narrow=width, channel_multiplier=1 if small else 2))
    with torch.no_grad():
        for key, weights in network.named_parameters():
            if key.endswith("noise.weight"):
                weights.copy_(NOISE_WEIGHT + SPREAD * torch.randn_like(weights))
            elif key.endswith("activate.bias"):
                weights.copy_(SPREAD * torch.randn_like(weights))
            elif "to_rgb" in key and key.endswith("conv.weight"):
                weights.mul_(PICTURE_GAIN)
    return network
