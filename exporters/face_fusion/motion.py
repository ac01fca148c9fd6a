"""How the template's face must move to get the fused face's jaw line (dense motion, a first-order motion model).

Key point k says: what is at its place in the fused face comes from its place in the template. So each point gives a
whole picture of movement, the translation by their difference; the background gives one more, which stays where it is.
The hourglass looks at the small picture moved each of these ways and says, pixel by pixel, how much to believe each.

Grids are corner-aligned (-1 and 1 are the centres of the outermost pixels), and yet sampled as if -1 and 1 were the
picture's edges: the authors' network was trained like that.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEP = 4
"""The motion is found on a picture this many times smaller."""
VARIANCE = 0.01
"""Of the bump that a key point is drawn as, where a picture's sides are 2."""


class DenseMotion(nn.Module):
    """Deformation `(N, H/4, W/4, 2)` (x, y) in [-1, 1]: where in the picture each pixel comes from."""

    def __init__(self, keypoints: int, down: Sequence[int], up: Sequence[int], kernel: int) -> None:
        super().__init__()
        maps = keypoints + 1
        self.hourglass = Hourglass(4 * maps, down, up)
        self.mask = nn.Conv2d(up[-1] + 4 * maps, maps, 7, padding=3)
        self.down = AntiAlias(kernel)

    def forward(self, image: Tensor, fused: Tensor, target: Tensor) -> Tensor:
        """For `image` float32 `(N, 3, H, W)` RGB in [-1, 1] and key points float32 `(N, K, 2)` (x, y) in [-1, 1]."""
        small = self.down(image)
        count, maps, (height, width) = len(small), fused.shape[1] + 1, small.shape[2:]
        grid = identity_grid(height, width, small.device)
        heat = _with_background(_bumps(grid, fused) - _bumps(grid, target))
        shift = _with_background((target - fused)[:, :, None, None])
        motions = grid + shift  # (N, K + 1, h, w, 2)
        moved = sample(small.repeat_interleave(maps, 0), motions.flatten(0, 1)).unflatten(0, (count, maps))
        seen = torch.cat((heat[:, :, None], moved), dim=2).flatten(1, 2)
        mask = self.mask(self.hourglass(seen)).softmax(1)
        return (mask[..., None] * motions).sum(1)


class AntiAlias(nn.Module):
    """Every fourth pixel of the blurred picture; the kernel, a Gaussian, is in the checkpoint."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(3, 1, kernel, kernel))

    def forward(self, image: Tensor) -> Tensor:
        """`(N, 3, H/4, W/4)`."""
        return F.conv2d(image, self.weight, stride=STEP, padding=self.weight.shape[-1] // 2, groups=3)


class Hourglass(nn.Module):
    """Down by halves and up again, each level beside what went down."""

    def __init__(self, inputs: int, down: Sequence[int], up: Sequence[int]) -> None:
        super().__init__()
        read = (inputs, *down)
        skips = (0, *down[-2::-1])
        self.encoder, self.decoder = nn.Module(), nn.Module()
        self.encoder.down_blocks = nn.ModuleList(DownBlock(*widths) for widths in pairwise(read))
        drawn = pairwise((down[-1], *up))
        self.decoder.up_blocks = nn.ModuleList(
            UpBlock(before + skip, after) for (before, after), skip in zip(drawn, skips, strict=True)
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(N, up[-1] + inputs, h, w)`."""
        levels = [x]
        for block in self.encoder.down_blocks:
            levels.append(block(levels[-1]))
        x = levels.pop()
        for block, skip in zip(self.decoder.up_blocks, reversed(levels), strict=True):
            x = torch.cat((block(x), skip), dim=1)
        return x


class DownBlock(nn.Module):
    """Convolution, norm, ReLU, half the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, h/2, w/2)`."""
        return F.avg_pool2d(F.relu(self.norm(self.conv(x))), 2)


class UpBlock(nn.Module):
    """Twice the size by repetition, convolution, norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, 2h, 2w)`."""
        return F.relu(self.norm(self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))))


def identity_grid(height: int, width: int, device: torch.device | None = None) -> Tensor:
    """float32 `(height, width, 2)`: the place (x, y) of each pixel, -1 and 1 at the outermost ones' centres.

    By way of float64, which every processor rounds to the same float32.
    """
    sides = (torch.linspace(-1, 1, side, dtype=torch.float64, device=device).float() for side in (height, width))
    rows, columns = sides
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)


def sample(image: Tensor, grid: Tensor) -> Tensor:
    """The picture at the places of `grid` `(N, h, w, 2)`, -1 and 1 its edges; black outside."""
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _bumps(grid: Tensor, points: Tensor) -> Tensor:
    """A bump `(N, K, h, w)` at each point."""
    return torch.exp(-0.5 * (grid - points[:, :, None, None]).square().sum(-1) / VARIANCE)


def _with_background(of_points: Tensor) -> Tensor:
    """The same with a first map of zeros."""
    return torch.cat((torch.zeros_like(of_points[:, :1]), of_points), dim=1)
