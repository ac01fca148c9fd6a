"""The 3-D face of a photo as 257 coefficients, by a ResNet-50 with seven linear heads.

    0:80      identity, the face's shape            224:227   angles about x, y and z, in radians
    80:144    expression                            227:254   light, unused here
    144:224   texture, unused here                  254:257   translation

Source: Deng et al., Accurate 3D Face Reconstruction with Weakly-Supervised Learning (CVPRW 2019); module names are
those of the published checkpoint. What the coefficients mean for points of the face is in `bfm.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exporters.layers.resnet50 import BLOCKS, EXPANSION, WIDTH, ResNet50Body

SIDE = 224
HEADS = (80, 64, 80, 3, 27, 2, 1)  # identity, expression, texture, angles, light, translation in the plane, depth


class ReconNet(nn.Module):
    """The network in its faithful form; the published body begins 64 wide."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.backbone = ResNet50Body(width)
        features = EXPANSION * (width << (len(BLOCKS) - 1))
        self.final_layers = nn.ModuleList(nn.Conv2d(features, numbers, 1) for numbers in HEADS)

    def forward(self, image: Tensor) -> Tensor:
        """The coefficients `(N, 257)` of float32 `(N, 3, 224, 224)` RGB in [0, 1]."""
        _, _, features = self.backbone(image)
        pooled = F.adaptive_avg_pool2d(features, 1)
        return torch.cat([head(pooled) for head in self.final_layers], dim=1).flatten(1)


def prepared(levels: Tensor) -> Tensor:
    """float32 `(N, 3, 256, 256)` RGB in 0..255 as the authors hand it to the network: 224 x 224 in [0, 1]."""
    crop = levels / 255 * 2 - 1
    return F.interpolate(crop * 0.5 + 0.5, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


def fused(coefficients: Tensor, shape: Tensor) -> Tensor:
    """Coefficients `(N, 257)` with the mean of their own identity and that of another face, `shape` `(N, 80)`."""
    identity = HEADS[0]
    return torch.cat([(coefficients[:, :identity] + shape) / 2, coefficients[:, identity:]], dim=1)
