"""GPEN's generator for training: the numbers of its faithful form in less time, the more the larger the batch.

The same modules with the same weights under the same names, computed otherwise (docs/decisions/093). As in the export
form (`export_form.py`, which has the algebra), styles scale what goes into a convolution and what comes out of it, so
that a batch shares its weights; filters are depthwise convolutions; gains go into small factors. Unlike there, weights
stay parameters that learn, pictures of every level can be seen by hooks, and have autocast's precision throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exporters.gpen.layers import (
    GAIN,
    SLOPE,
    Blur,
    ModulatedConv2d,
    SharedModulatedConv2d,
    StyledConv,
    Upsample,
    per_channel,
)
from exporters.gpen.network import EncoderStage, FullGenerator


def quickened(network: FullGenerator) -> FullGenerator:
    """The same network, which from now on computes quickly."""
    for module in network.modules():
        if quick := _QUICK.get(type(module)):
            module.__class__ = quick
    return network


class QuickBlur(Blur):
    """The FIR filter as a depthwise convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, _depthwise(self.kernel, x.shape[1]), padding=self.padding, groups=x.shape[1])


class QuickUpsample(Upsample):
    """Zero insertion and the FIR filter as a transposed convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, _depthwise(self.kernel, x.shape[1]), stride=2, padding=1, groups=x.shape[1])


class QuickEncoderStage(EncoderStage):
    """f(conv(FIR(x)) + b), its gain in the convolution."""

    def forward(self, x: Tensor) -> Tensor:
        *blur, conv, activation = self
        for filtered in blur:
            x = filtered(x)
        return F.leaky_relu_(conv(x, activation.bias * GAIN, GAIN), SLOPE)


class QuickStyledConv(StyledConv):
    """Demodulation, noise weight, biases and gain are one factor and one offset for each half of the picture."""

    def forward(self, x: Tensor, style: Tensor, slot: Tensor) -> Tensor:
        y, demodulation = self.conv.apart(x, style)
        drawn_bias, skip_bias = (self.activate.bias * GAIN).split((y.shape[1], slot.shape[1]))
        drawn = _scaled(y, demodulation * GAIN, drawn_bias)
        skip = _scaled(slot, (self.noise.weight * GAIN).expand(1, slot.shape[1]), skip_bias)
        return F.leaky_relu_(torch.cat((drawn, skip), dim=1), SLOPE)


_QUICK: dict[type[nn.Module], type[nn.Module]] = {
    Blur: QuickBlur,
    Upsample: QuickUpsample,
    ModulatedConv2d: SharedModulatedConv2d,
    EncoderStage: QuickEncoderStage,
    StyledConv: QuickStyledConv,
}


def _depthwise(kernel: Tensor, channels: int) -> Tensor:
    return kernel.flip(0, 1)[None, None].repeat(channels, 1, 1, 1)


def _scaled(x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """`x` times `factor` `(N, C)` plus `offset` `(C)`, in the precision of `x`."""
    return torch.addcmul(per_channel(offset[None], x), x, per_channel(factor, x))
