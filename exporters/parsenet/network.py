"""ParseNet: which of 19 parts of a face each pixel shows, as GPEN's flow asks it.

    encoder   3 -> 64, then four blocks that halve the size, to 256 channels at 1/16
    body      ten blocks; the encoder's result is added to theirs
    decoder   four blocks that double the size
    heads     19 logits, and a picture that nobody uses

Every convolution is 3x3 behind a reflecting border of one pixel. A block is shortcut(x) + conv2(conv1(x)).

Source: face parsing network of PSFR-GAN (Chen et al., CVPR 2021), as GPEN ships it; module names are the checkpoint's.
"""

from itertools import pairwise
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

SIZE = 512
CLASSES = 19
SIZE_MULTIPLE = 16  # the size is halved four times, and doubling must give it back
LEAKY_SLOPE = 0.2
WIDTHS = (64, 128, 256, 256, 256)  # channels at full size, 1/2, 1/4, 1/8, 1/16
BODY_BLOCKS = 10

Scale = Literal["same", "up", "down"]


class ParseNet(nn.Module):
    """The network in its faithful form."""

    def __init__(self) -> None:
        super().__init__()
        down = [Block(inputs, outputs, "down") for inputs, outputs in pairwise(WIDTHS)]
        up = [Block(inputs, outputs, "up") for inputs, outputs in pairwise(reversed(WIDTHS))]
        self.encoder = nn.Sequential(ConvLayer(3, WIDTHS[0]), *down)
        self.body = nn.Sequential(*(Block(WIDTHS[-1], WIDTHS[-1], "same") for _ in range(BODY_BLOCKS)))
        self.decoder = nn.Sequential(*up)
        self.out_img_conv = ConvLayer(WIDTHS[0], 3)
        self.out_mask_conv = ConvLayer(WIDTHS[0], CLASSES)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(N, 19, H, W)` and a picture `(N, 3, H, W)`, of float32 `(N, 3, H, W)` RGB in [-1, 1].

        H and W are multiples of 16; the network was trained at 512.
        """
        encoded = self.encoder(image)
        features = self.decoder(encoded + self.body(encoded))
        return self.out_mask_conv(features), self.out_img_conv(features)


class Block(nn.Module):
    """A residual block that keeps, halves or doubles the size; nothing follows its sum."""

    def __init__(self, inputs: int, outputs: int, scale: Scale) -> None:
        super().__init__()
        self.shortcut_func: nn.Module = nn.Identity()
        if scale != "same" or inputs != outputs:
            self.shortcut_func = ConvLayer(inputs, outputs, scale)
        self.conv1 = ConvLayer(inputs, outputs, "up" if scale == "up" else "same", normalised=True, activated=True)
        self.conv2 = ConvLayer(outputs, outputs, "down" if scale == "down" else "same", normalised=True)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, h, w)`."""
        return self.shortcut_func(x) + self.conv2(self.conv1(x))


class ConvLayer(nn.Module):
    """[double the size,] reflect one pixel, convolve [at every second pixel] [, normalise] [, leaky ReLU]."""

    def __init__(
        self, inputs: int, outputs: int, scale: Scale = "same", normalised: bool = False, activated: bool = False
    ) -> None:
        super().__init__()
        self.scale = scale
        self.activated = activated
        self.conv2d = nn.Conv2d(inputs, outputs, 3, stride=2 if scale == "down" else 1, bias=not normalised)
        self.norm = Norm(outputs) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """`(N, outputs, h, w)`."""
        if self.scale == "up":
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = self.norm(self.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect")))
        return F.leaky_relu(x, LEAKY_SLOPE) if self.activated else x


class Norm(nn.Module):
    """BatchNorm under the key `norm.norm` of the checkpoint."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """x's shape."""
        return self.norm(x)
