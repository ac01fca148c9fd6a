"""The fusion generator rewritten for engines: the same numbers with less to compute and to move.

**Constants.** BatchNorms and spectral norms are in the weights, the grids of the motion are tables, and attention's
gamma is in its last convolution.

**Motion.** Masks add up to 1, so the mean of all movements g + s_k is g + sum_k mask_k s_k: one product of matrices.
All movements sample one picture by one tall grid instead of as many copies of it. A bump is the outer product of two
rows, exp(-(dx^2 + dy^2)) = exp(-dx^2) exp(-dy^2). The hourglass's first and the mask's convolution take their inputs in
the order in which these come, without the background's bump, which is 0; convolutions of a doubled picture are done
before the doubling (`DoubledConv2d`), but the smallest picture's, where it only costs weights (docs/decisions/178).

**Colouring.** With the normalised picture n, made of the template A = a n + b (a and b are pictures), of the identity
B = c n + d (numbers), and a mask M of one channel:

    (1 - M) A + M B = A + M (B - A)

The shortcut's layer has nothing but a 1x1 convolution W behind it, and what is linear commutes with a mask:

    W[(1 - M) (a n + b) + M (c n + d)] = W[n (a + M (c - a))] + b' + M (d' - b'),   b' = W b,  d' = W d

W is in the 3x3 convolution that makes b, which then has the block's outputs and not its inputs (of 64 channels at full
size, 3; docs/decisions/140), and in the linear layer that makes d. The first and the shortcut's layer share n, its
border, and the convolution of their masks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from exporters.face_fusion.adaptive import EPSILON, SLOPE, AadBlock, AadLayer, SelfAttention, SpectralConv2d
from exporters.face_fusion.motion import STEP, VARIANCE, DenseMotion, identity_grid, sample
from exporters.face_fusion.network import ATTENDED, ENCODER_SLOPE, AttributeEncoder, FusionGenerator, doubled
from exporters.graphs.folding import DoubledConv2d, convolution_of, linear_of, product


class ExportForm(nn.Module):
    """The generator in its export form, equal to the faithful `network`."""

    def __init__(self, network: FusionGenerator, size: int) -> None:
        super().__init__()
        network = network.eval()
        generator = network.generator
        blocks = [generator.get_submodule(f"AADBlk{n}") for n in range(1, len(network.architecture.blocks) + 1)]
        self.motion = MotionExport(network.dense_motion_network, size)
        self.encoder = EncoderExport(network.encoder)
        self.seed = linear_of(
            generator.up1.weight.flatten(1).T, generator.up1.bias.repeat_interleave(generator.up1.weight[0, 0].numel())
        )
        self.blocks = nn.ModuleList(map(ColouredBlock, blocks))
        self.attention = AttentionExport(generator.sa)

    def forward(self, image: Tensor, identity: Tensor, fused: Tensor, target: Tensor) -> Tensor:
        """float32 `(N, 3, 256, 256)` RGB in [-1, 1], as `FusionGenerator`."""
        attributes = self.encoder(sample(image, self.motion(image, fused, target)))
        x = self.seed(identity).unflatten(1, (-1, 2, 2))
        for index, (block, level) in enumerate(zip(self.blocks, attributes, strict=True)):
            x = doubled(x) if index else x
            x = self.attention(x) if index == ATTENDED else x
            x = block(x, level, identity)
        return x.tanh()


class FusedLevels(nn.Module):
    """The generator between 8-bit levels: float32 `(N, 3, 256, 256)` RGB in 0..255, for a cast to truncate.

    The authors paste the face before they round; a half is added here, so that a face of uint8 is at most half a level
    away from theirs. tanh needs no clipping.
    """

    def __init__(self, network: FusionGenerator, size: int) -> None:
        super().__init__()
        self.form = ExportForm(network, size)

    def forward(self, levels: Tensor, identity: Tensor, fused: Tensor, target: Tensor) -> Tensor:
        return self.form(levels / 127.5 - 1, identity, fused, target) * 127.5 + 128


class MotionExport(nn.Module):
    """Where in the picture each pixel comes from: `(N, H, W, 2)` (x, y) in [-1, 1]."""

    def __init__(self, network: DenseMotion, size: int) -> None:
        super().__init__()
        maps = network.mask.out_channels
        small = size // STEP
        order = [4 * k for k in range(1, maps)] + [4 * k + colour for colour in (1, 2, 3) for k in range(maps)]
        hourglass = network.hourglass
        down, up = hourglass.encoder.down_blocks, hourglass.decoder.up_blocks
        self.blur = network.down
        self.down = nn.ModuleList(fuse_conv_bn_eval(block.conv, block.norm) for block in down)
        self.down[0] = _reading(self.down[0], order)
        read_by_first_down = down[0].conv.in_channels
        smallest, *others = (fuse_conv_bn_eval(block.conv, block.norm) for block in up)
        doubled_ones = (DoubledConv2d(convolution, padding=1) for convolution in others)
        self.up = nn.ModuleList([nn.Sequential(nn.UpsamplingNearest2d(scale_factor=2), smallest), *doubled_ones])
        drawn = network.mask.in_channels - read_by_first_down
        self.mask = _reading(network.mask, [*range(drawn), *(drawn + channel for channel in order)])
        grid = identity_grid(small, small)
        self.line = nn.Buffer(grid[0, :, 0].clone())
        self.grid = nn.Buffer(grid)
        places = grid.permute(2, 0, 1)[None].double()
        full = F.interpolate(places, (size, size), mode="bilinear", align_corners=False).float()
        self.full_grid = nn.Buffer(full.permute(0, 2, 3, 1).contiguous())

    def forward(self, image: Tensor, fused: Tensor, target: Tensor) -> Tensor:
        small = self.blur(image)
        side, size = small.shape[-1], image.shape[-1]
        shift = target - fused  # (N, K, 2); the background's is 0
        grids = self.grid + F.pad(shift, (0, 0, 1, 0))[:, :, None, None]
        moved = sample(small, grids.flatten(1, 2)).unflatten(2, (-1, side))  # (N, 3, K + 1, h, w)
        x = torch.cat((self._bumps(fused) - self._bumps(target), moved.flatten(1, 2)), dim=1)
        masks = self.mask(self._hourglass(x)).softmax(1)[:, 1:]
        movement = (shift.transpose(1, 2) @ masks.flatten(2)).unflatten(2, (side, side))
        full = F.interpolate(movement, (size, size), mode="bilinear", align_corners=False)
        return self.full_grid + full.permute(0, 2, 3, 1)

    def _bumps(self, points: Tensor) -> Tensor:
        """A bump `(N, K, h, w)` at each point."""
        across, along = (
            torch.exp(-0.5 / VARIANCE * (self.line - points[:, :, axis, None]).square()) for axis in (0, 1)
        )
        return along[:, :, :, None] * across[:, :, None]

    def _hourglass(self, x: Tensor) -> Tensor:
        levels = [x]
        for convolution in self.down:
            levels.append(F.avg_pool2d(convolution(levels[-1]).relu(), 2))
        x = levels.pop()
        for convolution, skip in zip(self.up, reversed(levels), strict=True):
            x = torch.cat((convolution(x).relu(), skip), dim=1)
        return x


class EncoderExport(nn.Module):
    """`AttributeEncoder` without its norms."""

    def __init__(self, network: AttributeEncoder) -> None:
        super().__init__()
        down = [network.get_submodule(f"conv{n}") for n in range(1, 8)]
        up = [network.get_submodule(f"deconv{n}") for n in range(1, 7)]
        self.down = nn.ModuleList(fuse_conv_bn_eval(layer.conv, layer.norm) for layer in down)
        self.up = nn.ModuleList(fuse_conv_bn_eval(layer.deconv, layer.bn, transpose=True) for layer in up)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Attributes from 2 x 2 to 256 x 256."""
        levels: list[Tensor] = []
        for convolution in self.down:
            x = F.leaky_relu(convolution(x), ENCODER_SLOPE)
            levels.append(x)
        attributes = [levels.pop()]
        for convolution in self.up:
            up = F.leaky_relu(convolution(attributes[-1]), ENCODER_SLOPE)
            attributes.append(torch.cat((up, levels.pop()), dim=1))
        return [*attributes, doubled(attributes[-1])]


class ColouredBlock(nn.Module):
    """`AadBlock`; see the module's docstring."""

    def __init__(self, block: AadBlock) -> None:
        super().__init__()
        shortcut = [block.AAD3] if block.shortens else []
        self.masks = _side_by_side([layer.conv_h for layer in (block.AAD1, *shortcut)])
        self.first, self.second = Colouring(block.AAD1), Colouring(block.AAD2)
        self.second_mask = _plain(block.AAD2.conv_h)
        self.conv1, self.conv2 = _folded(block.conv1), _folded(block.conv2)
        self.shortcut = ColouredShortcut(block.AAD3, _folded(block.conv3)) if block.shortens else None

    def forward(self, x: Tensor, attributes: Tensor, identity: Tensor) -> Tensor:
        """`(N, outputs, h, w)`."""
        attributes, normal = _bordered(attributes), _normalised(x)
        first, *rest = self.masks(_bordered(normal)).sigmoid().split(1, dim=1)
        y = self.conv1(_bordered(F.leaky_relu(self.first(normal, first, attributes, identity), SLOPE)))
        if self.shortcut is not None:
            x = self.shortcut(normal, *rest, attributes, identity)
        normal = _normalised(y)
        mask = self.second_mask(_bordered(normal)).sigmoid()
        return self.conv2(_bordered(F.leaky_relu(self.second(normal, mask, attributes, identity), SLOPE))) + x


class Colouring(nn.Module):
    """`AadLayer` of a picture that is normalised, with its mask at hand, and of attributes with a border."""

    def __init__(self, layer: AadLayer) -> None:
        super().__init__()
        self.shared = layer.mlp_shared[1]
        self.scale, self.shift = _plain(layer.conv1), _plain(layer.conv2)
        self.identity_scale, self.identity_shift = layer.fc1, layer.fc2

    def forward(self, normal: Tensor, mask: Tensor, attributes: Tensor, identity: Tensor) -> Tensor:
        """`(N, C, h, w)`, as `normal`."""
        shared = _bordered(self.shared(attributes).relu())
        by_template = self.shift(shared) + self.scale(shared) * normal
        by_identity = _everywhere(self.identity_scale(identity)) * normal + _everywhere(self.identity_shift(identity))
        return by_template + mask * (by_identity - by_template)


class ColouredShortcut(nn.Module):
    """`AadLayer` and the 1x1 convolution behind it, which is in all that it can be in."""

    def __init__(self, layer: AadLayer, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight[:, :, 0, 0]
        shift = layer.conv2
        self.shared = layer.mlp_shared[1]
        self.scale, self.convolution = _plain(layer.conv1), convolution
        self.shift = convolution_of(product(weight, shift.weight), product(weight, shift.bias))
        self.identity_scale = layer.fc1
        self.identity_shift = linear_of(product(weight, layer.fc2.weight), product(weight, layer.fc2.bias))

    def forward(self, normal: Tensor, mask: Tensor, attributes: Tensor, identity: Tensor) -> Tensor:
        """`(N, outputs, h, w)` of `normal` `(N, inputs, h, w)`."""
        shared = _bordered(self.shared(attributes).relu())
        scale, shift = self.scale(shared), self.shift(shared)
        scaled = normal * (scale + mask * (_everywhere(self.identity_scale(identity)) - scale))
        return self.convolution(scaled) + (shift + mask * (_everywhere(self.identity_shift(identity)) - shift))


class AttentionExport(nn.Module):
    """`SelfAttention` with one convolution for keys and values."""

    def __init__(self, network: SelfAttention) -> None:
        super().__init__()
        self.asked, out = _folded(network.theta), _folded(network.o)
        self.found = _side_by_side([_folded(network.phi), _folded(network.g)])
        self.parts = (network.phi.module.weight_bar.shape[0], network.g.module.weight_bar.shape[0])
        self.out = convolution_of(out.weight * network.gamma, None)

    def forward(self, x: Tensor) -> Tensor:
        """x's shape."""
        keys, values = F.max_pool2d(self.found(x), 2).flatten(2).split(self.parts, dim=1)
        alike = (self.asked(x).flatten(2).transpose(1, 2) @ keys).softmax(-1)
        return self.out((values @ alike.transpose(1, 2)).unflatten(2, x.shape[2:])) + x


def _normalised(x: Tensor) -> Tensor:
    """`positional_norm`."""
    channels = x.shape[1]
    centred = x - x.mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True) * (channels / (channels - 1)) + EPSILON
    return centred * variance.rsqrt()


def _bordered(x: Tensor) -> Tensor:
    return F.pad(x, (1, 1, 1, 1), mode="reflect")


def _everywhere(of_channels: Tensor) -> Tensor:
    """`(N, C)` as `(N, C, 1, 1)`."""
    return of_channels[:, :, None, None]


def _folded(convolution: SpectralConv2d) -> nn.Conv2d:
    return convolution_of(convolution.module.normalised(), convolution.module.bias)


def _plain(convolution: nn.Conv2d) -> nn.Conv2d:
    """The convolution without its border."""
    return convolution_of(convolution.weight, convolution.bias)


def _side_by_side(convolutions: list[nn.Conv2d]) -> nn.Conv2d:
    """One convolution, without a border, with the outputs of all."""
    biases = [convolution.bias for convolution in convolutions if convolution.bias is not None]
    weight = torch.cat([convolution.weight for convolution in convolutions])
    return convolution_of(weight, torch.cat(biases) if biases else None)


def _reading(convolution: nn.Conv2d, order: list[int]) -> nn.Conv2d:
    """The convolution of the same channels in another order."""
    return convolution_of(convolution.weight[:, order], convolution.bias, padding=convolution.padding[0])
