"""The fused face enhanced by GPEN within its template: aligned crop, generator, softened by size, put back.

The numbers are those of face fusion's enhancer. It differs from GPEN's own flow (`cameo/faces/restoring.py`): the mask
is a rectangle that fades over 40 pixels instead of 8, and is never 0 within the crop; small faces are softened by going
down and up a pyramid instead of by a filter.
"""

from __future__ import annotations

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.faces.alignment import similarity_in_crop_frame, square_template
from cameo.faces.face import Face, Matrix
from cameo.faces.paste import BLUR_KERNEL, FRAME, MASK_SIZE, Mask, crop_from, reach, warp_region, within
from cameo.faces.restoring import ZOOM
from cameo.pixels import Pixels
from cameo.session import Session

BLUR_SIGMA: Final = 11
# Below so many pixels of the box's shorter side, the enhanced face loses detail; the original's limits.
TINY, SMALL, MIDDLING, LARGE = 40, 60, 80, 100

Picture = NDArray[np.float32]


class FaceEnhancer:
    """Enhances faces with `generator` (`image` -> `result`, uint8 `(N, size, size, 3)` RGB)."""

    def __init__(self, generator: Session, size: int) -> None:
        self._generator = generator
        self.size = size
        self._template = square_template(size, ZOOM)
        self._mask = soft_rectangle(size)

    def align(self, face: Face) -> Matrix:
        """The matrix from photo to crop.

        Raises:
            PhotoError: the face's five points coincide.
        """
        return similarity_in_crop_frame(face.five_points.astype(np.float32), self._template)

    def reach(self, face: Face, shape: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of a photo of `shape` (height, width) that enhancing can touch."""
        return reach(self.align(face), self.size, shape)

    def crop(self, picture: Picture, face: Face, rows: slice, columns: slice, border: int) -> Pixels:
        """The face, uint8 `(size, size, 3)`, of those rows and columns of a photo, float32 in levels.

        The original hands its generator the levels before rounding.
        """
        aligned = crop_from(picture, within(self.align(face), rows, columns), self.size, border)
        return np.asarray(np.rint(aligned).clip(0, 255), np.uint8)

    def enhance(self, crop: Pixels, face: Face) -> Pixels:
        """The crop enhanced, and softened as the face is small: uint8 `(size, size, 3)`."""
        enhanced = np.asarray(self._generator.run({"image": crop[None]})["result"][0], np.uint8)
        return soften(enhanced, min(face.box[2] - face.box[0], face.box[3] - face.box[1]))

    def paste(self, picture: Picture, enhanced: Pixels, face: Face, rows: slice, columns: slice) -> None:
        """Put an enhanced face into those rows and columns of the photo, which `picture` holds."""
        to_crop = self.align(face)
        mask = warp_region(self._mask, to_crop, rows, columns)[..., None]
        picture *= 1 - mask
        picture += warp_region(enhanced, to_crop, rows, columns) * mask


def soft_rectangle(size: int) -> Mask:
    """The mask of the enhanced crop, float32 `(size, size)` in 0..1."""
    mask = np.zeros((MASK_SIZE, MASK_SIZE), np.float32)
    mask[FRAME : MASK_SIZE - FRAME + 1, FRAME : MASK_SIZE - FRAME + 1] = 1  # the original draws both its corners
    for _ in range(2):
        mask = np.asarray(cv2.GaussianBlur(mask, BLUR_KERNEL, BLUR_SIGMA), np.float32)
    return np.asarray(cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


def soften(face: Pixels, shorter_side: float) -> Pixels:
    """An enhanced crop, uint8 `(S, S, 3)`, with as much detail as fits a face of so many pixels."""
    if shorter_side < TINY:
        return _up(_up(_down(_down(face))))
    if shorter_side < SMALL:
        return _up(_by(_by(_down(face), 2), 0.5))
    if shorter_side < MIDDLING:
        return _up(_down(face))
    if shorter_side < LARGE:
        return _by(_down(face), 2)
    return face


def _down(face: NDArray[Any]) -> Pixels:
    return np.asarray(cv2.pyrDown(face), np.uint8)


def _up(face: NDArray[Any]) -> Pixels:
    return np.asarray(cv2.pyrUp(face), np.uint8)


def _by(face: NDArray[Any], factor: float) -> Pixels:
    return np.asarray(cv2.resize(face, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR), np.uint8)
