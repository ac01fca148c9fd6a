"""CurricularFace's backbone as it is exported: the same embedding from fewer operations.

* The photo is made smaller before it is scaled: the weights of a bilinear sample sum to 1, so they commute.
* BatchNorms after a convolution are in it. Those before one stay, as a x + b: the convolution's border of zeros comes
  after them.
* The last two BatchNorms and the linear layer between them are one linear layer: with scales a, c and shifts b, d,

      c (W (a x + b) + w) + d = (c W a) x + c (W b + w) + d

* The length is one root of a sum of squares, in the form that conversions to FP16 know to keep in FP32.
* The shortcut that takes every second pixel, a pooling of single pixels, is a slice; the one that takes all is nothing.
"""

from __future__ import annotations

from copy import deepcopy

from torch import Tensor, nn
from torch.nn import functional as F

from exporters.face_fusion.backbone import SIDE, Backbone, Unit
from exporters.face_fusion.export_backbone import SIZE
from exporters.graphs.folding import linear_of, without_batch_norms


class EmbeddedLevels(nn.Module):
    """What `Backbone` computes of a crop as it is."""

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        folded = without_batch_norms(network)
        for unit in folded.body:
            if isinstance(unit.shortcut_layer, nn.MaxPool2d):
                unit.shortcut_layer = EverySecond() if _stride(unit) == 2 else nn.Identity()
            unit.res_layer[0] = Affine(*_scale_and_shift(unit.res_layer[0]))
        self.features = nn.Sequential(folded.input_layer, folded.body, nn.Flatten())
        self.linear = _linear(folded.output_layer)

    def forward(self, image: Tensor) -> Tensor:
        """The embedding `(N, 512)` of length 1, of float32 `(N, 3, 256, 256)` RGB in 0..255."""
        small = F.interpolate(image, scale_factor=SIDE / SIZE, mode="bilinear", align_corners=True)
        embedding = self.linear(self.features(small / 127.5 - 1))
        return embedding * embedding.square().sum(dim=1, keepdim=True).rsqrt()


class Affine(nn.Module):
    """`scale` x + `shift` by channel: a BatchNorm in its plainest form, which every engine and precision knows."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale[:, None, None])
        self.register_buffer("shift", shift[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """x's shape."""
        return x * self.scale + self.shift


class EverySecond(nn.Module):
    """Every second row of every second column."""

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, h / 2, w / 2)`, rounded up."""
        return x[:, :, ::2, ::2]


def _stride(unit: Unit) -> int:
    return int(unit.res_layer[3].stride[0])


def _linear(layers: nn.Sequential) -> nn.Linear:
    """The output layer as one, added up in float64: in float32 its bytes would be the processor's."""
    before, _, _, trained, after = deepcopy(layers).double()
    pixels = trained.in_features // before.num_features
    (a, b), (c, d) = map(_scale_and_shift, (before, after))
    weight = trained.weight.detach() * c[:, None]
    bias = weight @ b.repeat_interleave(pixels) + c * trained.bias.detach() + d
    return linear_of((weight * a.repeat_interleave(pixels)).float(), bias.float())


def _scale_and_shift(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What a BatchNorm does to a channel in evaluation, by channel."""
    scale = (norm.running_var + norm.eps).rsqrt()
    if not norm.affine:
        return scale, -norm.running_mean * scale
    scale = scale * norm.weight.detach()
    return scale, norm.bias.detach() - norm.running_mean * scale
