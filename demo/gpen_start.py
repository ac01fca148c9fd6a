"""What the training of GPEN's demo weights starts from: a generator that returns its input, or a smaller one, grown.

The photo passes in six channels of the first level, as x and -x. A leaky ReLU f loses no information about x when it
sees both: f(x) - f(-x) = (1 + slope) x, and f(f(x)) - f(f(-x)) = (1 + slope**2) x, gains aside (docs/decisions/060).
"""

import math
from dataclasses import replace

import torch

from exporters.gpen.layers import GAIN, SLOPE, ModulatedConv2d
from exporters.gpen.network import Architecture, FullGenerator

LEAST_CHANNELS = 32  # engines compute 8 or 16 channels at a time, and something should be left to prune
SIGNS = torch.cat([torch.eye(3), -torch.eye(3)])  # (6, 3): RGB as x and -x
SHARPNESS = 1.5  # of what is grown: more than what neighbours tell was lost, as the filters reach farther


def architecture(size: int) -> Architecture:
    """An eighth of the published widths, but nowhere fewer than `LEAST_CHANNELS`."""
    formula = Architecture.of(size, narrow=1 / 8, style_dim=64)
    return replace(
        formula,
        encoder=tuple(max(LEAST_CHANNELS, channels) for channels in formula.encoder),
        styled=tuple(max(LEAST_CHANNELS, channels) for channels in formula.styled),
    )


def identity_generator(size: int) -> FullGenerator:
    """A generator that all but returns its input: its last layer reads what passes from its first."""
    network = _untrained_generator(size)
    picture, seen = network.generator.to_rgbs[-1].conv, network.architecture.styled[-1]
    with torch.no_grad():
        picture.weight[0, :, seen : seen + 6, 0, 0] = SIGNS.T / (GAIN**2 * (1 + SLOPE**2) * picture.scale)
        picture.modulation.weight[seen : seen + 6] = 0
    return network


def grown(network: FullGenerator) -> FullGenerator:
    """A generator of twice the size: the picture that `network` restores of half the image, enlarged and sharpened.

    The second level of the encoder gives what the first one gave, on the filtered image of half the size. The last
    convolution finds the differences between a pixel and its neighbours, and the last layer adds them.
    """
    larger = _untrained_generator(2 * network.architecture.out_size)
    kept = {key: weight for key, weight in network.state_dict().items() if not key.startswith("ecd")}
    first, second = network.ecd0[0], larger.ecd1[0]
    differs, picture = larger.generator.convs[-1].conv, larger.generator.to_rgbs[-1].conv
    seen = larger.architecture.styled[-2]
    sharp = torch.zeros(3, 3)
    sharp[1, 1] = 1
    sharp -= torch.outer(torch.tensor((1.0, 2.0, 1.0)), torch.tensor((1.0, 2.0, 1.0))) / 16
    with torch.no_grad():
        larger.load_state_dict(kept, strict=False)
        for n in range(1, network.levels):
            larger.get_submodule(f"ecd{n + 1}").load_state_dict(network.get_submodule(f"ecd{n}").state_dict())
        colours = first[0].weight[:, :, 0, 0] * first[0].scale  # (E, 3)
        second[1].weight.zero_()
        second[1].weight[:, :6, 1, 1] = colours @ SIGNS.T / (GAIN * (1 + SLOPE) * second[1].scale)
        second[2].bias.copy_(first[1].bias)
        differs.weight[0, :6].zero_()
        differs.weight[0, :6, seen : seen + 6] = (SIGNS @ SIGNS.T)[..., None, None] * sharp
        differs.modulation.weight[seen : seen + 6] = 0
        # Demodulation makes the norm of the weights of every output 1, those of x and -x counted.
        found = GAIN**2 * (1 + SLOPE**2) / (math.sqrt(2) * sharp.norm())
        picture.weight[0, :, :6, 0, 0] = SHARPNESS * SIGNS.T / (GAIN * (1 + SLOPE) * found * picture.scale)
        picture.modulation.weight[:6] = 0
    return larger


def _untrained_generator(size: int) -> FullGenerator:
    """A generator with random weights that hardly draw, through whose first level the photo passes."""
    network = FullGenerator(architecture(size))
    first = network.ecd0[0][0]
    with torch.no_grad():
        for layer in (network.generator.conv1, *network.generator.convs):
            layer.noise.weight.fill_(1)
        for rgb in (network.generator.to_rgb1, *network.generator.to_rgbs):
            rgb.conv.weight *= 0.02
        for modulated in (module for module in network.modules() if isinstance(module, ModulatedConv2d)):
            modulated.modulation.weight *= 0.1  # at first, a picture's style says little about how to draw it
        first.weight[:6, :, 0, 0] = SIGNS / first.scale
    return network
