"""The convolutions of GPEN's export form, of pictures that are scaled already, with constant weights: f(conv(x) + b).

A dense layer reads the halves of a picture by a convolution each and adds them; only before upsampling they are joined,
as a sum behind it would be four times as large. A separable layer mixes at the small size, where a sum is small.

**Two filters in a row are one.** Where a student has a kernel per channel behind or before the FIR filter, their full
convolution k, 6x6, does both. Going down, it is a depthwise convolution of stride 2. Going up, the result pixel
(2h+a, 2v+b) sees the 3x3 taps k[4+a-2i, 4+b-2j] of the small picture: a convolution with four results per channel,
which DepthToSpace then puts in their places. That is half the multiplications of the two filters, and engines run it
faster than a depthwise transposed convolution (docs/decisions/094). The activation comes before, where engines fuse it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exporters.gpen.layers import (
    GAIN,
    KERNEL,
    SLOPE,
    ModulatedConv2d,
    SeparableConv2d,
    SeparableModulatedConv2d,
)
from exporters.gpen.network import EncoderStage
from exporters.graphs.folding import frozen

Halves = tuple[int, int] | None


def convolution(conv: ModulatedConv2d, halves: Halves) -> nn.Module:
    """The module that convolves and activates a picture given in halves of so many channels, or, with None, as one."""
    if isinstance(conv, SeparableModulatedConv2d):
        return _SeparableUpsampling(conv, halves) if conv.upsample else _Separable(conv, halves)
    return _DenseUpsampling(conv) if conv.upsample else _Dense(conv, halves)


class Downsampling(nn.Module):
    """A level of the encoder: FIR filter, convolution of stride 2, activation, whose gain is in the weights."""

    def __init__(self, stage: EncoderStage) -> None:
        super().__init__()
        blur, conv, activation = stage.children()
        kernel = blur.kernel
        self.weight = nn.Buffer((conv.weight * (conv.scale * GAIN)).detach())
        self.bias = nn.Buffer(activation.bias.detach() * GAIN)
        separable = isinstance(conv, SeparableConv2d)
        fir = depthwise(kernel, conv.weight.shape[1])
        self.filter = nn.Buffer(_both(conv.depthwise * conv.depthwise_scale, kernel) if separable else fir)
        self.strides = (2, 1) if separable else (1, 2)

    def forward(self, x: Tensor) -> Tensor:
        smooth = F.conv2d(x, self.filter, stride=self.strides[0], padding=2, groups=x.shape[1])
        return F.leaky_relu(F.conv2d(smooth, self.weight, self.bias, self.strides[1]), SLOPE)


class _Dense(nn.Module):
    def __init__(self, conv: ModulatedConv2d, halves: Halves) -> None:
        super().__init__()
        self.weights = _parts((conv.weight[0] * conv.scale).detach(), halves, axis=1)

    def forward(self, inputs: tuple[Tensor, ...], bias: Tensor) -> Tensor:
        pictures = zip(inputs, self.weights, strict=True)
        return _activated(_sum(F.conv2d(x, weight, padding=1) for x, weight in pictures), bias)


class _DenseUpsampling(nn.Module):
    def __init__(self, conv: ModulatedConv2d) -> None:
        super().__init__()
        self.weight = frozen((conv.weight[0] * conv.scale).transpose(0, 1))
        self.fir = nn.Buffer(depthwise(conv.blur.kernel, conv.weight.shape[1]))

    def forward(self, inputs: tuple[Tensor, ...], bias: Tensor) -> Tensor:
        doubled = F.conv_transpose2d(torch.cat(inputs, dim=1), self.weight, stride=2)
        return _activated(F.conv2d(doubled, self.fir, padding=1, groups=doubled.shape[1]), bias)


class _Separable(nn.Module):
    def __init__(self, conv: SeparableModulatedConv2d, halves: Halves) -> None:
        super().__init__()
        self.kernels = _parts((conv.depthwise * conv.depthwise_scale).detach(), halves, axis=0)
        self.weights = _parts((conv.weight[0] * conv.scale).detach(), halves, axis=1)

    def forward(self, inputs: tuple[Tensor, ...], bias: Tensor) -> Tensor:
        pictures = zip(inputs, self.kernels, strict=True)
        filtered = [F.conv2d(x, kernel, padding=KERNEL // 2, groups=x.shape[1]) for x, kernel in pictures]
        return _activated(_sum(F.conv2d(x, weight) for x, weight in zip(filtered, self.weights, strict=True)), bias)


class _SeparableUpsampling(nn.Module):
    def __init__(self, conv: SeparableModulatedConv2d, halves: Halves) -> None:
        super().__init__()
        self.weights = _parts((conv.weight[0] * conv.scale).detach(), halves, axis=1)
        kernel = _both(conv.depthwise * conv.depthwise_scale, conv.blur.kernel)
        places = [kernel[:, :, a::2, b::2].flip(2, 3) for a in (0, 1) for b in (0, 1)]
        self.kernels = nn.Buffer(torch.stack(places, dim=1).flatten(0, 1).contiguous())

    def forward(self, inputs: tuple[Tensor, ...], bias: Tensor) -> Tensor:
        mixed = _sum(F.conv2d(x, weight) for x, weight in zip(inputs, self.weights, strict=True))
        places = F.conv2d(mixed, self.kernels, padding=1, groups=mixed.shape[1])
        return F.pixel_shuffle(_activated(places, bias[:, :, None].expand(-1, -1, 4).flatten(1)), 2)


def depthwise(kernel: Tensor, channels: int) -> Tensor:
    """One kernel `(h, w)` for every channel, `(channels, 1, h, w)`."""
    return kernel.detach()[None, None].repeat(channels, 1, 1, 1)


def _activated(y: Tensor, bias: Tensor) -> Tensor:
    return F.leaky_relu(y + bias[:, :, None, None], SLOPE)


def _both(kernels: Tensor, fir: Tensor) -> Tensor:
    """The kernels `(C, 1, 3, 3)` and the FIR filter `(4, 4)`, which is symmetric, as one, `(C, 1, 6, 6)`."""
    return F.conv_transpose2d(kernels.detach(), fir[None, None])


def _parts(weight: Tensor, halves: Halves, axis: int) -> nn.ParameterList:
    return nn.ParameterList(frozen(part) for part in (weight.split(halves, dim=axis) if halves else (weight,)))


def _sum(terms: Iterable[Tensor]) -> Tensor:
    first, *others = terms
    return sum(others, first)
