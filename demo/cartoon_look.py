"""The cartoon look that the demo networks learn, computed with classical filters.

    flat    = the photo under repeated bilateral filters: texture goes, edges stay
    paint   = flat with its lightness drawn towards evenly spaced tones, and stronger colours
    ink     = 1 where flat is darker than its surroundings (a difference of Gaussians, as in XDoG), 0 elsewhere
    cartoon = paint, darkened where there is ink

Every step is smooth and local (a few tens of pixels), because a small convolutional network has to learn it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.pixels import Pixels

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Look:
    """What tells one cartoon from another."""

    smoothing: int  # passes of the bilateral filter
    tones: int  # levels of lightness
    tone_pull: float  # 0 leaves the lightness as it is, 1 puts it exactly on a tone
    saturation: float  # factor on the colour channels
    line_width: float  # standard deviation in pixels of the narrow Gaussian of the outline
    line_gain: float  # how quickly an outline turns to full ink
    line_darkness: float  # 1 is black


BACKGROUND = Look(
    smoothing=4, tones=7, tone_pull=0.8, saturation=1.3, line_width=1.3, line_gain=0.35, line_darkness=0.75
)
HEAD = Look(smoothing=6, tones=7, tone_pull=0.65, saturation=1.2, line_width=1.5, line_gain=0.45, line_darkness=0.85)

MARGIN = 32  # pixels around a crop that can change the look inside it


def cartoon(photo: Pixels, look: Look) -> Pixels:
    """The photo as a cartoon; both uint8 `(H, W, 3)` BGR."""
    flat = photo
    for _ in range(look.smoothing):
        flat = cv2.bilateralFilter(flat, d=9, sigmaColor=24, sigmaSpace=5)
    lab = cv2.cvtColor(flat.astype(np.float32) / 255, cv2.COLOR_BGR2LAB)  # L in [0, 100], a and b in about [-127, 127]
    lightness = lab[..., 0].copy()
    lab[..., 0] = _posterise(lightness, look)
    lab[..., 1:] *= look.saturation
    paint = cv2.cvtColor(lab, cv2.COLOR_LAB2BGR).clip(0, 1)
    shade = 1 - look.line_darkness * _ink(lightness, look)
    return np.rint(paint * shade[..., None] * 255).astype(np.uint8)


def _posterise(lightness: Plane, look: Look) -> Plane:
    """Lightness in [0, 100], drawn towards the nearest tone by a smooth staircase."""
    step = 100 / (look.tones - 1)
    phase = lightness / step
    fraction = phase - np.floor(phase)
    ramp = 0.5 + 0.5 * np.tanh(6 * (fraction - 0.5)) / np.tanh(3)
    stairs = (np.floor(phase) + ramp) * step
    return ((1 - look.tone_pull) * lightness + look.tone_pull * stairs).astype(np.float32)


def _ink(lightness: Plane, look: Look) -> Plane:
    """Outlines in [0, 1]: where the lightness is lower than around it."""
    narrow = cv2.GaussianBlur(lightness, (0, 0), look.line_width)
    wide = cv2.GaussianBlur(lightness, (0, 0), look.line_width * 1.6)  # 1.6: the ratio of Marr and Hildreth (1980)
    hollow = wide - narrow - 1.0  # below 1 of 100 it is texture
    return np.tanh(np.maximum(hollow, 0) * look.line_gain).astype(np.float32)
