"""The pictures of a report: encoded for a page, and the difference of two as a heatmap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
_JPEG_QUALITY = 90
_LONGEST_SHOWN = 1200
_SPARSE = 0.01
_LEAST_FULL_SCALE = 2
_COLOURS = cv2.COLORMAP_INFERNO


def jpeg(image: Image) -> bytes:
    """`image` uint8 `(H, W, 3)` RGB as JPEG."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def shrink(image: Image, long_side: int) -> Image:
    """`image` with its long side at most `long_side`."""
    scale = long_side / max(image.shape[:2])
    if scale >= 1:
        return image
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)


def full_scale(original: Image, candidate: Image) -> int:
    """The difference in levels that a heatmap's brightest colour stands for: a power of two that fits the largest."""
    largest = int(np.abs(original.astype(np.int16) - candidate).max())
    return max(_LEAST_FULL_SCALE, 1 << max(0, largest - 1).bit_length())


def is_sparse(original: Image, candidate: Image) -> bool:
    """Whether so few pixels differ that each must be drawn larger than it is to be seen."""
    return bool((original != candidate).any(axis=2).mean() < _SPARSE)


def heatmap(original: Image, candidate: Image, scale: int, shrinking: int = 1) -> bytes:
    """PNG of the largest difference of each pixel's three values; sparse ones are drawn three pixels wide.

    It has a pixel for each square of `shrinking` pixels, the largest difference in it.
    """
    difference = np.abs(original.astype(np.int16) - candidate).max(axis=2)
    if shrinking > 1:
        anchor = (0, 0)  # OpenCV then looks right and down from each pixel
        difference = cv2.dilate(difference, np.ones((shrinking, shrinking), np.uint8), anchor=anchor)
        difference = difference[::shrinking, ::shrinking]
    shown = np.clip(difference * 255 // scale, 0, 255).astype(np.uint8)
    if is_sparse(original, candidate):
        shown = cv2.dilate(shown, np.ones((3, 3), np.uint8))
    return cv2.imencode(".png", cv2.applyColorMap(shown, _COLOURS))[1].tobytes()


def scale_bar() -> bytes:
    """PNG `(1, 256)` of the heatmap's colours, from no difference to full scale."""
    return cv2.imencode(".png", cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], _COLOURS))[1].tobytes()


@dataclass(frozen=True)
class FlowPicture:
    """What the whole model makes of its photos: them, by the names that it takes, and the result, encoded."""

    before: Mapping[str, bytes]
    after: bytes
    caption: str

    @classmethod
    def of(cls, before: Mapping[str, Image], after: Image, caption: str) -> FlowPicture:
        """The photos and the result, uint8 `(H, W, 3)` RGB, made small enough for a page, and a sentence about them."""
        photos = {name: jpeg(shrink(photo, _LONGEST_SHOWN)) for name, photo in before.items()}
        return cls(photos, jpeg(shrink(after, _LONGEST_SHOWN)), caption)


@dataclass(frozen=True)
class Comparison:
    """The original's and an engine's picture of one photo, and their difference: encoded, for a page."""

    subject: str
    photo: str
    original: bytes
    candidate: bytes
    difference: bytes
    full_scale: int
    sparse: bool


def compare_pictures(
    subject: str, photo: str, original: Image, candidate: Image, long_side: int | None = None
) -> Comparison:
    """The two pictures uint8 `(H, W, 3)` RGB of one photo, encoded, with their heatmap.

    Larger ones than `long_side` are shrunk; of the differences in a shrunk heatmap's pixel, the largest is drawn.
    """
    scale, sparse = full_scale(original, candidate), is_sparse(original, candidate)
    shrinking = 1 if long_side is None else -(-max(original.shape[:2]) // long_side)
    difference = heatmap(original, candidate, scale, shrinking)
    shown = [image if shrinking == 1 else shrink(image, long_side or 0) for image in (original, candidate)]
    return Comparison(subject, photo, jpeg(shown[0]), jpeg(shown[1]), difference, scale, sparse)


@dataclass(frozen=True)
class FacePair:
    """One face in the original's result and in an engine's, encoded, with the two figures that matter."""

    subject: str
    photo: str
    original: bytes
    candidate: bytes
    psnr: float
    shift_share: float


def face_pair(subject: str, photo: str, original: Image, candidate: Image, psnr: float, shift_share: float) -> FacePair:
    """Two aligned crops of one face, uint8 `(S, S, 3)` RGB, encoded."""
    return FacePair(subject, photo, jpeg(original), jpeg(candidate), psnr, shift_share)
