"""Rewrites that make a network cheaper to run and leave its function as it is.

BatchNorm     after a convolution is a scale and a shift of each output channel: they go into its weights
DoubledConv2d a 3x3 convolution of an image doubled by repetition: each output pixel sees only 2x2 different pixels

What export forms compute at export becomes a layer by `convolution_of` and `linear_of`.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval


def without_batch_norms(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode where every BatchNorm that directly follows a convolution is folded into it."""
    return _fold(deepcopy(network).eval())


def _fold(module: nn.Module) -> nn.Module:
    for (name, first), (next_name, second) in pairwise(list(module.named_children())):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            setattr(module, name, fuse_conv_bn_eval(first, second))
            setattr(module, next_name, nn.Identity())
    for child in module.children():
        _fold(child)
    return module


def convolution_of(weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 0) -> nn.Conv2d:
    """The convolution with this weight `(outputs, inputs, k, k)` and bias, neither of which learns."""
    outputs, inputs, kernel, _ = weight.shape
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=bias is not None, device="meta")
    convolution.weight = frozen(weight)
    if bias is not None:
        convolution.bias = frozen(bias)
    return convolution


def linear_of(weight: Tensor, bias: Tensor) -> nn.Linear:
    """The linear layer with this weight `(outputs, inputs)` and bias, neither of which learns."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    linear.weight, linear.bias = frozen(weight), frozen(bias)
    return linear


class DoubledConv2d(nn.Module):
    """`convolution` (3x3) of x doubled by nearest neighbours, with 4/9 of the multiplications.

    Along one axis, the kernel (a, b, c) meets the repeated pixels ... x[i-1], x[i], x[i], x[i+1] ...:

        out[2i]     = a x[i-1] + (b + c) x[i]
        out[2i + 1] = (a + b) x[i] + c x[i+1]

    Both are kernels of two taps, so one 2x2 convolution of x with four times the channels gives all four phases. On x
    with a border of one pixel it gives even[0], odd[0], even[1], ..., where odd[k] is out[2k - 1]. Interleaved odd
    before even these are out[-1], out[0], ..., out[2h]: without first and last, the result.

    x comes with its border of one pixel, or gets one of zeros by `padding`. Where the doubled image is to be reflected,
    the border is x's edge repeated, because the doubled image starts with two equal pixels.
    """

    def __init__(self, convolution: nn.Conv2d, padding: int = 0) -> None:
        super().__init__()
        weight, bias = convolution.weight.detach(), convolution.bias.detach()
        order = [(row, column) for row in ("odd", "even") for column in ("odd", "even")]
        phases = [_two_taps(_two_taps(weight, 2, row), 3, column) for row, column in order]
        self.phases = convolution_of(
            torch.stack(phases, dim=1).flatten(0, 1), bias.repeat_interleave(4), padding=padding
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, 2h, 2w)` of x without, or with, its border."""
        return F.pixel_shuffle(self.phases(x), 2)[:, :, 1:-1, 1:-1]


def product(first: Tensor, second: Tensor) -> Tensor:
    """`first` `(a, b)` times `second` `(b, ...)`, two weights.

    In float64, the order in which a processor adds up does not reach the bytes of an export.
    """
    return torch.tensordot(first.detach().double(), second.detach().double(), dims=1).float()


def frozen(weight: Tensor) -> nn.Parameter:
    """A weight that does not learn."""
    return nn.Parameter(weight.detach().contiguous(), requires_grad=False)


def _two_taps(kernel: Tensor, axis: int, phase: str) -> Tensor:
    a, b, c = kernel.unbind(axis)
    return torch.stack((a, b + c) if phase == "even" else (a + b, c), axis)
