"""Exact bilinear sampling of a crop at the pixels of its photo, as PyTorch's grid_sample computes it.

    grid_sample(crop, affine_grid(A), align_corners=True, padding zeros): photo pixel (x, y) -> crop at A (x, y)

With aligned corners, the normalisation of the coordinates (2 / (size - 1), kornia's warp_affine) cancels, and pixel
centres are whole numbers on both sides. OpenCV's warps count positions in 1/32 pixel instead (docs/decisions/148).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cameo.faces.face import Matrix


def sample_region(crop: NDArray[Any], to_crop: Matrix, rows: slice, columns: slice) -> NDArray[np.float32]:
    """The crop `(S, S, C)` at those rows and columns of the photo, float32 `(rows, columns, C)`; 0 beyond its rim.

    `to_crop` brings photo pixels onto the crop. Around its rim, the crop fades into the zeros over one pixel.
    """
    x, y = np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop)[:, None]
    padded = np.pad(crop.astype(np.float32), ((1, 2), (1, 2), (0, 0)))
    places = []
    for line, side in zip(to_crop, (crop.shape[1], crop.shape[0]), strict=True):
        position = np.clip(line[0] * x + line[1] * y + line[2], -1, side) + 1  # in the padded crop
        whole = position.astype(np.intp)
        places.append((whole, (position - whole).astype(np.float32)[..., None]))
    (left, right_share), (top, lower_share) = places
    upper = padded[top, left] * (1 - right_share) + padded[top, left + 1] * right_share
    lower = padded[top + 1, left] * (1 - right_share) + padded[top + 1, left + 1] * right_share
    return np.asarray(upper * (1 - lower_share) + lower * lower_share)
