"""Pictures beside each other, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cameo.pixels import Pixels


def side_by_side(pictures: Sequence[Pixels]) -> Pixels:
    """Pictures uint8 `(H, W, 3)` RGB from left to right, all as high as the last: uint8 `(H, W, 3)` RGB."""
    height = pictures[-1].shape[0]
    return np.hstack([_as_high(picture, height) for picture in pictures])


def _as_high(picture: Pixels, height: int) -> Pixels:
    if picture.shape[0] == height:
        return picture
    width = max(round(picture.shape[1] * height / picture.shape[0]), 1)
    how = cv2.INTER_AREA if height < picture.shape[0] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (width, height), interpolation=how), np.uint8)
