"""Peak signal-to-noise ratio, 10 log10(255² / mean squared difference); infinite for identical pictures."""

import math

import numpy as np

from cameo.pixels import Pixels
from metrics import PICTURE

METRIC = "psnr"
TITLE = "PSNR"
UNIT = "dB"
HIGHER_IS_BETTER = True
NEEDS = PICTURE

_PEAK = 255.0


def measure(original: Pixels, candidate: Pixels) -> float:
    """The ratio in dB, over all values together."""
    difference = original.astype(np.float64) - candidate
    error = float(np.mean(difference * difference))
    return 10 * math.log10(_PEAK * _PEAK / error) if error else math.inf
