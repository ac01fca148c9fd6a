"""Structural similarity (Wang et al. 2004), the mean over colours and windows; 1 for identical pictures.

    SSIM = (2 mx my + C1) (2 sxy + C2) / ((mx² + my² + C1) (sx² + sy² + C2))

with means, variances and covariance under an 11 x 11 Gaussian window of sigma 1.5, where the whole window fits.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.pixels import Pixels
from metrics import PICTURE

METRIC = "ssim"
TITLE = "SSIM"
UNIT = ""
HIGHER_IS_BETTER = True
NEEDS = PICTURE

# Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli: Image Quality Assessment, IEEE TIP 13(4), 2004, section III.
_WINDOW = 11
_SIGMA = 1.5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2


def measure(original: Pixels, candidate: Pixels) -> float:
    """The mean SSIM of pictures `(H, W, C)`, or nan where a side is shorter than the window."""
    if min(original.shape[:2]) < _WINDOW:
        return float("nan")
    x, y = original.astype(np.float64), candidate.astype(np.float64)
    mx, my = _local_mean(x), _local_mean(y)
    variances = _local_mean(x * x) - mx * mx + _local_mean(y * y) - my * my
    covariance = _local_mean(x * y) - mx * my
    similarity = (2 * mx * my + _C1) * (2 * covariance + _C2) / ((mx * mx + my * my + _C1) * (variances + _C2))
    return float(similarity.mean())


def _local_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    margin = _WINDOW // 2
    blurred = cv2.GaussianBlur(values, (_WINDOW, _WINDOW), _SIGMA)
    return np.asarray(blurred[margin:-margin, margin:-margin], np.float64)
