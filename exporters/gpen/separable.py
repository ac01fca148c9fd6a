"""GPEN's student: every 3x3 convolution depthwise-separable, the nearest to a dense generator's."""

from __future__ import annotations

from torch import Tensor

from compress.separable import nearest_separable
from exporters.gpen.layers import KERNEL, EqualConv2d, ModulatedConv2d
from exporters.gpen.network import FullGenerator


def separated(network: FullGenerator) -> FullGenerator:
    """A new generator with depthwise-separable convolutions in place of dense ones, the nearest to them."""
    state = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    for name, module in network.named_modules():
        if isinstance(module, EqualConv2d | ModulatedConv2d) and module.weight.shape[-1] == KERNEL:
            state[f"{name}.depthwise"], state[f"{name}.weight"] = _factors(module)
    return FullGenerator.from_state_dict(state)


def _factors(module: EqualConv2d | ModulatedConv2d) -> tuple[Tensor, Tensor]:
    """Kernels and mixing weights, each of about the size N(0, 1) has, as both are scaled when used."""
    if isinstance(module, EqualConv2d):
        depthwise, mixing = nearest_separable(module.weight)
    elif module.upsample:  # a kernel per output
        depthwise, mixing = nearest_separable(module.weight[0].transpose(0, 1))
        mixing = mixing.transpose(0, 1)[None].contiguous()
    else:
        depthwise, mixing = nearest_separable(module.weight[0])
        mixing = mixing[None]
    return depthwise * KERNEL, mixing / KERNEL
