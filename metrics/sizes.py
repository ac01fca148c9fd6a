"""Sizes of pictures, and photos cut to them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Sizes:
    """Where a network that takes photos of any size is compared, and where it is timed."""

    fidelity: tuple[Size, ...] = ((256, 256), (360, 480), (1024, 1024))
    latency: Size = (720, 960)


def fit(photo: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """The middle of `photo` uint8 `(H, W, 3)` RGB that has the proportions of `size`, resized to it."""
    height, width = photo.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    rows, columns = min(height, round(size[0] / scale)), min(width, round(size[1] / scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    part = photo[top : top + rows, left : left + columns]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (size[1], size[0]), interpolation=method), np.uint8)
