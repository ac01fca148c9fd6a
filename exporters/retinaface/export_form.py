"""RetinaFace as it is exported: the same numbers from fewer operations, of an RGB photo.

* BatchNorms are in the convolutions.
* The channels of the first convolution are reversed, so that it takes RGB. The mean cannot go into its bias: its
  border is made of zeros, which are the mean colour.
* The three heads of a level are one 1x1 convolution with 8 + 4 + 20 outputs.
"""

import torch
from torch import Tensor, nn

from exporters.graphs.folding import convolution_of, without_batch_norms
from exporters.retinaface.network import MEAN_BGR, RetinaFace


class RetinaFaceExport(nn.Module):
    """What `RetinaFace` computes before its numbers are put in rows of anchors."""

    def __init__(self, network: RetinaFace) -> None:
        super().__init__()
        self.network = without_batch_norms(network)
        first = self.network.body.conv1
        first.weight = nn.Parameter(first.weight.detach().flip(1), requires_grad=False)
        self.register_buffer("mean", torch.tensor(MEAN_BGR[::-1]).reshape(1, 3, 1, 1))
        heads = zip(network.BboxHead, network.ClassHead, network.LandmarkHead, strict=True)
        self.heads = nn.ModuleList(_merged([head.conv1x1 for head in level]) for level in heads)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`(N, 32, h, w)` for 1/8, 1/16 and 1/32 of the size, of float32 `(N, 3, H, W)` RGB in 0..255."""
        features = self.network.features(image - self.mean)
        return tuple(head(feature) for head, feature in zip(self.heads, features, strict=True))


def _merged(convolutions: list[nn.Conv2d]) -> nn.Conv2d:
    """One convolution with the outputs of all, one after the other."""
    return convolution_of(torch.cat([c.weight for c in convolutions]), torch.cat([c.bias for c in convolutions]))
