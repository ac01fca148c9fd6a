"""Five-point templates, the similarity that brings a face onto them, and the aligned crop.

A similarity turns, scales and shifts: (x, y) -> (a x + b y + tx, -b x + a y + ty). Two ways to choose it, least squares
both, differ in where the error is measured:

    similarity_in_image_frame   sum |S(template) - points|^2, in photo pixels: DCT-Net, face fusion's swap
    similarity_in_crop_frame    sum |T(points) - template|^2, in crop pixels (Umeyama 1991): GPEN, fusion's enhancer

The originals of the first also fit a mirrored similarity and keep the better one, by a comparison that is spoilt by a
template negated in place. A face never needs mirroring, so only the plain one is fitted here. The results differ only
for points so deformed (15 px of noise on a 256 px crop, 2 of 200 trials) that the originals mirror the face.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.errors import PhotoError
from cameo.faces.face import Matrix, Points

# ArcFace's reference points in a 96 x 112 crop, the same in DCT-Net, GPEN and face fusion.
TEMPLATE_96X112: Matrix = np.array(
    [
        (30.29459953, 51.69630051),
        (65.53179932, 51.50139999),
        (48.02519989, 71.73660278),
        (33.54930115, 92.3655014),
        (62.72990036, 92.20410156),
    ]
)
TEMPLATE_SIDE = 112  # pixels
_TO_SQUARE = (TEMPLATE_SIDE - 96) / 2


def square_template(size: int, zoom: float = 1.0, offset: float = 0.0) -> Matrix:
    """Where the five points belong in a square crop of `size` pixels, float64 `(5, 2)`.

    `zoom` below 1 shows more around the face; `offset` shifts the points right and down, in pixels of the template.
    """
    points = TEMPLATE_96X112 + np.array([_TO_SQUARE, 0]) + offset
    centre = TEMPLATE_SIDE / 2
    return np.asarray(((points - centre) * zoom + centre) * size / TEMPLATE_SIDE)


def similarity_in_image_frame(points: Points, template: Points) -> Matrix:
    """The photo -> crop matrix, float64 `(2, 3)`, whose inverse brings the template closest to the points.

    Raises:
        PhotoError: the points coincide.
    """
    _check_spread(points)
    x, y = template.astype(np.float64).T
    one, zero = np.ones_like(x), np.zeros_like(x)
    equations = np.concatenate([np.stack([x, y, one, zero], axis=1), np.stack([y, -x, zero, one], axis=1)])
    a, b, tx, ty = np.linalg.lstsq(equations, points.astype(np.float64).T.reshape(-1), rcond=None)[0]
    return invert(np.array([(a, b, tx), (-b, a, ty)]))


def similarity_in_crop_frame(points: Points, template: Points) -> Matrix:
    """The photo -> crop matrix, float64 `(2, 3)`, that brings the points closest to the template.

    Raises:
        PhotoError: the points coincide.
    """
    _check_spread(points)
    source, target = points.astype(np.float64), template.astype(np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    source_centred, target_centred = source - source_mean, target - target_mean
    u, singular, vt = np.linalg.svd(target_centred.T @ source_centred / len(source))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    scale = (singular * signs).sum() / source_centred.var(axis=0).sum()
    turn = scale * (u * signs) @ vt
    return np.column_stack([turn, target_mean - turn @ source_mean])


def invert(matrix: Matrix) -> Matrix:
    """The matrix that undoes an affine `(2, 3)` one, float64 `(2, 3)`."""
    square = np.vstack([matrix, (0.0, 0.0, 1.0)])
    return np.asarray(np.linalg.inv(square)[:2])


def transform(matrix: Matrix, points: Points) -> Matrix:
    """The points `(K, 2)` moved by an affine `(2, 3)` matrix, float64."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def warp(image: NDArray[Any], matrix: Matrix, size: tuple[int, int], border: int = cv2.BORDER_CONSTANT) -> NDArray[Any]:
    """The image moved by an affine `(2, 3)` matrix onto a canvas of `size` (width, height), in its own dtype.

    Bilinear, as all the originals: INTER_AREA, which GPEN asks for, means bilinear in a warp. `border` is how OpenCV
    goes on where the image ends: with 0, unless told otherwise.
    """
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border))


def crop(image: NDArray[Any], matrix: Matrix, size: int, border: int = cv2.BORDER_REFLECT) -> NDArray[Any]:
    """The aligned face, `(size, size, 3)` in the photo's dtype and colour order; by default mirrored where that ends.

    The originals go on in black or white there, and interpolation and network carry that into the photo: the outermost
    line of a restored face came out 10 to 23 levels darker than the next (docs/decisions/107).
    """
    return warp(image, matrix, (size, size), border)


def _check_spread(points: Points) -> None:
    if not np.isfinite(points).all() or np.ptp(points, axis=0).max() < 1:
        raise PhotoError(
            f"The five points of a face all lie at ({points[0][0]:.0f}, {points[0][1]:.0f}), expected them apart: "
            "use a larger photo of the face, or another face finder."
        )
