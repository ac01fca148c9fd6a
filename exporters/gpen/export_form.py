"""GPEN rewritten for engines: the same numbers with constant weights, any batch, and less memory.

**Modulated convolution.** The original makes one weight per sample, W'[o,i] = W[o,i] s[i] d[o] with the style s and
d[o] = rsqrt(sum_{i,k} (W[o,i,k] s[i])^2 + eps). Both factors come out of the convolution:

    y = d * conv(s * x, W),   d = rsqrt(s^2 . W2 + eps),   W2[i,o] = sum_k W[o,i,k]^2                       (constant)

**Demodulation.** d > 0 and a leaky ReLU f passes positive factors, so with y = conv(s * x, W) before demodulation

    sqrt(2) f(d y + b) = (sqrt(2) d) f(y + b / d)

and the factor on the left waits for the next layer, which scales its input by a style anyway: one multiplication of
a picture per layer is saved, and pictures are never stored demodulated.

**Gains.** sqrt(2) f(z) = f(sqrt(2) z) goes into weights and biases where both are constant: the encoder, the style MLP
and the skip half f(sqrt(2) noise_weight e + sqrt(2) b). Scales of equalised learning rates go into weights as well.

**Concatenations.** concat(x, e) is never made at the size of its level: act and scaling work on halves, and the next
convolution is conv(x, W[:, :X]) + conv(e, W[:, X:]), whose sum engines fuse. Only before an upsampling convolution
the scaled halves are joined: they are small there, and a sum behind it would be four times as large.

**Recomputed skip.** e_S, the encoder's first feature, has as many values as the widest picture, and is used first and
last. As it is a 1x1 convolution of the photo, it is made anew where it is used instead of being kept. So that planners
do not make it early and keep it after all, the convolution also reads the RGB image of the level below, with weights 0.

The convolutions are in gpen_convolutions.py. A dense transposed one stays 3x3 with the FIR filter, a constant depthwise
convolution, behind it: folding the two into one has the multiplications of a 6x6 kernel, four times as many
(docs/decisions/030).
"""

from __future__ import annotations

from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exporters.gpen.convolutions import Downsampling, convolution, depthwise
from exporters.gpen.layers import EPS, GAIN, SLOPE, EqualLinear, StyledConv, ToRGB
from exporters.gpen.network import EncoderStage, FullGenerator
from exporters.graphs.folding import frozen, linear_of


class Halves(NamedTuple):
    """A level's activated picture: the generator's half, still to be scaled per channel, and the encoder's."""

    drawn: Tensor
    pending: Tensor
    skip: Tensor

    def scaled(self, style: Tensor) -> tuple[Tensor, Tensor]:
        """Both halves, scaled by a style `(N, C)`."""
        drawn, skip = style.split((self.drawn.shape[1], self.skip.shape[1]), dim=1)
        return self.drawn * _per_channel(drawn * self.pending), self.skip * _per_channel(skip)


class ExportForm(nn.Module):
    """GPEN in its export form, equal to the faithful `network`."""

    def __init__(self, network: FullGenerator) -> None:
        super().__init__()
        generator, plan = network.generator, network.architecture
        layers, pictures = [generator.conv1, *generator.convs], [generator.to_rgb1, *generator.to_rgbs]
        halves = list(zip(plan.styled, plan.skips, strict=True))  # channels behind each layer
        full_size = layers[-2:] if plan.in_size == plan.out_size else []
        first, *stages = (network.get_submodule(f"ecd{level}.0") for level in range(network.levels))
        self.encoder = nn.ModuleList([_FirstStage(first), *map(Downsampling, stages)])
        self.styles = _Styles(network, [part.conv.modulation for part in (*layers, *pictures)], len(layers))
        self.constant = nn.Buffer(generator.input.input.detach().clone())
        self.layers = nn.ModuleList(map(_StyledLayer, layers, [None, *halves]))
        self.redrawn = nn.ModuleList(_RedrawnSkip(network, layer) for layer in full_size)
        self.pictures = nn.ModuleList(map(_Picture, pictures, halves[::2]))

    def forward(self, image: Tensor, *noise: Tensor) -> Tensor:
        """The restored face, float32 `(N, 3, S, S)` RGB around [-1, 1], not clipped, of an image of the same form.

        `noise` fills the slots of the levels above the input's size, if there are any (`Architecture.noise_shapes`).
        """
        features = self._encode(image)
        slots = [features[0], *(feature for feature in features[1:] for _ in range(2)), *noise]
        layer_styles, picture_styles = self.styles(features[0].flatten(1))
        halves = rgb = below = None
        for i, layer in enumerate(self.layers):
            if layer.upsample:
                below = self.pictures[i // 2 + 1].enlarged(rgb)
            redrawn = i - len(self.layers) + len(self.redrawn)
            skip = layer.skip(slots[i]) if redrawn < 0 else self.redrawn[redrawn](image, below)
            style = layer_styles[i]
            inputs = halves.scaled(style) if halves else (self.constant * _per_channel(style),)
            drawn, demodulation = layer(inputs, style)
            halves = Halves(drawn, GAIN * demodulation, skip)
            if i % 2 == 0:
                rgb = self.pictures[i // 2](halves, picture_styles[i // 2], below)
        assert rgb is not None  # there is at least one layer
        return rgb

    def _encode(self, image: Tensor) -> list[Tensor]:
        """The encoder's features from e_4 to e_S."""
        features = [image]
        for stage in self.encoder:
            features.append(stage(features[-1]))
        return features[:0:-1]


class RestoredLevels(nn.Module):
    """The network between 8-bit levels, as the authors feed it and read it: float32 `(N, 3, S, S)` RGB in [0, 255].

    `normalised` networks work in [-1, 1]; the others (Seg2face) in [0, 1]. Levels are clipped, and left for a cast to
    truncate. Source: the original's FaceGAN.process.
    """

    def __init__(self, form: ExportForm, normalised: bool = True) -> None:
        super().__init__()
        self.form, self.normalised = form, normalised

    def forward(self, levels: Tensor, *noise: Tensor) -> Tensor:
        if self.normalised:
            return (self.form(levels / 127.5 - 1, *noise) * 127.5 + 127.5).clamp(0, 255)
        return (self.form(levels / 255, *noise) * 255).clamp(0, 255)


class _FirstStage(nn.Module):
    """The encoder at full size: f(conv(x) + b), gains and scales in the weights."""

    def __init__(self, stage: EncoderStage) -> None:
        super().__init__()
        conv, activation = stage.children()
        self.weight = nn.Buffer((conv.weight * (conv.scale * GAIN)).detach())
        self.bias = nn.Buffer(activation.bias.detach() * GAIN)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(F.conv2d(x, self.weight, self.bias), SLOPE)


class _Styles(nn.Module):
    """From the encoder's last feature to the styles of all layers: their linear layers are one."""

    def __init__(self, network: FullGenerator, modulations: list[EqualLinear], count: int) -> None:
        """The first `count` modulations are those of layers, the others those of RGB pictures."""
        super().__init__()
        layers = [network.final_linear[0], *list(network.generator.style)[1:]]
        self.mlp = nn.ModuleList(_linear([layer], GAIN) for layer in layers)
        self.modulation = _linear(modulations, 1)
        self.eps = _eps(layers[0].weight.shape[0])
        self.widths = [modulation.weight.shape[0] for modulation in modulations]
        self.count = count

    def forward(self, feature: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The styles `(N, C)` of the layers and of the RGB pictures."""
        first, *others = self.mlp
        w = F.leaky_relu(first(feature), SLOPE)
        w = w * torch.rsqrt((w * w).mean(dim=1, keepdim=True) + self.eps)
        for layer in others:
            w = F.leaky_relu(layer(w), SLOPE)
        styles = self.modulation(w).split(self.widths, dim=1)
        return list(styles[: self.count]), list(styles[self.count :])


def _eps(count: int) -> Tensor:
    """EPS as a vector: a scalar so near to zero is taken for zero, and the addition dropped, by torch's exporter."""
    return nn.Buffer(torch.full((count,), EPS))


class _StyledLayer(nn.Module):
    """A styled convolution before its demodulation, and the skip half beside it."""

    def __init__(self, layer: StyledConv, halves: tuple[int, int] | None) -> None:
        """`halves` are the channels of the two halves of its input, None for the constant."""
        super().__init__()
        conv = layer.conv
        outputs = conv.weight.shape[1]
        bias = layer.activate.bias.detach().view(1, -1, 1, 1)
        self.upsample = conv.upsample
        self.convolution = convolution(conv, halves)
        self.squares = nn.Buffer(deepcopy(conv).double().squares().detach().t().float().contiguous())
        self.eps = _eps(outputs)
        self.bias = nn.Buffer(bias[:, :outputs, 0, 0].clone())
        self.skip_gain = nn.Buffer(layer.noise.weight.detach() * GAIN)
        self.skip_bias = nn.Buffer(bias[:, outputs:] * GAIN)

    def forward(self, inputs: tuple[Tensor, ...], style: Tensor) -> tuple[Tensor, Tensor]:
        """f(y + b / d) of the already scaled inputs, and the d that is still to be multiplied, `(N, C)`."""
        norm = torch.sqrt((style * style) @ self.squares + self.eps)  # 1 / d
        return self.convolution(inputs, self.bias * norm), 1 / norm

    def skip(self, feature: Tensor) -> Tensor:
        """The encoder's half of the activated picture."""
        return F.leaky_relu(feature * self.skip_gain + self.skip_bias, SLOPE)


class _RedrawnSkip(nn.Module):
    """The skip half of a full-size layer, made anew from the photo.

    sqrt(2) n f(z) with the noise weight n is sign(n) f(sqrt(2) |n| z): the factor goes into the 1x1 convolution.
    """

    def __init__(self, network: FullGenerator, layer: StyledConv) -> None:
        super().__init__()
        conv, activation = network.get_submodule("ecd0.0").children()
        noise = float(layer.noise.weight.detach())
        factor = GAIN * GAIN * abs(noise)
        weight = (conv.weight * (conv.scale * factor)).detach()
        self.sign = -1 if noise < 0 else 1
        self.weight = nn.Buffer(torch.cat((weight, torch.zeros_like(weight)), dim=1))
        self.bias = nn.Buffer(activation.bias.detach() * factor)
        skip_bias = layer.activate.bias.detach()[-conv.weight.shape[0] :]
        self.skip_bias = nn.Buffer(skip_bias.view(1, -1, 1, 1) * GAIN)

    def forward(self, image: Tensor, below: Tensor) -> Tensor:
        """`below`, the RGB image so far at full size, has weights 0: it only says when."""
        feature = F.leaky_relu(F.conv2d(torch.cat((image, below), dim=1), self.weight, self.bias), SLOPE)
        return F.leaky_relu(self.skip_bias + feature if self.sign > 0 else self.skip_bias - feature, SLOPE)


class _Picture(nn.Module):
    """The RGB image of a level: modulated 1x1 convolutions of both halves, on top of the enlarged image below."""

    def __init__(self, picture: ToRGB, halves: tuple[int, int]) -> None:
        super().__init__()
        weight = (picture.conv.weight[0] * picture.conv.scale).detach()
        self.weights = nn.ParameterList(frozen(part) for part in weight.split(halves, dim=1))
        self.bias = nn.Buffer(picture.bias.detach().flatten())
        self.fir = nn.Buffer(depthwise(picture.upsample.kernel, 3)) if hasattr(picture, "upsample") else None

    def forward(self, halves: Halves, style: Tensor, below: Tensor | None) -> Tensor:
        drawn, skip = halves.scaled(style)
        rgb = F.conv2d(drawn, self.weights[0], self.bias) + F.conv2d(skip, self.weights[1])
        return rgb if below is None else rgb + below

    def enlarged(self, rgb: Tensor) -> Tensor:
        """Twice the size: zero insertion and the FIR filter are a transposed convolution."""
        return F.conv_transpose2d(rgb, self.fir, stride=2, padding=1, groups=3)


def _per_channel(values: Tensor) -> Tensor:
    """`(N, C)` as `(N, C, 1, 1)`, to be broadcast over pictures."""
    return values[:, :, None, None]


def _linear(layers: list[EqualLinear], gain: float) -> nn.Linear:
    """Linear layers of the same input as one, scales and gain in its weights."""
    return linear_of(
        torch.cat([layer.weight * (layer.scale * gain) for layer in layers]),
        torch.cat([layer.bias * (layer.lr_mul * gain) for layer in layers]),
    )
