"""Restored faces back into their photo: soft masks, and the paste.

A mask says where a crop is face (0 or 1, 512 x 512, by ParseNet or a fixed rectangle), loses a frame of 26 pixels, is
blurred twice and shrunk to the crop. Where warped masks overlap, the larger one wins, the earlier face at a draw; where
a mask m wins, the photo becomes (1 - m) photo + m face. Masks that differ by no more than float32's rounding
are a draw: in the original rounding decides, a pixel here and there, between two masks of 1.

Where a face's crop leaves the photo, the face is cut by the border, and beyond it the network saw only the photo's
mirror image: there the mask fades out over the last `FADE` pixels before the border (docs/decisions/107).

All of it happens within the rectangle that a face can reach. A warp of that rectangle alone would round its coordinates
otherwise than a warp of the whole photo: OpenCV adds the column's and the row's share of a coordinate as whole 1/1024
pixels. So `warp_region` computes these sums for the photo's columns and rows, and gives `remap` the result: levels
are those of `warpAffine` over the whole photo, floats within their rounding (1e-7).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.faces.alignment import crop, invert, transform
from cameo.faces.face import Matrix
from cameo.pixels import Pixels

Mask = NDArray[np.float32]

# Numbers of the original (`FaceEnhancement.mask_postprocess`)
MASK_SIZE: Final = 512
FRAME: Final = 26
BLUR_KERNEL: Final = (101, 101)
BLUR_SIGMA: Final = 4
FADE: Final = 8  # pixels of the mask's 512; our own
MAX_SIDE: Final = 32766  # pixels of an image that OpenCV can warp
BLOCK: Final = 1024  # pixels a side of what is pasted at once, so that a face as large as the photo takes no more
DRAW: Final = np.finfo(np.float32).eps
NOT_FACE: Final = (0, 14, 18)  # ParseNet's classes background, hat and cloth
# How OpenCV counts coordinates of a warp: sums in 1/1024 px, positions in 1/32 px (imgwarp.cpp: AB_BITS, INTER_BITS)
_SUM_BITS: Final = 10
_POSITION_BITS: Final = 5


def face_mask(logits: NDArray[Any], size: int) -> Mask:
    """The soft mask of ParseNet's logits `(19, 512, 512)`, float32 `(size, size)` in 0..1."""
    classes = logits.argmax(axis=0)
    return _soften(np.isin(classes, NOT_FACE, invert=True).astype(np.float32), size)


def rectangle_mask(size: int) -> Mask:
    """The soft mask of a crop that is all face, float32 `(size, size)` in 0..1."""
    return _soften(np.ones((MASK_SIZE, MASK_SIZE), np.float32), size)


def _soften(mask: Mask, size: int) -> Mask:
    mask[:FRAME] = mask[-FRAME:] = 0
    mask[:, :FRAME] = mask[:, -FRAME:] = 0
    for _ in range(2):
        mask = np.asarray(cv2.GaussianBlur(mask, BLUR_KERNEL, BLUR_SIGMA), np.float32)
    return np.asarray(cv2.resize(mask, (size, size), interpolation=cv2.INTER_LINEAR), np.float32)


class FacePaster:
    """Puts faces into a copy of `photo`, uint8 `(H, W, 3)`; `image` is that copy."""

    def __init__(self, photo: Pixels) -> None:
        self._photo = photo
        self._mask = np.zeros(photo.shape[:2], np.float32)
        self.image = photo.copy()

    def paste(self, face: Pixels, mask: Mask, to_crop: Matrix) -> None:
        """Put in one face, uint8 `(S, S, 3)`, where its mask, float32 `(S, S)`, beats all before.

        `to_crop` is the matrix that found it.
        """
        shape = self.image.shape[0], self.image.shape[1]
        rows, columns = reach(to_crop, len(face), shape)
        fades = border_fades(to_crop, len(face), shape)
        for block in blocks(rows, columns):
            fade = np.minimum(fades[0][block[0], None], fades[1][block[1]])
            self._paste_block(face, warp_region(mask, to_crop, *block) * fade, to_crop, block)

    def _paste_block(self, face: Pixels, warped_mask: Mask, to_crop: Matrix, block: tuple[slice, slice]) -> None:
        wins = warped_mask > self._mask[block] + DRAW
        share = warped_mask[..., None]
        mixed = self._photo[block] * (1 - share) + warp_region(face, to_crop, *block) * share
        np.copyto(self.image[block], np.rint(mixed).clip(0, 255).astype(np.uint8), where=wins[..., None])
        np.copyto(self._mask[block], warped_mask, where=wins)


def blocks(rows: slice, columns: slice, side: int = BLOCK) -> Iterator[tuple[slice, slice]]:
    """Those rows and columns of a photo in pieces of at most `side` pixels a side."""
    for top in range(rows.start, rows.stop, side):
        for left in range(columns.start, columns.stop, side):
            yield slice(top, min(top + side, rows.stop)), slice(left, min(left + side, columns.stop))


def reach(to_crop: Matrix, size: int, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of a photo of `shape` (height, width) that a crop of `size` pixels can touch."""
    corners = transform(invert(to_crop), np.array([(0, 0), (1, 0), (0, 1), (1, 1)], np.float64) * size)
    left, top = np.clip(np.floor(corners.min(axis=0)) - 2, 0, shape[::-1]).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 2, 0, shape[::-1]).astype(int)
    return slice(top, bottom), slice(left, right)


def border_fades(to_crop: Matrix, size: int, shape: tuple[int, int]) -> tuple[Mask, Mask]:
    """What a face's mask is multiplied by in every row and column of a photo of `shape`, float32 `(H,)` and `(W,)`.

    1, unless the crop of `size` pixels leaves the photo: then from nearly 0 in the outermost line to 1.
    """
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], np.float64) * (size - 1)
    in_photo = transform(invert(to_crop), corners)
    if in_photo.min() >= 0 and (in_photo <= np.array(shape[::-1]) - 1).all():
        return np.ones(shape[0], np.float32), np.ones(shape[1], np.float32)
    width = FADE * size / MASK_SIZE / np.hypot(*to_crop[:, 0])  # in pixels of the photo
    lines = [np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5 for side in shape]
    rows, columns = (np.minimum(line / width, 1).astype(np.float32) for line in lines)
    return rows, columns


def crop_from(photo: NDArray[Any], to_crop: Matrix, size: int, border: int = cv2.BORDER_REFLECT) -> NDArray[Any]:
    """The aligned face, `(size, size, 3)` in the photo's dtype, of a photo of any size; `border` as for `crop`."""
    if max(photo.shape) <= MAX_SIDE:
        return crop(photo, to_crop, size, border)
    rows, columns = reach(to_crop, size, (photo.shape[0], photo.shape[1]))
    near = photo[rows, columns][:MAX_SIDE, :MAX_SIDE]
    if near.size == 0:
        return np.zeros((size, size, 3), photo.dtype)
    return crop(near, within(to_crop, rows, columns), size, border)


def within(to_crop: Matrix, rows: slice, columns: slice) -> Matrix:
    """The matrix to the crop from those rows and columns of the photo alone."""
    corner = to_crop[:, :2] @ np.array([columns.start, rows.start])
    return np.column_stack([to_crop[:, :2], to_crop[:, 2] + corner])


def warp_region(image: NDArray[Any], to_crop: Matrix, rows: slice, columns: slice) -> NDArray[Any]:
    """What `warpAffine` makes of a crop at those rows and columns of the photo, in the crop's dtype, 0 outside it.

    `to_crop` brings photo pixels onto the crop.
    """
    x, y = np.arange(columns.start, columns.stop), np.arange(rows.start, rows.stop)
    positions = [_positions(line, x, y) for line in to_crop]
    whole = np.stack([position >> _POSITION_BITS for position in positions], axis=-1)
    steps = 1 << _POSITION_BITS
    fraction = (positions[1] % steps) * steps + positions[0] % steps
    within = whole.clip(np.iinfo(np.int16).min, np.iinfo(np.int16).max).astype(np.int16)
    return np.asarray(
        cv2.remap(image, within, fraction.astype(np.uint16), cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    )


def _positions(line: NDArray[np.float64], x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.int64]:
    """One coordinate in the crop of all photo pixels, in 1/32 px, int64 `(y, x)`."""
    scale = 1 << _SUM_BITS
    to_nearest = 1 << (_SUM_BITS - _POSITION_BITS - 1)
    column_share = np.rint(line[0] * x * scale).astype(np.int64)
    row_share = np.rint((line[1] * y + line[2]) * scale).astype(np.int64) + to_nearest
    return np.asarray((row_share[:, None] + column_share) >> (_SUM_BITS - _POSITION_BITS))
