"""CurricularFace's backbone, IR-101: whose face it is, as a direction in 512 dimensions.

    input_layer    3x3 convolution, BatchNorm, PReLU at 112 x 112
    body           49 units in four stages, each of which halves the size first: 56, 28, 14, 7
    output_layer   BatchNorm, one linear layer of all that is left, BatchNorm without weights; then length 1

A unit is shortcut(x) + BN(conv_s(PReLU(conv(BN(x))))), with nothing after the sum. The shortcut takes every second
pixel where the unit halves, and is a convolution where the number of channels changes.

Source: Huang et al., CurricularFace (CVPR 2020), the improved residual units of ArcFace (Deng et al., CVPR 2019);
module names are those of the published checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 112
EMBEDDING = 512
WIDTH = 64
DEPTHS = (3, 13, 30, 3)  # IR-101


class Backbone(nn.Module):
    """The network in its faithful form; its stages are `width`, 2, 4 and 8 times `width` wide."""

    def __init__(self, width: int = WIDTH, depths: Sequence[int] = DEPTHS) -> None:
        super().__init__()
        last = width << (len(depths) - 1)
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
        )
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(last),
            nn.Dropout(),
            nn.Flatten(),
            nn.Linear(last * (SIDE >> len(depths)) ** 2, EMBEDDING),
            nn.BatchNorm1d(EMBEDDING, affine=False),
        )
        self.body = nn.Sequential(*(unit for stage, depth in enumerate(depths) for unit in _stage(width, stage, depth)))

    def forward(self, image: Tensor) -> Tensor:
        """The embedding `(N, 512)` of length 1, of float32 `(N, 3, 112, 112)` RGB in [-1, 1]."""
        embedding = self.output_layer(self.body(self.input_layer(image)))
        return embedding / torch.linalg.vector_norm(embedding, dim=1, keepdim=True)


class Unit(nn.Module):
    """An improved residual unit."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, h / stride, w / stride)`."""
        return self.res_layer(x) + self.shortcut_layer(x)


def prepared(levels: Tensor) -> Tensor:
    """float32 `(N, 3, 256, 256)` RGB in 0..255 as the authors hand it to the network: 112 x 112 in [-1, 1]."""
    return F.interpolate(levels / 255 * 2 - 1, size=(SIDE, SIDE), mode="bilinear", align_corners=True)


def _stage(width: int, stage: int, depth: int) -> list[Unit]:
    outputs = width << stage
    first = Unit(max(width, outputs // 2), outputs, 2)
    return [first, *(Unit(outputs, outputs, 1) for _ in range(depth - 1))]
