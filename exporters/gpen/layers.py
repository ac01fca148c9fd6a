"""The layers that GPEN is made of, each computed as its authors do; those of a student are depthwise-separable.

Weights are stored as N(0, 1) and scaled when used, by one over the square root of the inputs to a sum (equalised
learning rate). A separable convolution has W[o,i,k] = p[o,i] c[i,k] in place of its weight; an upsampling one
p[o,i] c[o,k], so that mixing comes first, at the small size. The scales of p and c make that of a dense W: factors of a
stored dense weight are the weights to store.

`SharedModulatedConv2d` is what a separable one builds on: no weight per sample, but d * conv(s * x, W) with the style s
and the demodulation d (the algebra is in `export_form.py`).

Source: Karras et al., Analyzing and Improving the Image Quality of StyleGAN, CVPR 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GAIN = math.sqrt(2)
SLOPE = 0.2
STYLE_LR = 0.01
EPS = 1e-8
FIR_TAPS = (1.0, 3.0, 3.0, 1.0)
KERNEL = 3


class ConstantInput(nn.Module):
    """The learned 4x4 start of the generator."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, batch: int) -> Tensor:
        return self.input.repeat(batch, 1, 1, 1)


class PixelNorm(nn.Module):
    """Vectors scaled to a mean square of one."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(dim=1, keepdim=True) + EPS)


class EqualLinear(nn.Module):
    """A linear layer with equalised learning rate, with or without activation."""

    def __init__(
        self, inputs: int, outputs: int, lr_mul: float = 1.0, bias_init: float = 0.0, activation: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_mul)
        self.bias = nn.Parameter(torch.full((outputs,), bias_init))
        self.scale, self.lr_mul, self.activation = lr_mul / math.sqrt(inputs), lr_mul, activation

    def forward(self, x: Tensor) -> Tensor:
        if self.activation:
            return fused_leaky_relu(F.linear(x, self.weight * self.scale), self.bias * self.lr_mul)
        return F.linear(x, self.weight * self.scale, self.bias * self.lr_mul)


class EqualConv2d(nn.Module):
    """A convolution with equalised learning rate, without bias or padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale, self.stride = 1 / math.sqrt(inputs * kernel**2), stride

    def forward(self, x: Tensor, bias: Tensor | None = None, gain: float = 1) -> Tensor:
        return F.conv2d(x, self.weight * (self.scale * gain), bias, self.stride)


class SeparableConv2d(nn.Module):
    """A convolution in two: a kernel per input channel, then channels mixed."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.depthwise = nn.Parameter(torch.randn(inputs, 1, KERNEL, KERNEL))
        self.scale, self.depthwise_scale, self.stride = 1 / math.sqrt(inputs), 1 / KERNEL, stride

    def forward(self, x: Tensor, bias: Tensor | None = None, gain: float = 1) -> Tensor:
        filtered = F.conv2d(x, self.depthwise * self.depthwise_scale, stride=self.stride, groups=x.shape[1])
        return F.conv2d(filtered, self.weight * (self.scale * gain), bias)


class FusedLeakyReLU(nn.Module):
    """Bias per channel, leaky ReLU, and a gain that keeps the variance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return fused_leaky_relu(x, self.bias)


class Blur(nn.Module):
    """The FIR filter, after padding."""

    kernel: Tensor

    def __init__(self, gain: float, padding: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(gain))
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        return filtered(x, self.kernel, self.padding)


class Upsample(nn.Module):
    """Twice the size: zeros between the pixels, then the FIR filter."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", fir_kernel(4))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        spread = F.pad(x.reshape(batch, channels, height, 1, width, 1), (0, 1, 0, 0, 0, 1))
        return filtered(spread.reshape(batch, channels, 2 * height, 2 * width), self.kernel, (2, 1))


class ModulatedConv2d(nn.Module):
    """A convolution whose weight a style scales per input channel; demodulating normalises it per output channel."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style_dim: int, demodulate: bool = True, upsample: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, kernel, kernel))
        if upsample:
            self.blur = Blur(4, (1, 1))
        self.modulation = EqualLinear(style_dim, inputs, bias_init=1.0)
        self.scale, self.demodulate, self.upsample = 1 / math.sqrt(inputs * kernel**2), demodulate, upsample

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        batch, inputs, height, width = x.shape
        weight = self.scale * self.weight * self.modulation(style).view(batch, 1, inputs, 1, 1)
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.pow(2).sum((2, 3, 4), keepdim=True) + EPS)
        grouped = x.reshape(1, batch * inputs, height, width)
        outputs, kernel = weight.shape[1], weight.shape[-1]
        if self.upsample:
            weight = weight.transpose(1, 2).reshape(batch * inputs, outputs, kernel, kernel)
            y = F.conv_transpose2d(grouped, weight, stride=2, groups=batch)
            return self.blur(y.view(batch, outputs, *y.shape[-2:]))
        weight = weight.view(batch * outputs, inputs, kernel, kernel)
        y = F.conv2d(grouped, weight, padding=kernel // 2, groups=batch)
        return y.view(batch, outputs, *y.shape[-2:])

    def squares(self) -> Tensor:
        """The squares of the unmodulated weight, summed over the kernel, `(O, I)`."""
        return (self.weight[0] * self.scale).square().sum((2, 3))


class SharedModulatedConv2d(ModulatedConv2d):
    """A modulated convolution whose weight all samples share."""

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        y, demodulation = self.apart(x, style)
        return y if demodulation is None else y * per_channel(demodulation, y)

    def apart(self, x: Tensor, style: Tensor) -> tuple[Tensor, Tensor | None]:
        """The convolution before it is demodulated, and the factor `(N, O)` that does, None where nothing is."""
        scales = self.modulation(style).float()
        y = self.convolved(x * per_channel(scales, x))
        if not self.demodulate:
            return y, None
        # Not a matrix product, which autocast would take out of float32 (docs/decisions/052).
        return y, torch.rsqrt((scales.square()[:, None] * self.squares()).sum(2) + EPS)

    def convolved(self, x: Tensor) -> Tensor:
        """The convolution of pictures that are scaled already."""
        weight = self.weight[0] * self.scale
        if self.upsample:
            return self.blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2))
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class SeparableModulatedConv2d(SharedModulatedConv2d):
    """A modulated convolution in two: a kernel per channel, and channels mixed, which comes first when upsampling."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, upsample: bool = False) -> None:
        super().__init__(inputs, outputs, 1, style_dim, upsample=upsample)
        self.depthwise = nn.Parameter(torch.randn(outputs if upsample else inputs, 1, KERNEL, KERNEL))
        self.depthwise_scale = 1 / KERNEL

    def convolved(self, x: Tensor) -> Tensor:
        weight, depthwise = self.weight[0] * self.scale, self.depthwise * self.depthwise_scale
        if self.upsample:
            return self.blur(F.conv_transpose2d(F.conv2d(x, weight), depthwise, stride=2, groups=len(depthwise)))
        return F.conv2d(F.conv2d(x, depthwise, padding=KERNEL // 2, groups=len(depthwise)), weight)

    def squares(self) -> Tensor:
        kernels = (self.depthwise * self.depthwise_scale).square().sum((1, 2, 3))
        return super().squares() * (kernels[:, None] if self.upsample else kernels)


class NoiseInjection(nn.Module):
    """What a noise slot holds, scaled and put beside the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, slot: Tensor) -> Tensor:
        return torch.cat((x, self.weight * slot), dim=1)


class StyledConv(nn.Module):
    """Modulated convolution, noise slot, activation."""

    def __init__(self, conv: ModulatedConv2d, outputs: int) -> None:
        """`outputs` are the channels of the convolution and of the noise slot."""
        super().__init__()
        self.conv = conv
        self.noise = NoiseInjection()
        self.activate = FusedLeakyReLU(outputs)

    def forward(self, x: Tensor, style: Tensor, slot: Tensor) -> Tensor:
        activated: Tensor = self.activate(self.noise(self.conv(x, style), slot))
        return activated


class ToRGB(nn.Module):
    """The picture at one level, added to that of the level below."""

    def __init__(self, inputs: int, style_dim: int, upsample: bool = True) -> None:
        super().__init__()
        if upsample:
            self.upsample = Upsample()
        self.conv = ModulatedConv2d(inputs, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(self, x: Tensor, style: Tensor, below: Tensor | None = None) -> Tensor:
        rgb: Tensor = self.conv(x, style) + self.bias
        return rgb if below is None else rgb + self.upsample(below)


def fused_leaky_relu(x: Tensor, bias: Tensor) -> Tensor:
    """sqrt(2) * leaky_relu(x + bias), the bias along axis 1."""
    return F.leaky_relu(x + bias.view(1, -1, *[1] * (x.ndim - 2)), SLOPE) * GAIN


def per_channel(values: Tensor, picture: Tensor) -> Tensor:
    """`(N, C)` as `(N, C, 1, 1)` in the precision of a picture, to be broadcast over it."""
    return values[:, :, None, None].to(picture.dtype)


def fir_kernel(gain: float) -> Tensor:
    """The binomial filter [1, 3, 3, 1] x [1, 3, 3, 1] with sum `gain`, float32 `(4, 4)`."""
    taps = torch.tensor(FIR_TAPS)
    kernel = torch.outer(taps, taps)
    return kernel / kernel.sum() * gain


def filtered(x: Tensor, kernel: Tensor, padding: tuple[int, int]) -> Tensor:
    """`x` padded by zeros before and after, then every channel filtered by `kernel`."""
    before, after = padding
    batch, channels = x.shape[:2]
    padded = F.pad(x, (before, after, before, after)).flatten(0, 1).unsqueeze(1)
    return F.conv2d(padded, kernel.flip(0, 1)[None, None]).view(batch, channels, *_side(padded, kernel))


def _side(padded: Tensor, kernel: Tensor) -> tuple[int, int]:
    return padded.shape[-2] - kernel.shape[0] + 1, padded.shape[-1] - kernel.shape[1] + 1
