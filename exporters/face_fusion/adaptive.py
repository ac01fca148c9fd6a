"""The layers that draw the fused face: normalised pixels, coloured anew by the template here and the identity there.

AAD, adaptive attentional denormalization (FaceShifter, arXiv 1912.13457): of the normalised picture n, one version is
made from the template's attributes, one from the identity, and a mask made of n itself mixes them, pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-5
SLOPE = 0.2


class AadLayer(nn.Module):
    """`channels` of a picture coloured by `attributes` channels of the template and an `identity` of so many numbers.

    `hidden` is what is made of the template's attributes for all channels together.
    """

    def __init__(self, channels: int, attributes: int, identity: int, hidden: int) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(attributes, hidden, 3), nn.ReLU())
        self.conv1 = _reflecting(hidden, channels)
        self.conv2 = _reflecting(hidden, channels)
        self.fc1 = nn.Linear(identity, channels)
        self.fc2 = nn.Linear(identity, channels)
        self.conv_h = _reflecting(channels, 1)

    def forward(self, x: Tensor, attributes: Tensor, identity: Tensor) -> Tensor:
        """`(N, channels, h, w)` of the same, `(N, attributes, h, w)` and `(N, identity)`."""
        normal = positional_norm(x)
        shared = self.mlp_shared(attributes)
        by_template = self.conv1(shared) * normal + self.conv2(shared)
        by_identity = _everywhere(self.fc1(identity)) * normal + _everywhere(self.fc2(identity))
        mask = self.conv_h(normal).sigmoid()
        return (1 - mask) * by_template + mask * by_identity


class BlockWidths(NamedTuple):
    """Channels of a block; `hidden` are its layers', three where the shortcut has one."""

    inputs: int
    inner: int
    outputs: int
    attributes: int
    hidden: Sequence[int]


class AadBlock(nn.Module):
    """Two coloured convolutions beside a shortcut, which has one of its own where the number of channels changes."""

    def __init__(self, widths: BlockWidths, identity: int) -> None:
        super().__init__()
        inputs, inner, outputs, attributes, (first, second, *third) = widths
        self.AAD1 = AadLayer(inputs, attributes, identity, first)
        self.AAD2 = AadLayer(inner, attributes, identity, second)
        self.conv1 = SpectralConv2d(inputs, inner, 3)
        self.conv2 = SpectralConv2d(inner, outputs, 3)
        self.shortens = bool(third)
        if self.shortens:
            self.AAD3 = AadLayer(inputs, attributes, identity, *third)
            self.conv3 = SpectralConv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor, attributes: Tensor, identity: Tensor) -> Tensor:
        """`(N, outputs, h, w)`."""
        y = self.conv1(_bordered(F.leaky_relu(self.AAD1(x, attributes, identity), SLOPE)))
        y = self.conv2(_bordered(F.leaky_relu(self.AAD2(y, attributes, identity), SLOPE)))
        return y + (self.conv3(self.AAD3(x, attributes, identity)) if self.shortens else x)


class SelfAttention(nn.Module):
    """Each pixel and what it finds alike in the whole picture, of half the size (SAGAN, arXiv 1805.08318)."""

    def __init__(self, channels: int, keys: int, values: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(()))
        self.theta = SpectralConv2d(channels, keys, 1, bias=False)
        self.phi = SpectralConv2d(channels, keys, 1, bias=False)
        self.g = SpectralConv2d(channels, values, 1, bias=False)
        self.o = SpectralConv2d(values, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, channels, h, w)`."""
        asked = self.theta(x).flatten(2)
        keys, values = (F.max_pool2d(project(x), 2).flatten(2) for project in (self.phi, self.g))
        alike = (asked.transpose(1, 2) @ keys).softmax(-1)
        found = (values @ alike.transpose(1, 2)).unflatten(2, x.shape[2:])
        return self.o(found) * self.gamma + x


class SpectralConv2d(nn.Module):
    """A convolution without padding, its weight divided by the spectral norm that the checkpoint's u and v tell."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool = True) -> None:
        super().__init__()
        self.module = SpectralWeight(inputs, outputs, kernel, bias)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, h, w)`."""
        return F.conv2d(x, self.module.normalised(), self.module.bias)


class SpectralWeight(nn.Module):
    """The weight as it is trained, `weight_bar`, and the vectors at which its training left the power iteration."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.weight_u = nn.Parameter(F.normalize(torch.randn(outputs), dim=0))
        self.weight_v = nn.Parameter(F.normalize(torch.randn(inputs * kernel * kernel), dim=0))
        self.weight_bar = nn.Parameter(nn.Conv2d(inputs, outputs, kernel).weight.detach())

    def normalised(self) -> Tensor:
        """The weight that is used; u and v are the stored ones, which need not have converged.

        In float64, the order in which a processor adds up does not reach the norm, nor the bytes of an export.
        """
        norm = self.weight_u.double() @ (self.weight_bar.double().flatten(1) @ self.weight_v.double())
        return self.weight_bar / norm.float()


def positional_norm(x: Tensor) -> Tensor:
    """Each pixel normalised over its channels, by their unbiased variance."""
    return (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, unbiased=True) + EPSILON).sqrt()


def _reflecting(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")


def _bordered(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="reflect")


def _everywhere(of_channels: Tensor) -> Tensor:
    """`(N, C)` as `(N, C, 1, 1)`."""
    return of_channels[:, :, None, None]
