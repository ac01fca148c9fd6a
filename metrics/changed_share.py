"""The share of the picture's values (three a pixel) that differ at all."""

import numpy as np

from cameo.pixels import Pixels
from metrics import PICTURE

METRIC = "changed_share"
TITLE = "Values that differ"
UNIT = "%"
HIGHER_IS_BETTER = False
NEEDS = PICTURE


def measure(original: Pixels, candidate: Pixels) -> float:
    """Per cent of values that differ."""
    return float(np.count_nonzero(original != candidate) / original.size * 100)
