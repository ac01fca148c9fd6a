"""The Basel Face Model: where the points of a face lie in a picture, of the coefficients that `recon.py` explains.

    shape      mean shape + identity base * identity + expression base * expression, about the mean of all vertices
    in place   shape turned about x, then y, then z, and moved; the camera is at z = 10 and looks down
    picture    224 x 224 with a focal length of 1015: u = (1015 x + 112 z) / z, the same for y, which points up

The generator wants the first 17 of the model's 68 landmarks, the jaw line, in [-1, 1] with y pointing down.

Source: Paysan et al. (AVSS 2009), with the expressions of Guo et al. (TPAMI 2019), as Deng et al. (CVPRW 2019) bundle
them in BFM_model_front.mat and project them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from exporters.face_fusion.bfm_file import KEYPOINTS, MorphableModel

PARTS = (80, 64, 80, 3, 27, 3)  # identity, expression, texture, angles, light, translation
FOCAL_LENGTH, CENTRE, CAMERA = 1015.0, 112.0, 10.0


class FaceModel(nn.Module):
    """Key points as the authors compute them: from all vertices that the model has."""

    def __init__(self, model: MorphableModel) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(model.mean))
        self.register_buffer("identity", torch.from_numpy(model.identity))
        self.register_buffer("expression", torch.from_numpy(model.expression))
        self.register_buffer("landmarks", torch.from_numpy(model.landmarks))

    def forward(self, coefficients: Tensor) -> Tensor:
        """`(N, 17, 2)` (x, y) in [-1, 1], y pointing down, of coefficients `(N, 257)`."""
        identity, expression, _, angles, _, translation = coefficients.split(PARTS, dim=1)
        offsets = identity @ self.identity.T + expression @ self.expression.T
        shape = offsets.unflatten(1, (-1, 3)) + self.mean
        placed = shape @ rotation(angles).transpose(1, 2) + translation[:, None]
        return normalised(projected(placed)[:, self.landmarks[:KEYPOINTS]])


def rotation(angles: Tensor) -> Tensor:
    """`(N, 3, 3)`: about x first, then y, then z, right-handed, of angles `(N, 3)` in radians."""
    zero, one = torch.zeros_like(angles[:, 0]), torch.ones_like(angles[:, 0])
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(1), angles.cos().unbind(1)
    about_x = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx], dim=1)
    about_y = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy], dim=1)
    about_z = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one], dim=1)
    x, y, z = (matrix.unflatten(1, (3, 3)) for matrix in (about_x, about_y, about_z))
    return z @ y @ x


def projected(vertices: Tensor) -> Tensor:
    """Pixels `(N, V, 2)` of 224 x 224, y pointing up, of vertices `(N, V, 3)`."""
    x, y, depth = (*vertices[..., :2].unbind(-1), CAMERA - vertices[..., 2])
    return torch.stack([FOCAL_LENGTH * x + CENTRE * depth, FOCAL_LENGTH * y + CENTRE * depth], -1) / depth[..., None]


def normalised(pixels: Tensor) -> Tensor:
    """Pixels with y pointing up as (x, y) in [-1, 1] with y pointing down."""
    x, y = (pixels / (2 * CENTRE)).unbind(-1)
    return 2 * torch.stack([x, 1 - y], dim=-1) - 1
