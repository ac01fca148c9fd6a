"""RRDBNet: RealESRNet, which enlarges photos by 1 (and cleans them), 2 or 4.

    feature = conv_first(x),  x = the photo folded into channels so that it is a quarter of the result's size
    feature + conv_body(blocks of three dense blocks) -> nearest x2, convolution, f (twice) -> conv_last f(conv_hr)

f is a leaky ReLU of slope 0.2; all convolutions are 3x3 with zeros around. A dense block of five convolutions, each
of which sees everything before it, gives 0.2 conv5 + x; a block of three gives 0.2 block + x.

Source: Wang et al., ESRGAN (2018) and Real-ESRGAN (2021), with 32 features, as GPEN ships it.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = 32
BLOCKS = 23  # of the published networks
LEAKY_SLOPE = 0.2
RESIDUAL = 0.2  # share of a block's result in its sum
ENLARGED = 4  # by the two doublings


class RRDBNet(nn.Module):
    """The network in its faithful form, for `scale` 1, 2 or 4."""

    def __init__(self, scale: int, blocks: int = BLOCKS) -> None:
        super().__init__()
        self.fold = ENLARGED // scale  # photo pixels per feature, on both axes
        self.conv_first = _convolution(3 * self.fold**2, FEATURES)
        self.body = nn.Sequential(*(ResidualInResidual() for _ in range(blocks)))
        self.conv_body = _convolution(FEATURES, FEATURES)
        self.conv_up1 = _convolution(FEATURES, FEATURES)
        self.conv_up2 = _convolution(FEATURES, FEATURES)
        self.conv_hr = _convolution(FEATURES, FEATURES)
        self.conv_last = _convolution(FEATURES, 3)

    def forward(self, image: Tensor) -> Tensor:
        """`(N, 3, scale * H, scale * W)` RGB around [0, 1], of float32 `(N, 3, H, W)` RGB in [0, 1].

        H and W are multiples of 4 / scale.
        """
        first = self.conv_first(F.pixel_unshuffle(image, self.fold))
        feature = first + self.conv_body(self.body(first))
        for conv_up in (self.conv_up1, self.conv_up2):
            feature = activate(conv_up(F.interpolate(feature, scale_factor=2, mode="nearest")))
        return self.conv_last(activate(self.conv_hr(feature)))


class ResidualInResidual(nn.Module):
    """Three dense blocks and a shortcut around them (RRDB)."""

    def __init__(self) -> None:
        super().__init__()
        self.rdb1 = DenseBlock()
        self.rdb2 = DenseBlock()
        self.rdb3 = DenseBlock()

    def forward(self, x: Tensor) -> Tensor:
        """x's shape."""
        return RESIDUAL * self.rdb3(self.rdb2(self.rdb1(x))) + x


class DenseBlock(nn.Module):
    """Five convolutions, each seeing x and what all before it made, and a shortcut around them (RDB)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = (
            _convolution(k * FEATURES, FEATURES) for k in range(1, 6)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x's shape."""
        seen = [x]
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4):
            seen.append(activate(convolution(torch.cat(seen, dim=1))))
        return RESIDUAL * self.conv5(torch.cat(seen, dim=1)) + x


def count_blocks(keys: Iterable[str]) -> int:
    """How many blocks a state dict with those keys has, or the usual number where it is of another network."""
    numbers = [int(key.split(".")[1]) for key in keys if key.startswith("body.") and key.split(".")[1].isdigit()]
    return max(numbers) + 1 if numbers else BLOCKS


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU."""
    return F.leaky_relu(x, LEAKY_SLOPE)


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
