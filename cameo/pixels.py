"""The pixels of a picture, as everything here hands them on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""uint8 `(H, W, 3)` RGB, where nothing else is said."""
