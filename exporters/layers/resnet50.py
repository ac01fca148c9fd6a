"""ResNet-50 without its classifier, v1.5: the stride sits on the 3x3 convolution.

Source: He et al., Deep Residual Learning (CVPR 2016); module names are those of torchvision's checkpoints, which
networks that build on it keep.
"""

from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 64
EXPANSION = 4
BLOCKS = (3, 4, 6, 3)


class ResNet50Body(nn.Module):
    """ResNet-50 without its classifier, giving its last three stages."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        widths = [width << stage for stage in range(len(BLOCKS))]
        inputs = (width, *(EXPANSION * before for before in widths))
        stages = zip(inputs, widths, BLOCKS, (1, 2, 2, 2), strict=False)
        self.layer1, self.layer2, self.layer3, self.layer4 = (_stage(*stage) for stage in stages)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """512, 1024 and 2048 channels at 1/8, 1/16 and 1/32 of the size, rounded up; other widths in proportion."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), kernel_size=3, stride=2, padding=1)
        c3 = self.layer2(self.layer1(x))
        c4 = self.layer3(c3)
        return c3, c4, self.layer4(c4)


class Bottleneck(nn.Module):
    """relu(x + conv3 f(conv2 f(conv1 x))), with a 1x1 convolution on x where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """`(N, 4 width, h, w)`."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def _stage(inputs: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(inputs, width, stride)
    return nn.Sequential(first, *(Bottleneck(width * EXPANSION, width, 1) for _ in range(blocks - 1)))
