"""RetinaFace with a ResNet-50 body: for every anchor of three grids, is there a face, where, and its five points.

    body    ResNet-50 -> c3, c4, c5 at 1/8, 1/16, 1/32
    fpn     p5 = out3(c5),  p4 = merge2(out2(c4) + up p5),  p3 = merge1(out1(c3) + up p4)
    ssh     three receptive fields of each p, concatenated
    heads   per grid cell two anchors, for each 4 box numbers, 2 scores (background, face), 10 landmark numbers

Anchors and the decoding of the numbers belong to whoever runs the network: `cameo/faces/finders/retinaface.py`.

Source: Deng et al., RetinaFace (CVPR 2020); module names are those of the published checkpoint, odd capitals included.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exporters.layers.resnet50 import ResNet50Body

MEAN_BGR = (104.0, 117.0, 123.0)  # subtracted from 0..255, as in all Caffe models
ANCHORS_PER_CELL = 2
PYRAMID_CHANNELS = 256


class RetinaFace(nn.Module):
    """The network in its faithful form."""

    def __init__(self) -> None:
        super().__init__()
        self.body = ResNet50Body()
        self.fpn = Pyramid((512, 1024, 2048), PYRAMID_CHANNELS)
        self.ssh1 = ContextModule(PYRAMID_CHANNELS)
        self.ssh2 = ContextModule(PYRAMID_CHANNELS)
        self.ssh3 = ContextModule(PYRAMID_CHANNELS)
        self.ClassHead = nn.ModuleList(Head(PYRAMID_CHANNELS, 2) for _ in range(3))
        self.BboxHead = nn.ModuleList(Head(PYRAMID_CHANNELS, 4) for _ in range(3))
        self.LandmarkHead = nn.ModuleList(Head(PYRAMID_CHANNELS, 10) for _ in range(3))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Box numbers `(N, P, 4)`, probabilities (background, face) `(N, P, 2)` and landmark numbers `(N, P, 10)`.

        `image` is float32 `(N, 3, H, W)` BGR in 0..255 minus `MEAN_BGR`; the anchors P are in the order grid (fine to
        coarse), row, column, size.
        """
        features = self.features(image)
        loc, conf, landms = (
            torch.cat([head(feature) for head, feature in zip(heads, features, strict=True)], dim=1)
            for heads in (self.BboxHead, self.ClassHead, self.LandmarkHead)
        )
        return loc, conf.softmax(dim=-1), landms

    def features(self, image: Tensor) -> list[Tensor]:
        """What the heads see: `(N, 256, h, w)` at 1/8, 1/16 and 1/32 of the image's size, rounded up."""
        levels = self.fpn(*self.body(image))
        return [ssh(level) for ssh, level in zip((self.ssh1, self.ssh2, self.ssh3), levels, strict=True)]


class Pyramid(nn.Module):
    """The feature pyramid: every level gets the sum of itself and the coarser ones."""

    def __init__(self, inputs: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        self.output1, self.output2, self.output3 = (_normalised(size, channels, 1, nn.ReLU()) for size in inputs)
        self.merge1 = _normalised(channels, channels, 3, nn.ReLU())
        self.merge2 = _normalised(channels, channels, 3, nn.ReLU())

    def forward(self, c3: Tensor, c4: Tensor, c5: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three levels of the same channels, fine to coarse."""
        p5, p4, p3 = self.output3(c5), self.output2(c4), self.output1(c3)
        p4 = self.merge2(p4 + F.interpolate(p5, size=p4.shape[2:], mode="nearest"))
        p3 = self.merge1(p3 + F.interpolate(p4, size=p3.shape[2:], mode="nearest"))
        return p3, p4, p5


class ContextModule(nn.Module):
    """SSH's context: windows of 3x3, 5x5 and 7x7 as stacked 3x3 convolutions, half, a quarter and a quarter of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.conv3X3 = _normalised(channels, half, 3)
        self.conv5X5_1 = _normalised(channels, quarter, 3, nn.ReLU())
        self.conv5X5_2 = _normalised(quarter, quarter, 3)
        self.conv7X7_2 = _normalised(quarter, quarter, 3, nn.ReLU())
        self.conv7x7_3 = _normalised(quarter, quarter, 3)

    def forward(self, x: Tensor) -> Tensor:
        """x's shape."""
        shared = self.conv5X5_1(x)
        windows = [self.conv3X3(x), self.conv5X5_2(shared), self.conv7x7_3(self.conv7X7_2(shared))]
        return F.relu(torch.cat(windows, dim=1))


class Head(nn.Module):
    """`numbers` for each anchor of each cell."""

    def __init__(self, channels: int, numbers: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.conv1x1 = nn.Conv2d(channels, ANCHORS_PER_CELL * numbers, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, h * w * anchors, numbers)`."""
        return self.conv1x1(x).permute(0, 2, 3, 1).reshape(x.shape[0], -1, self.numbers)


def _normalised(inputs: int, outputs: int, kernel: int, *activation: nn.Module) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), *activation)
