"""Face fusion's networks with the weights that training starts from, and a face model. What they draw is noise.

Layers that nothing normalises begin with He's variance: activations keep the size that training gives them, through
all the depth, so that what is lost on the way shows in the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from exporters.face_fusion.bfm_file import EXPRESSION, IDENTITY, LANDMARKS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from exporters.face_fusion.backbone import Backbone
    from exporters.face_fusion.network import FusionGenerator
    from exporters.face_fusion.recon import ReconNet

VERTICES = 35709
"""Of the face model that the authors publish."""

_GAMMA = 0.5  # training starts without self-attention, which would then count for nothing
_BRANCH = 0.25  # residual branches begin small, or tens of them would add up
_HEADS = 0.3  # faces then look ahead, more or less, and lie in the picture
_ITERATIONS = 3
_BLUR = 1.5  # pixels, the authors' Gaussian
_SEED = 0


def untrained(network: str, narrow: float | None = None) -> nn.Module:
    """The network of the published shapes, or `narrow` times as wide inside."""
    return _UNTRAINED[network](narrow or 1.0)


def _generator(narrow: float) -> FusionGenerator:
    """A generator whose spectral norms are near to true: of random vectors they would be near to 0."""
    import torch
    from torch.nn import functional as F

    from exporters.face_fusion.adaptive import AadLayer, SpectralWeight
    from exporters.face_fusion.network import Architecture, FusionGenerator

    generator = FusionGenerator(Architecture.of(narrow))
    _give_variance(generator)
    with torch.no_grad():
        generator.generator.sa.gamma.fill_(_GAMMA)
        generator.dense_motion_network.down.weight.copy_(_gaussian(generator.architecture.blur))
        for module in generator.modules():
            if isinstance(module, SpectralWeight):
                weight = module.weight_bar.flatten(1)
                for _ in range(_ITERATIONS):
                    module.weight_v.copy_(F.normalize(module.weight_u @ weight, dim=0))
                    module.weight_u.copy_(F.normalize(weight @ module.weight_v, dim=0))
            elif isinstance(module, AadLayer):
                module.fc1.weight.normal_()  # an identity is of length 1
                module.fc2.weight.normal_()
    return generator


def _backbone(narrow: float) -> Backbone:
    from torch import nn

    from exporters.face_fusion.backbone import WIDTH, Backbone

    backbone = Backbone(int(WIDTH * narrow))
    _give_variance(backbone)
    for unit in backbone.body:
        nn.init.constant_(unit.res_layer[4].weight, _BRANCH)
    return backbone


def _recon(narrow: float) -> ReconNet:
    import torch
    from torch import nn

    from exporters.face_fusion.recon import WIDTH, ReconNet

    recon = ReconNet(int(WIDTH * narrow))
    _give_variance(recon)
    for name, parameter in recon.backbone.named_parameters():
        if name.endswith("bn3.weight"):
            nn.init.constant_(parameter, _BRANCH)
    with torch.no_grad():
        for head in recon.final_layers:
            head.weight.mul_(_HEADS)
    return recon


def write_face_model(path: Path) -> None:
    """A face model of the published size: an egg of 35709 vertices, 2 high, and bases that shift them a little."""
    import numpy as np
    from scipy.io import savemat

    generator = np.random.default_rng(_SEED)
    directions = generator.standard_normal((VERTICES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    arrays = {"meanshape": (directions * (0.7, 1.0, 0.8)).reshape(1, -1)}
    for name, numbers in (("idBase", IDENTITY), ("exBase", EXPRESSION)):
        arrays[name] = 0.02 * generator.standard_normal((3 * VERTICES, numbers))
    stored = {name: array.astype(np.float32) for name, array in arrays.items()}
    landmarks = generator.integers(1, VERTICES + 1, (1, LANDMARKS))
    savemat(path, {**stored, "keypoints": landmarks}, appendmat=False)


FILES: Mapping[str, Callable[[Path], None]] = {"BFM/BFM_model_front.mat": write_face_model}
"""What no module holds: who writes the file of that name."""

_UNTRAINED: Mapping[str, Callable[[float], nn.Module]] = {
    "fusion-generator": _generator,
    "curricularface": _backbone,
    "face-recon-3d": _recon,
}


def _give_variance(network: nn.Module) -> None:
    """He's variance, to its convolutions and linear layers."""
    from torch import nn

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)


def _gaussian(side: int) -> Tensor:
    """float32 `(side, side)` of sum 1."""
    import torch

    line = torch.exp(-((torch.arange(side) - side // 2) ** 2) / (2 * _BLUR**2))
    return torch.outer(line, line) / line.sum() ** 2
