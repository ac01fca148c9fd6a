"""The pictures that a GPEN generator draws at its levels, chosen at once: their sum is linear in their layers' weights.

So these weights need no steps of training: least squares finds the best ones for the features that there are, even for
random ones, and training starts with an image that is restored to some extent.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

import torch
from torch import Tensor

from exporters.gpen.layers import ToRGB
from exporters.gpen.network import FullGenerator

RIDGE = 1e-4  # of the mean square of a feature


def solve_pictures(network: FullGenerator, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Give the layers that draw pictures the weights that restore the good views of these batches best.

    For a network on crops (gpen_crops.py), whose style is zero.
    """
    layers: list[ToRGB] = []
    seen: list[Tensor] = []

    def note(layer: ToRGB, inputs: tuple[Tensor, ...]) -> None:
        layers.append(layer)
        seen.append(inputs[0])

    products, aims = torch.zeros(()), torch.zeros(())
    with ExitStack() as hooks, torch.no_grad():
        for rgb in network.generator.to_rgbs:
            handle = rgb.register_forward_pre_hook(note)
            hooks.callback(handle.remove)
        for poor, good in batches:
            layers.clear()
            seen.clear()
            missing = good - network(poor)
            features = _features(layers, seen)
            products = products + features @ features.T
            aims = aims + features @ missing.transpose(0, 1).flatten(1).T
        ridge = RIDGE * products.diagonal().mean()
        solved = torch.linalg.solve((products + ridge * torch.eye(len(products))).double(), aims.double()).float()
        for layer, weights in zip(layers, solved[:-1].split([len(x[0]) for x in seen]), strict=True):
            layer.conv.weight[0, :, :, 0, 0] += weights.T / (layer.conv.scale * layer.conv.modulation.bias)
        layers[-1].bias[0, :, 0, 0] += solved[-1]


def _features(layers: list[ToRGB], seen: list[Tensor]) -> Tensor:
    """What each level can add to the picture, enlarged as the picture will be, and one: `(F, N * H * W)`."""
    enlarged = []
    for x in seen:
        while x.shape[-1] < seen[-1].shape[-1]:
            x = layers[-1].upsample(x)
        enlarged.append(x)
    enlarged.append(torch.ones_like(enlarged[-1][:, :1]))
    return torch.cat(enlarged, dim=1).transpose(0, 1).flatten(1)
