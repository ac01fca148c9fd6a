"""ParseNet as it is exported: logits only, a quarter fewer multiplications.

* BatchNorms are in the convolutions; the picture head is gone.
* Convolutions of a doubled image are done before the doubling (`DoubledConv2d`).
* The scale of 0..255 to [-1, 1] is in the first convolution: conv(x / 127.5 - 1), behind a reflecting border, is
  conv with weights / 127.5, and the sum of its weights taken from the bias.
"""

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from exporters.graphs.folding import DoubledConv2d, convolution_of
from exporters.parsenet.network import LEAKY_SLOPE, Block, ConvLayer, ParseNet


class ParseNetExport(nn.Module):
    """What `ParseNet` computes, without its picture."""

    def __init__(self, network: ParseNet) -> None:
        super().__init__()
        network = network.eval()
        first, *down = network.encoder
        self.encoder = nn.Sequential(_of_levels(first), *map(FoldedBlock, down))
        self.body = nn.Sequential(*map(FoldedBlock, network.body))
        self.decoder = nn.Sequential(*map(FoldedBlock, network.decoder))
        self.out = nn.Sequential(_border(network.out_mask_conv), _convolution(network.out_mask_conv))

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(N, 19, H, W)` of float32 `(N, 3, H, W)` RGB in 0..255; H and W are multiples of 16."""
        encoded = self.encoder(image)
        return self.out(self.decoder(encoded + self.body(encoded)))


class FoldedBlock(nn.Module):
    """A residual block of folded layers; its border is made once, for the shortcut and the first convolution."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        shortcut = block.shortcut_func
        self.shortcut = _convolution(shortcut) if isinstance(shortcut, ConvLayer) else None
        self.border = _border(block.conv1)
        self.first = _convolution(block.conv1)
        self.second = nn.Sequential(_border(block.conv2), _convolution(block.conv2))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, h, w)`."""
        bordered = self.border(x)
        shortcut = x if self.shortcut is None else self.shortcut(bordered)  # first: planners keep this order
        return shortcut + self.second(F.leaky_relu(self.first(bordered), LEAKY_SLOPE))


def _border(layer: ConvLayer) -> nn.Module:
    """The border of the layer's input; the reflection of a doubled image is a repetition of the image's edge."""
    return nn.ReplicationPad2d(1) if layer.scale == "up" else nn.ReflectionPad2d(1)


def _convolution(layer: ConvLayer) -> nn.Module:
    """The layer without its border and its activation."""
    convolution = layer.conv2d
    if not isinstance(layer.norm, nn.Identity):
        convolution = fuse_conv_bn_eval(convolution, layer.norm.norm)
    return DoubledConv2d(convolution) if layer.scale == "up" else convolution


def _of_levels(layer: ConvLayer) -> nn.Module:
    """The first layer, taking 0..255 instead of [-1, 1]."""
    trained = layer.conv2d
    weight, bias = trained.weight.detach(), trained.bias.detach()
    shift = weight.double().sum(dim=(1, 2, 3)).float()  # in float64 for the same bytes on every processor
    return nn.Sequential(_border(layer), convolution_of(weight / 127.5, bias - shift))
