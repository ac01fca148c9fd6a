"""The mask that says how much of a drawn crop shows where, in place of the published alpha.jpg."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.images import read_photo
from cameo.pixels import Pixels

# Fractions of the crop: an ellipse that fades out over `FEATHER`, much as the published alpha.jpg.
HALF_AXES: Final = (0.40, 0.49)
FEATHER: Final = 0.156


def ellipse(size: int) -> NDArray[np.float32]:
    """The mask without a file, float32 `(size, size)` in 0..1: the distance to the rim of an ellipse, cut off at 1."""
    inside = np.zeros((size, size), np.uint8)
    centre, axes = size // 2, [math.floor(fraction * size) for fraction in HALF_AXES]
    cv2.ellipse(inside, (centre, centre), axes, 0, 0, 360, 1, cv2.FILLED)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.minimum(distance / (FEATHER * size), 1), np.float32)


def alpha_of(assets: Mapping[str, Path], notes: list[str]) -> Pixels | None:
    """The alpha image of a bundle, uint8 `(h, w, 3)` RGB; None where it has none, and a sentence more in `notes`.

    Raises:
        PhotoError: it cannot be read.
    """
    if "alpha" in assets:
        return read_photo(assets["alpha"])
    notes.append("The bundle has no alpha mask: an ellipse with a soft rim stands in.")
    return None
