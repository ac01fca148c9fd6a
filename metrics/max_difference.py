"""The largest difference of any value of the picture, in levels of 0 to 255."""

import numpy as np

from cameo.pixels import Pixels
from metrics import PICTURE

METRIC = "max_difference"
TITLE = "Largest difference"
UNIT = "levels"
HIGHER_IS_BETTER = False
NEEDS = PICTURE


def measure(original: Pixels, candidate: Pixels) -> float:
    """The largest absolute difference."""
    return float(np.abs(original.astype(np.int16) - candidate).max())
