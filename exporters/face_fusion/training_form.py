"""The fusion generator for training: spectral norms are divided by once, and convolutions use the weights as they are.

The norm that the checkpoint's u and v tell, u . W v, is not one number for the weights of fewer channels, nor for
weights that learn. So W is divided by it at loading (`folded`); from then on u and v count for nothing, and are left as
they are. Before the weights become a checkpoint again (`unfolded`), u is chosen so that the norm is 1:

    u = W v / |W v|^2    ->    u . W v = 1

Pictures are normalised in float32, as variances over channels are small next to the squares that they are made of.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from exporters.face_fusion.adaptive import AadLayer, SpectralConv2d
from exporters.face_fusion.network import FusionGenerator


def folded(network: FusionGenerator) -> FusionGenerator:
    """The network, whose convolutions from now on use `weight_bar` as it is; its numbers are the same."""
    with torch.no_grad():
        for convolution in _spectral(network):
            convolution.module.weight_bar.copy_(convolution.module.normalised())
    return plain(network)


def plain(network: FusionGenerator) -> FusionGenerator:
    """A network whose weights are divided already."""
    for convolution in _spectral(network):
        convolution.__class__ = PlainConv2d
        convolution.module.weight_u.requires_grad_(False)
        convolution.module.weight_v.requires_grad_(False)
    for module in network.modules():
        if type(module) is AadLayer:
            module.__class__ = ExactAadLayer
    return network.eval()


def unfolded(network: FusionGenerator) -> dict[str, Tensor]:
    """The state dict of a checkpoint that gives the same numbers in the faithful form."""
    state = {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}
    for key in [key.removesuffix("weight_bar") for key in state if key.endswith(".weight_bar")]:
        seen = state[f"{key}weight_bar"].flatten(1).double() @ state[f"{key}weight_v"].double()
        state[f"{key}weight_u"] = (seen / seen.square().sum()).float()
    return state


class PlainConv2d(SpectralConv2d):
    """The convolution by `weight_bar`."""

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, h, w)`."""
        return F.conv2d(x, self.module.weight_bar, self.module.bias)


class ExactAadLayer(AadLayer):
    """The layer on a float32 picture, whatever autocast makes of the convolution before it."""

    def forward(self, x: Tensor, attributes: Tensor, identity: Tensor) -> Tensor:
        """`(N, channels, h, w)`."""
        return super().forward(x.float(), attributes, identity)


def _spectral(network: FusionGenerator) -> list[SpectralConv2d]:
    return [module for module in network.modules() if isinstance(module, SpectralConv2d)]
