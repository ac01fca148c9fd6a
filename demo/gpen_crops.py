"""The upper levels of a GPEN generator alone, on crops of its image, so that a step of training costs little.

What restores a photo looks at what lies around a pixel. The lower levels look at the whole face, and so does the style;
what they draw at random, training would have to unlearn. Here nothing reads them, and the style is zero, which leaves
every layer its biases. What learned on crops draws wholes alike, until the lower levels and the styles learn too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from exporters.gpen.layers import ModulatedConv2d
from exporters.gpen.network import FullGenerator

LOWEST = 32  # pixels of the whole image at the lowest level that is read: a fifth of what lies between two eyes
_BELOW = LOWEST.bit_length() - 3  # so many levels are not


class _UpperLevels(FullGenerator):
    def forward(self, image: Tensor, noise: object = None, seed: int = 0) -> Tensor:
        skips, x = [], image
        for n in range(self.levels - _BELOW):
            x = self.get_submodule(f"ecd{n}")(x)
            skips.append(x)
        style = x.new_zeros(len(x), self.architecture.style_dim)
        generator, first = self.generator, 2 * _BELOW - 1
        entry = generator.convs[first - 1]
        drawn = x.new_zeros(len(x), entry.conv.weight.shape[1], *x.shape[2:])
        y = entry.activate(entry.noise(drawn, skips.pop()))
        y = generator.convs[first](y, style, x)
        rgb: Tensor = generator.to_rgbs[_BELOW - 1](y, style)
        for n, skip in enumerate(reversed(skips), _BELOW):
            y = generator.convs[2 * n](y, style, skip)
            y = generator.convs[2 * n + 1](y, style, skip)
            rgb = generator.to_rgbs[n](y, style, rgb)
        return rgb


def for_crops(network: FullGenerator) -> FullGenerator:
    """The same network without its lower levels and styles, for squares whose side an eighth of `LOWEST` divides."""
    generator, first = network.generator, 2 * _BELOW - 1
    entry, reader = generator.convs[first - 1], generator.convs[first]
    drawn = entry.conv.weight.shape[1]
    with torch.no_grad():
        for rgb in (generator.to_rgb1, *generator.to_rgbs[: _BELOW - 1]):
            rgb.conv.weight.zero_()
            rgb.bias.zero_()
        entry.activate.bias[:drawn] = 0
        reader.conv.weight[:, :, :drawn] = 0
        for module in network.modules():
            if isinstance(module, ModulatedConv2d):
                module.modulation.weight.zero_()
    network.__class__ = _UpperLevels
    return network


def for_wholes(network: FullGenerator) -> FullGenerator:
    """The same network, which from now on takes images of its own size, and can learn styles and places."""
    network.__class__ = FullGenerator
    return network
