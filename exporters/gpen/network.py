"""GPEN in torch, computed as its authors do: an encoder whose features feed the noise slots of a StyleGAN2 generator.

    e_S = act(1x1 conv image),  e_{r/2} = act(3x3 stride-2 conv of FIR(e_r))          down to e_4
    w   = MLP(PixelNorm(act(linear e_4)))                                              one style for all layers
    x   = styled(constant, e_4);  rgb = to_rgb(x)
    for r = 8 .. S:  x = styled(upsampled x, e_r);  x = styled(x, e_r);  rgb = upsampled rgb + to_rgb(x)
    styled(x, e) = act(concat(modulated conv(x, w), noise_weight * e))

Weights are stored as N(0, 1) and scaled when used (equalised learning rate). The modulated convolution makes one weight
per sample and runs them as groups; the FIR filter runs on (N*C, 1, H, W), its upsampling by inserting zeros. Slow and
wasteful on purpose: this is the reference of fidelity, speed and memory. `export_form.py` is the lean form,
`gpen_training.py` the one that learns.

Every width comes from the shapes of a checkpoint, so that pruned and self-trained ones load as any other. Where the
generator is larger than the encoder (`FullGenerator_SR`), the noise slots above the input's size take fresh noise.

Source: Yang et al., GAN Prior Embedded Network for Blind Face Restoration in the Wild, CVPR 2021; StyleGAN2, CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from exporters.checkpoints.kinds import Shapes
from exporters.gpen.layers import (
    KERNEL,
    STYLE_LR,
    Blur,
    ConstantInput,
    EqualConv2d,
    EqualLinear,
    FusedLeakyReLU,
    ModulatedConv2d,
    PixelNorm,
    SeparableConv2d,
    SeparableModulatedConv2d,
    StyledConv,
    ToRGB,
)


def sizes_in(shapes: Shapes) -> tuple[int, int]:
    """Input and output size of a generator: its encoder halves down to 4, its generator doubles up from 4."""
    levels = sum(key.startswith("ecd") and key.endswith(".weight") for key in shapes)
    doublings = sum(key.startswith("generator.convs.") and key.endswith(".blur.kernel") for key in shapes)
    return 2 ** (levels + 1), 2 ** (doublings + 2)


@dataclass(frozen=True)
class Architecture:
    """All widths of a generator: output channels per encoder level (from the image down), and of each styled conv.

    `separable` generators are students: their 3x3 convolutions are depthwise-separable.
    """

    encoder: tuple[int, ...]
    constant: int
    styled: tuple[int, ...]
    style_dim: int = 512
    style_layers: int = 8
    separable: bool = False

    @classmethod
    def of(
        cls, size: int, narrow: float = 1, channel_multiplier: int = 2, in_size: int | None = None, style_dim: int = 512
    ) -> Self:
        """The published family: 512 channels up to 32 pixels, then halved per doubling, times `narrow`."""

        def channels(resolution: int) -> int:
            wide = 512 if resolution <= 32 else 256 * 64 // resolution * channel_multiplier
            return int(wide * narrow)

        levels = [2**n for n in range(2, size.bit_length())]
        encoder = [level for level in reversed(levels) if level <= (in_size or size)]
        return cls(
            encoder=(channels(encoder[0]), *(channels(level) for level in encoder[1:])),
            constant=channels(4),
            styled=(channels(4), *(channels(level) for level in levels[1:] for _ in range(2))),
            style_dim=style_dim,
        )

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> Self:
        """The widths that a state dict's shapes tell.

        Raises:
            KeyError: a key that tells one is missing.
        """
        in_size, out_size = sizes_in(shapes)
        encoder = [shapes["ecd0.0.0.weight"][0]]
        encoder += [shapes[f"ecd{n}.0.1.weight"][0] for n in range(1, in_size.bit_length() - 2)]
        convs = 2 * (out_size.bit_length() - 3)
        styled = [shapes["generator.conv1.conv.weight"][1]]
        styled += [shapes[f"generator.convs.{n}.conv.weight"][1] for n in range(convs)]
        layers = sum(key.startswith("generator.style.") and key.endswith(".weight") for key in shapes)
        constant, style_dim = shapes["generator.input.input"][1], shapes["final_linear.0.weight"][0]
        separable = any(key.endswith(".depthwise") for key in shapes)
        return cls(tuple(encoder), constant, tuple(styled), style_dim, layers, separable)

    @property
    def in_size(self) -> int:
        """Side of the input image."""
        return int(2 ** (len(self.encoder) + 1))

    @property
    def out_size(self) -> int:
        """Side of the output image."""
        return int(2 ** ((len(self.styled) + 3) // 2))

    @property
    def narrow(self) -> float:
        """How wide the generator is below 64 pixels, 1 being 512 channels."""
        return self.styled[0] / 512

    @property
    def channel_multiplier(self) -> float:
        """How wide it is from 64 pixels on, 1 being 16384 channels divided by the side, times `narrow`."""
        return self.styled[-1] * max(self.out_size, 64) / (256 * 64 * self.narrow)

    @property
    def skips(self) -> tuple[int, ...]:
        """Channels in each styled conv's noise slot: the encoder's, and above its size as many as the conv's own."""
        by_level = self.encoder[::-1]
        levels = [(index + 1) // 2 for index in range(len(self.styled))]
        return tuple(
            by_level[level] if level < len(by_level) else width
            for level, width in zip(levels, self.styled, strict=True)
        )

    @property
    def noise_shapes(self) -> tuple[tuple[int, int, int], ...]:
        """Channels, height and width of each noise that the levels above the input's size take, in call order."""
        first = 2 * len(self.encoder) - 1
        sides = [2 ** (2 + (index + 1) // 2) for index in range(len(self.styled))]
        return tuple((self.skips[i], sides[i], sides[i]) for i in range(first, len(self.styled)))


class FullGenerator(nn.Module):
    """GPEN's generator in its faithful form, at any size and width; keys as published."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        encoder = architecture.encoder
        self.generator = Generator(architecture)
        self.levels = len(encoder)
        self.ecd0 = nn.Sequential(EncoderStage(EqualConv2d(3, encoder[0], 1), FusedLeakyReLU(encoder[0])))
        for n in range(1, self.levels):
            widths = encoder[n - 1], encoder[n]
            conv = SeparableConv2d(*widths, 2) if architecture.separable else EqualConv2d(*widths, KERNEL, 2)
            self.add_module(f"ecd{n}", nn.Sequential(EncoderStage(Blur(1, (2, 2)), conv, FusedLeakyReLU(encoder[n]))))
        self.final_linear = nn.Sequential(EqualLinear(encoder[-1] * 16, architecture.style_dim, activation=True))

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> Self:
        """The generator that takes these tensors as its weights, ready to run.

        Raises:
            KeyError: the state dict lacks keys that tell the widths.
            RuntimeError: keys or shapes that do not fit together.
        """
        network = cls.without_weights(Architecture.from_shapes({key: tuple(t.shape) for key, t in state.items()}))
        network.load_state_dict(state, strict=True, assign=True)
        return network.eval()

    @classmethod
    def without_weights(cls, architecture: Architecture) -> Self:
        """A generator that knows its keys and shapes and holds nothing yet: `load_state_dict(..., assign=True)` it."""
        with torch.device("meta"):
            return cls(architecture)

    def forward(self, image: Tensor, noise: Sequence[Tensor] | None = None, seed: int = 0) -> Tensor:
        """The restored face, float32 `(N, 3, S, S)` RGB around [-1, 1], not clipped, of an image of the same form.

        `noise` is for generators larger than their encoder: Gaussian, one per `noise_shapes`, or None: from `seed`.
        """
        features = self.encode(image)
        slots = [features[0], *(feature for feature in features[1:] for _ in range(2))]
        slots += self.draw_noise(len(image), seed) if noise is None else list(noise)
        style = self.style(features[0])
        result: Tensor = self.generator(style, slots)
        return result

    def encode(self, image: Tensor) -> list[Tensor]:
        """The encoder's features from e_4 to e_S."""
        features = []
        x = image
        for n in range(self.levels):
            x = self.get_submodule(f"ecd{n}")(x)
            features.append(x)
        return features[::-1]

    def style(self, e4: Tensor) -> Tensor:
        """The style w that modulates every layer, float32 `(N, style_dim)`."""
        style: Tensor = self.generator.style(self.final_linear(e4.flatten(1)))
        return style

    def draw_noise(self, batch: int, seed: int = 0) -> list[Tensor]:
        """Gaussian noise for the levels above the input's size, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(batch, *shape, generator=generator) for shape in self.architecture.noise_shapes]


class EncoderStage(nn.Sequential):
    """One level of the encoder: filter, convolution, activation (keys ecdN.0.i)."""


class Generator(nn.Module):
    """StyleGAN2's synthesis network, whose noise slots are concatenated instead of added."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        dim, widths, skips = architecture.style_dim, architecture.styled, architecture.skips
        outs = [width + skip for width, skip in zip(widths, skips, strict=True)]
        mlp = [EqualLinear(dim, dim, STYLE_LR, activation=True) for _ in range(architecture.style_layers)]
        self.style = nn.Sequential(PixelNorm(), *mlp)
        self.input = ConstantInput(architecture.constant)
        ins = (architecture.constant, *outs)
        styled = [
            StyledConv(_modulated(ins[i], widths[i], architecture, i % 2 == 1), outs[i]) for i in range(len(outs))
        ]
        self.conv1 = styled[0]
        self.to_rgb1 = ToRGB(outs[0], dim, upsample=False)
        self.convs = nn.ModuleList(styled[1:])
        self.to_rgbs = nn.ModuleList(ToRGB(outs[i], dim) for i in range(2, len(widths), 2))

    def forward(self, style: Tensor, slots: Sequence[Tensor]) -> Tensor:
        """The image, float32 `(N, 3, S, S)`, for a style `(N, style_dim)` and what fills each noise slot."""
        x = self.conv1(self.input(len(style)), style, slots[0])
        rgb: Tensor = self.to_rgb1(x, style)
        for i, conv in enumerate(self.convs):
            x = conv(x, style, slots[i + 1])
            if i % 2:
                rgb = self.to_rgbs[i // 2](x, style, rgb)
        return rgb


def _modulated(inputs: int, outputs: int, architecture: Architecture, upsample: bool) -> ModulatedConv2d:
    if architecture.separable:
        return SeparableModulatedConv2d(inputs, outputs, architecture.style_dim, upsample=upsample)
    return ModulatedConv2d(inputs, outputs, KERNEL, architecture.style_dim, upsample=upsample)
