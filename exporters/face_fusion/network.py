"""The fusion generator (AEI-Net after FaceShifter, arXiv 1912.13457, with dense motion) in its faithful form.

template face, both jaw lines -> DenseMotion -> warped template -> AttributeEncoder -> attributes of eight sizes
identity -> 2 x 2 -> block 1 -> x2 -> ... -> block 8 -> tanh, each block with the attributes of its size
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exporters.face_fusion.adaptive import AadBlock, BlockWidths, SelfAttention
from exporters.face_fusion.motion import DenseMotion, sample

ENCODER_SLOPE = 0.1
ATTENDED = 4
"""Self-attention comes behind this many blocks and their upsampling."""


@dataclass(frozen=True)
class Architecture:
    """Channels of a generator, each tuple in the order of computation; picture sizes and depths are fixed.

    `encoder` and `decoder` find the template's attributes, `blocks` draw from the `seed` that the identity becomes;
    `inner` is between the two convolutions of a block, `hidden` inside its layers: two, or three where its shortcut has
    one. `attention` is what keys and values have. `motion_down` and `motion_up` are the hourglass's, `blur` the side of
    its kernel.
    """

    encoder: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 1024)
    decoder: tuple[int, ...] = (1024, 512, 256, 128, 64, 32)
    identity: int = 512
    seed: int = 1024
    blocks: tuple[int, ...] = (1024, 1024, 1024, 512, 256, 128, 64, 3)
    inner: tuple[int, ...] = (1024, 1024, 1024, 512, 256, 128, 64, 3)
    hidden: tuple[tuple[int, ...], ...] = (*((128, 128),) * 3, *((128, 128, 128),) * 5)
    attention: tuple[int, int] = (64, 256)
    motion_down: tuple[int, ...] = (128, 256, 512, 1024, 1024)
    motion_up: tuple[int, ...] = (1024, 512, 256, 128, 64)
    keypoints: int = 17
    blur: int = 13

    @classmethod
    def of(cls, narrow: float = 1.0) -> Architecture:
        """The published one, or one `narrow` times as wide inside; what goes in and comes out is the same."""

        def scaled(widths: Sequence[int]) -> tuple[int, ...]:
            return tuple(int(width * narrow) for width in widths)

        return cls(
            encoder=scaled(cls.encoder),
            decoder=scaled(cls.decoder),
            seed=int(cls.seed * narrow),
            blocks=(*scaled(cls.blocks[:-1]), cls.blocks[-1]),
            inner=(*scaled(cls.inner[:-1]), cls.inner[-1]),
            hidden=tuple(map(scaled, cls.hidden)),
            attention=(scaled(cls.attention)[0], scaled(cls.attention)[1]),
            motion_down=scaled(cls.motion_down),
            motion_up=scaled(cls.motion_up),
        )

    @classmethod
    def from_shapes(cls, shapes: Mapping[str, tuple[int, ...]]) -> Architecture:
        """The architecture of a checkpoint.

        Raises:
            KeyError, IndexError: not of this network.
        """
        hourglass, attended = "dense_motion_network.hourglass", "generator.sa"
        identity, seed = shapes["generator.up1.weight"][:2]
        return cls(
            encoder=tuple(shapes[f"encoder.conv{n}.conv.weight"][0] for n in range(1, 8)),
            decoder=tuple(shapes[f"encoder.deconv{n}.deconv.weight"][1] for n in range(1, 7)),
            identity=identity,
            seed=seed,
            blocks=tuple(shapes[f"generator.AADBlk{n}.conv2.module.weight_bar"][0] for n in range(1, 9)),
            inner=tuple(shapes[f"generator.AADBlk{n}.conv2.module.weight_bar"][1] for n in range(1, 9)),
            hidden=tuple(_hidden(shapes, f"generator.AADBlk{n}") for n in range(1, 9)),
            attention=(shapes[f"{attended}.theta.module.weight_bar"][0], shapes[f"{attended}.g.module.weight_bar"][0]),
            motion_down=tuple(shapes[f"{hourglass}.encoder.down_blocks.{n}.conv.weight"][0] for n in range(5)),
            motion_up=tuple(shapes[f"{hourglass}.decoder.up_blocks.{n}.conv.weight"][0] for n in range(5)),
            keypoints=shapes["dense_motion_network.mask.weight"][0] - 1,
            blur=shapes["dense_motion_network.down.weight"][2],
        )

    @property
    def attributes(self) -> tuple[int, ...]:
        """Channels of the template's attributes, from 2 x 2 to 256 x 256."""
        *skips, deepest = self.encoder
        joined = tuple(up + skip for up, skip in zip(self.decoder, reversed(skips), strict=True))
        return (deepest, *joined, joined[-1])


def _hidden(shapes: Mapping[str, tuple[int, ...]], block: str) -> tuple[int, ...]:
    """What is inside each of the layers that a block has."""
    keys = [f"{block}.AAD{n}.mlp_shared.1.weight" for n in (1, 2, 3)]
    return tuple(shapes[key][0] for key in keys if key in shapes or "AAD3" not in key)


class FusionGenerator(nn.Module):
    """The template's face with another identity."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = plan = architecture
        self.encoder = AttributeEncoder(plan.encoder, plan.decoder)
        self.generator = Generator(plan)
        self.dense_motion_network = DenseMotion(plan.keypoints, plan.motion_down, plan.motion_up, plan.blur)

    @classmethod
    def without_weights(cls, architecture: Architecture) -> FusionGenerator:
        """A network that holds no memory until weights are assigned to it."""
        with torch.device("meta"):
            return cls(architecture)

    def forward(self, image: Tensor, identity: Tensor, fused: Tensor, target: Tensor) -> Tensor:
        """float32 `(N, 3, 256, 256)` RGB in [-1, 1] of the same, the template's crop.

        `identity` is float32 `(N, 512)` of length 1; `fused` and `target`, the jaw lines to draw and of the template,
        are float32 `(N, 17, 2)` (x, y) in [-1, 1].
        """
        return self.generator(self.encoder(self.warped(image, fused, target)), identity)

    def warped(self, image: Tensor, fused: Tensor, target: Tensor) -> Tensor:
        """The template moved as the fused face's shape wants it."""
        motion = self.dense_motion_network(image, fused, target).permute(0, 3, 1, 2)
        full = F.interpolate(motion, image.shape[2:], mode="bilinear", align_corners=False)
        return sample(image, full.permute(0, 2, 3, 1))


class AttributeEncoder(nn.Module):
    """A U-Net, all levels of which are attributes."""

    def __init__(self, encoder: Sequence[int], decoder: Sequence[int]) -> None:
        super().__init__()
        for index, (inputs, outputs) in enumerate(pairwise((3, *encoder)), start=1):
            self.add_module(f"conv{index}", DownConvolution(inputs, outputs))
        skips = encoder[-2::-1]
        read = (encoder[-1], *(up + skip for up, skip in zip(decoder, skips, strict=True)))
        for index, (inputs, outputs) in enumerate(zip(read, decoder, strict=False), start=1):
            self.add_module(f"deconv{index}", UpConvolution(inputs, outputs))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Attributes from 2 x 2 to 256 x 256 of `(N, 3, 256, 256)` RGB in [-1, 1]."""
        levels: list[Tensor] = []
        for index in range(1, 8):
            x = self.get_submodule(f"conv{index}")(x)
            levels.append(x)
        attributes = [levels.pop()]
        for index in range(1, 7):
            up = self.get_submodule(f"deconv{index}")(attributes[-1])
            attributes.append(torch.cat((up, levels.pop()), dim=1))
        return [*attributes, doubled(attributes[-1])]


class DownConvolution(nn.Module):
    """Half the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, h/2, w/2)`."""
        return F.leaky_relu(self.norm(self.conv(x)), ENCODER_SLOPE)


class UpConvolution(nn.Module):
    """Twice the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.deconv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, 2h, 2w)`."""
        return F.leaky_relu(self.bn(self.deconv(x)), ENCODER_SLOPE)


class Generator(nn.Module):
    """Draws a face from an identity and attributes."""

    def __init__(self, plan: Architecture) -> None:
        super().__init__()
        self.up1 = nn.ConvTranspose2d(plan.identity, plan.seed, 2)
        for index, (inputs, outputs) in enumerate(pairwise((plan.seed, *plan.blocks))):
            widths = BlockWidths(inputs, plan.inner[index], outputs, plan.attributes[index], plan.hidden[index])
            block = AadBlock(widths, plan.identity)
            self.add_module(f"AADBlk{index + 1}", block)
        self.sa = SelfAttention(plan.blocks[ATTENDED - 1], *plan.attention)

    def forward(self, attributes: Sequence[Tensor], identity: Tensor) -> Tensor:
        """`(N, 3, 256, 256)` RGB in [-1, 1] of attributes from 2 x 2 to 256 x 256 and `(N, 512)`."""
        x = self.up1(identity[:, :, None, None])
        for index, level in enumerate(attributes, start=1):
            x = x if index == 1 else doubled(x)
            x = self.sa(x) if index == ATTENDED + 1 else x
            x = self.get_submodule(f"AADBlk{index}")(x, level, identity)
        return x.tanh()


def doubled(x: Tensor) -> Tensor:
    """Twice the size, bilinear, the corners' centres kept in place."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
