"""The five points of a face from its 68 landmarks: pupils, nose tip and corners of the mouth.

A pupil is the median position of the dark pixels inside the eye. As in the originals (`get_f5p` of DCT-Net and face
fusion) an eye is the polygon of its first *five* landmarks: the sixth, on the lower lid, is left out. That cuts off a
corner of the eye, but the published networks saw heads aligned this way, so it stays.
"""

from __future__ import annotations

import cv2
import numpy as np

from cameo.faces.face import Matrix, Points
from cameo.pixels import Pixels

# Positions in the 68 points of iBUG.
LEFT_EYE, RIGHT_EYE = slice(36, 41), slice(42, 47)
NOSE_TIP, MOUTH_LEFT, MOUTH_RIGHT = 30, 48, 54


def five_points(image: Pixels, landmarks: Points) -> Matrix:
    """Left pupil, right pupil, nose tip, left and right corner of the mouth, float64 `(5, 2)` in pixels.

    `image` is uint8 `(H, W, 3)` RGB, `landmarks` `(68, 2)`. Where one eye lies outside the image or is empty, both
    pupils are the means of their eyes' landmarks.
    """
    eyes = landmarks[LEFT_EYE], landmarks[RIGHT_EYE]
    pupils = [find_pupil(image, eye) for eye in eyes]
    if None in pupils:
        pupils = [tuple(eye.mean(axis=0)) for eye in eyes]
    return np.array([*pupils, landmarks[NOSE_TIP], landmarks[MOUTH_LEFT], landmarks[MOUTH_RIGHT]], np.float64)


def find_pupil(image: Pixels, eye: Points) -> tuple[float, float] | None:
    """The (x, y) of the pupil inside the polygon `eye` `(K, 2)`; None if its box is empty or leaves the image."""
    height, width = image.shape[:2]
    left, top = (int(value) for value in eye.min(axis=0))
    right, bottom = (int(value) for value in eye.max(axis=0))
    if left < 0 or top < 0 or right > width or bottom > height or left >= right or top >= bottom:
        return None
    gray = cv2.equalizeHist(cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2GRAY))
    _, bright = cv2.threshold(gray, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    inside = np.zeros_like(gray)
    cv2.fillConvexPoly(inside, (eye - (left, top)).astype(np.int32), 1)
    rows, columns = np.nonzero((bright == 0) & (inside == 1))
    if len(rows) == 0:
        return left + (right - left) / 2, top + (bottom - top) / 2
    middle = len(rows) // 2
    return float(left + np.sort(columns)[middle]), float(top + np.sort(rows)[middle])
