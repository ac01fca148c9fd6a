"""Random features that see detail: what the training of GPEN's demo weights starts from, besides the photo itself.

A photo's mean outweighs its detail and its noise many times. Features that hold all of it are bent by the mean alone:
to detail, which is what there is to restore, they are linear, and all much alike. So here six channels of every level
of the encoder hold the photo, as x and -x, and all others see differences: kernels that read the photo have the sum 0.
Features are as large as 1, and their biases bend them there, some earlier, some later.
"""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor

from demo.gpen_start import SIGNS
from exporters.gpen.layers import GAIN, SLOPE, StyledConv
from exporters.gpen.network import EncoderStage, FullGenerator

BENDS = 0.7  # spread of biases, in standard deviations of a feature
DETAIL = 6.0  # by how much kernels of the generator enlarge what they read of the photo


def see_detail(network: FullGenerator, poor: Tensor, grown: bool = False) -> None:
    """Give the network kernels and biases that make such features of these views: all, or its last level, `grown`.

    `network` is one that has not learned yet (gpen_start.py), `poor` a batch of what it will see.
    """
    plain = 2 if grown else 1  # levels of the encoder, from the image down, all of whose channels hold the photo
    convs = [network.generator.conv1, *network.generator.convs]
    begin = len(convs) - 2 if grown else 1
    with ExitStack() as hooks, torch.no_grad():
        for n in range(1, 1 if grown else network.levels):
            stage, inputs = network.get_submodule(f"ecd{n}")[0], network.architecture.encoder[n - 1]
            detailed = _EncoderDetail(inputs if n <= plain else len(SIGNS))
            hooks.callback(stage.register_forward_pre_hook(detailed).remove)
        for n in range(begin, len(convs)):
            own, skip = network.architecture.styled[n - 1], network.architecture.skips[n - 1]
            photo = skip if n // 2 >= network.levels - plain else len(SIGNS)
            hooks.callback(convs[n].register_forward_pre_hook(_StyledDetail(slice(own, own + photo))).remove)
        network(poor)


class _EncoderDetail:
    def __init__(self, photo: int) -> None:
        self._photo = photo

    def __call__(self, stage: EncoderStage, inputs: tuple[Tensor]) -> None:
        blur, conv, activation = stage
        weight, bias, keep = conv.weight, activation.bias, len(SIGNS)
        weight[:, : self._photo] -= weight[:, : self._photo].mean((2, 3), keepdim=True)
        seen = conv(blur(inputs[0]))
        mean, deviation = seen.mean((0, 2, 3)), seen.std((0, 2, 3))
        weight /= deviation[:, None, None, None]
        bias.copy_(BENDS * torch.randn(len(mean)) - mean / deviation)
        weight[:keep], bias[:keep] = 0, 0
        weight[:keep, :keep, 1, 1] = SIGNS @ SIGNS.T / (GAIN * (1 + SLOPE) * conv.scale)


class _StyledDetail:
    def __init__(self, photo: slice) -> None:
        self._photo = photo

    def __call__(self, layer: StyledConv, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
        on_photo = layer.conv.weight[:, :, self._photo]
        on_photo -= on_photo.mean((3, 4), keepdim=True)
        on_photo *= DETAIL
        seen = layer.conv(*inputs[:2])
        mean, deviation = seen.mean((0, 2, 3)), seen.std((0, 2, 3))
        layer.activate.bias[: len(mean)] = BENDS * deviation * torch.randn(len(mean)) - mean
