"""GPEN's generator for training: the numbers of its faithful form in about half the time.

As in the export form (`exporters/networks/gpen_export.py`, which has the algebra), styles scale what goes into a
convolution and what comes out of it, so that a batch shares its weights; filters are depthwise convolutions; gains go
into small factors. Unlike there, weights stay parameters that learn, and pictures have autocast's precision throughout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exporters.networks.gpen import EPS, GAIN, SLOPE, FullGenerator, ModulatedConv2d, StyledConv, ToRGB


class QuickGpen(nn.Module):
    """A generator as a module that computes it quickly."""

    def __init__(self, network: FullGenerator) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return restore(self.network, image)


def restore(network: FullGenerator, image: Tensor) -> Tensor:
    """What `network(image)` returns, float `(N, 3, S, S)` RGB around [-1, 1]."""
    features = _encode(network, image)
    style = network.style(features[0])
    layers = [network.generator.conv1, *network.generator.convs]
    slots = [features[0], *(feature for feature in features[1:] for _ in range(2))]
    x = network.generator.input(len(image))
    rgb = None
    for i, (layer, slot) in enumerate(zip(layers, slots, strict=True)):
        x = _styled(layer, x, style, slot)
        if i == 0:
            rgb = _picture(network.generator.to_rgb1, x, style, None)
        elif i % 2 == 0:
            rgb = _picture(network.generator.to_rgbs[i // 2 - 1], x, style, rgb)
    assert rgb is not None  # there is at least one layer
    return rgb


def _encode(network: FullGenerator, image: Tensor) -> list[Tensor]:
    features = [image]
    for level in range(network.levels):
        *blur, conv, activation = network.get_submodule(f"ecd{level}.0").children()
        x = _filtered(features[-1], blur[0].kernel, padding=2) if blur else features[-1]
        weight, bias = conv.weight * (conv.scale * GAIN), activation.bias * GAIN
        features.append(F.leaky_relu_(F.conv2d(x, weight, bias, stride=conv.stride), SLOPE))
    return features[:0:-1]


def _styled(layer: StyledConv, x: Tensor, style: Tensor, slot: Tensor) -> Tensor:
    conv, bias = layer.conv, layer.activate.bias * GAIN
    y, demodulation = _modulated(conv, x, style)
    drawn_bias, skip_bias = bias.split((y.shape[1], slot.shape[1]))
    drawn = _scaled(y, demodulation * GAIN, drawn_bias)
    skip = _scaled(slot, (layer.noise.weight * GAIN).expand(1, slot.shape[1]), skip_bias)
    return F.leaky_relu_(torch.cat((drawn, skip), dim=1), SLOPE)


def _modulated(conv: ModulatedConv2d, x: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
    """The convolution without its demodulation, and that, `(N, C)`."""
    weight, scales = conv.weight[0] * conv.scale, conv.modulation(style).float()
    demodulation = torch.rsqrt(scales.square() @ weight.square().sum((2, 3)).t() + EPS)
    x = x * scales[:, :, None, None].to(x.dtype)
    if not conv.upsample:
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2), demodulation
    return _filtered(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), conv.blur.kernel, 1), demodulation


def _picture(layer: ToRGB, x: Tensor, style: Tensor, below: Tensor | None) -> Tensor:
    rgb = _modulated(layer.conv, x, style)[0].float() + layer.bias
    if below is None:
        return rgb
    kernel = layer.upsample.kernel[None, None].repeat(3, 1, 1, 1)
    return rgb + F.conv_transpose2d(below, kernel, stride=2, padding=1, groups=3).float()


def _filtered(x: Tensor, kernel: Tensor, padding: int) -> Tensor:
    return F.conv2d(x, kernel[None, None].repeat(x.shape[1], 1, 1, 1), padding=padding, groups=x.shape[1])


def _scaled(x: Tensor, factor: Tensor, offset: Tensor) -> Tensor:
    """`x` times `factor` `(N, C)` plus `offset` `(C)`, in the precision of `x`."""
    return torch.addcmul(offset[:, None, None].to(x.dtype), x, factor[:, :, None, None].to(x.dtype))
