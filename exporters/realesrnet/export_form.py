"""RRDBNet as it is exported: levels in, levels out, fewer passes over the largest features.

* Folding the photo into channels and convolving is one convolution of the photo: with fold f, kernel 3f and
  stride f. So the shuffle goes, and its weights are W'[o, c, f*ky + dy, f*kx + dx] = W[o, c*f*f + dy*f + dx, ky, kx].
* Convolutions of a doubled image are done before the doubling (`DoubledConv2d`).
* A dense block's 0.2 conv5 + x has the 0.2 in conv5's weights.
* 1/255 is in the first convolution, 255 in the last.

The concatenations of the dense blocks stay. Instead, each convolution could be the sum of a convolution of each part,
with its share of the weights. For x2 at 256 x 256 on two cores that takes 0.8 of OpenVINO's time, but 1.2 of ONNX
Runtime's and more of its peak memory (381 MiB instead of 322, with the arena); TensorRT-RTX plans 90 MiB instead of 88,
and three times as many convolutions take two to three times as long to build.
"""

import torch
from torch import Tensor, nn

from exporters.graphs.folding import DoubledConv2d, convolution_of
from exporters.realesrnet.network import RESIDUAL, DenseBlock, ResidualInResidual, RRDBNet, activate


class RRDBNetExport(nn.Module):
    """What `RRDBNet` computes of a photo's levels, rounded to whole levels."""

    def __init__(self, network: RRDBNet) -> None:
        super().__init__()
        self.conv_first = _folding(network.conv_first, network.fold, 1 / 255)
        self.body = nn.Sequential(*map(FoldedResidual, network.body))
        self.conv_body = network.conv_body
        self.conv_up1 = DoubledConv2d(network.conv_up1, padding=1)
        self.conv_up2 = DoubledConv2d(network.conv_up2, padding=1)
        self.conv_hr = network.conv_hr
        self.conv_last = _scaled(network.conv_last, 255)

    def forward(self, image: Tensor) -> Tensor:
        """Whole numbers in 0..255, float32 `(N, 3, scale * H, scale * W)` RGB, of `(N, 3, H, W)` of the same kind."""
        first = self.conv_first(image)
        feature = first + self.conv_body(self.body(first))
        feature = activate(self.conv_up2(activate(self.conv_up1(feature))))
        return self.conv_last(activate(self.conv_hr(feature))).clamp(0, 255).round()


class FoldedResidual(nn.Module):
    """Three dense blocks and a shortcut around them."""

    def __init__(self, block: ResidualInResidual) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*map(FoldedDense, (block.rdb1, block.rdb2, block.rdb3)))

    def forward(self, x: Tensor) -> Tensor:
        """x's shape."""
        return RESIDUAL * self.blocks(x) + x


class FoldedDense(nn.Module):
    """A dense block whose last convolution is scaled."""

    def __init__(self, block: DenseBlock) -> None:
        super().__init__()
        self.inner = nn.ModuleList([block.conv1, block.conv2, block.conv3, block.conv4])
        self.last = _scaled(block.conv5, RESIDUAL)

    def forward(self, x: Tensor) -> Tensor:
        """x's shape."""
        seen = x
        for convolution in self.inner:
            seen = torch.cat([seen, activate(convolution(seen))], dim=1)
        return self.last(seen) + x


def _scaled(convolution: nn.Conv2d, factor: float) -> nn.Conv2d:
    return convolution_of(convolution.weight * factor, convolution.bias * factor, padding=1)


def _folding(convolution: nn.Conv2d, fold: int, factor: float) -> nn.Conv2d:
    """The convolution of a photo that equals `convolution` of the folded photo times `factor`."""
    outputs, inputs, kernel, _ = convolution.weight.shape
    blocks = convolution.weight.reshape(outputs, inputs // fold**2, fold, fold, kernel, kernel)
    weight = blocks.permute(0, 1, 4, 2, 5, 3).reshape(outputs, inputs // fold**2, kernel * fold, kernel * fold)
    return convolution_of(weight * factor, convolution.bias, stride=fold, padding=fold)
