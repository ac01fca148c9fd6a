"""Photos without colour, and results that must not have more of it than their photo.

Networks that were trained on colour photos tint what they paint: GPEN gave a grey portrait's face other levels in red,
green and blue, up to 12 apart. So the flows take the brightness of what is made of a photo without colour: Y of
Rec. 601, as JPEG stores it and OpenCV's YUV means it, which leaves every grey pixel exactly as it is
(docs/decisions/106).
"""

from __future__ import annotations

import cv2
import numpy as np

from cameo.faces.face import Image


def is_colourless(photo: Image) -> bool:
    """Whether red, green and blue of a uint8 `(H, W, 3)` photo are the same everywhere."""
    red, green, blue = (photo[..., channel] for channel in range(3))
    return np.array_equal(red, green) and np.array_equal(red, blue)


def without_colour(image: Image) -> Image:
    """The brightness of an RGB image, uint8 `(H, W, 3)`."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def as_colourless_as(photo: Image, result: Image) -> Image:
    """The result, uint8 `(H, W, 3)` RGB: as it is, or its brightness where the photo it was made of has no colour."""
    return without_colour(result) if is_colourless(photo) else result
