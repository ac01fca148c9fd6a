"""The 3-D face as it is exported: the network and 17 vertices of the face model, in one graph.

* BatchNorms are in the convolutions, and the seven heads are one.
* The bases are reduced to the key points' rows, which is all of the model that they depend on.
* Both bases and the mean shape are one linear layer. What another's identity i' changes is linear too:

      B (i + i') / 2 = B i + B (i' - i) / 2

* Both jaw lines are turned and moved as one list of points, about each axis in turn: no matrices are made.
* With q = p / 112 - 1 for pixels p = (1015 x + 112 z) / z, the 112 z cancels:

      q = (1015 / 112) (x, -y) / z
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from exporters.face_fusion.bfm import CAMERA, CENTRE, FOCAL_LENGTH, PARTS
from exporters.face_fusion.bfm_file import KEYPOINTS, MorphableModel
from exporters.face_fusion.export_recon import SIZE
from exporters.face_fusion.recon import SIDE, ReconNet
from exporters.graphs.folding import linear_of, without_batch_norms


class PlacedLevels(nn.Module):
    """Coefficients and key points of a crop as it is."""

    def __init__(self, network: ReconNet, face: MorphableModel) -> None:
        super().__init__()
        self.backbone = without_batch_norms(network.backbone)
        heads = list(network.final_layers)
        self.heads = linear_of(
            torch.cat([head.weight.flatten(1) for head in heads]), torch.cat([head.bias for head in heads])
        )
        identity, expression, mean = map(_axis_by_axis, (face.identity, face.expression, face.mean.reshape(-1, 1)))
        self.shape = linear_of(torch.cat([identity, expression], dim=1), mean[:, 0])
        self.other = linear_of(identity / 2, torch.zeros(len(identity)))

    def forward(self, image: Tensor, shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`(N, 257)`, `(N, 17, 2)` and `(N, 17, 2)`, of float32 `(N, 3, 256, 256)` RGB in 0..255 and `(N, 80)`."""
        small = F.interpolate(image, scale_factor=SIDE / SIZE, mode="bilinear", align_corners=False)
        _, _, features = self.backbone(small / 255)
        coefficients = self.heads(features.mean(dim=(2, 3)))
        identity, expression, _, angles, _, translation = coefficients.split(PARTS, dim=1)
        own = self.shape(torch.cat([identity, expression], dim=1)).unflatten(1, (3, -1))
        changed = own + self.other(shape - identity).unflatten(1, (3, -1))
        points = _keypoints(torch.cat([own, changed], dim=2), angles, translation)
        keypoints, keypoints_fused = points.split(KEYPOINTS, dim=1)
        return coefficients, keypoints, keypoints_fused


def _keypoints(points: Tensor, angles: Tensor, translation: Tensor) -> Tensor:
    """`(N, P, 2)` in [-1, 1] of points `(N, 3, P)`, turned about x, then y, then z, and moved."""
    x, y, z = points.unbind(1)
    (sx, sy, sz), (cx, cy, cz) = (turn.split(1, dim=1) for turn in (angles.sin(), angles.cos()))
    dx, dy, dz = translation.split(1, dim=1)
    y, z = cx * y - sx * z, sx * y + cx * z
    x, z = cy * x + sy * z, cy * z - sy * x
    x, y = cz * x - sz * y, sz * x + cz * y
    near = (FOCAL_LENGTH / CENTRE) / (CAMERA - dz - z)
    return torch.stack([(x + dx) * near, -(y + dy) * near], dim=2)


def _axis_by_axis(rows: object) -> Tensor:
    """Rows x, y, z of each point in turn as all x, all y, all z: one axis is then a block of what is computed."""
    table = torch.as_tensor(rows)
    return table.unflatten(0, (-1, 3)).transpose(0, 1).flatten(0, 1)
