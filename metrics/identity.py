"""Whose face it is: how alike a result's face is to those of the photos that it was made of, by the flow's recogniser.

That recogniser steers what the flow draws. So it says whether an engine draws the same person as the original does, and
nothing about whom others would see (docs/decisions/174).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metrics.measurement import Metric

IDENTITY = Metric(
    "identity",
    "Likeness by the flow's own recogniser",
    "",
    True,
    "Cosine of a result's face to the most similar face of a photo, by the flow's own recogniser as its authors run "
    "it. It is not an independent judge: the flow draws by it.",
)
SHIFT = Metric(
    "identity_shift",
    "Change of likeness",
    "",
    False,
    "The largest difference of that cosine between the original's result and the engine's.",
)
METRICS = (IDENTITY, SHIFT)


def likeness(face: NDArray[np.float32], others: NDArray[np.float32]) -> float:
    """The largest cosine of an embedding `(D,)` with any of `(F, D)`; nan where there are none."""
    if not len(others):
        return float("nan")
    lengths = np.linalg.norm(face) * np.linalg.norm(others, axis=1)
    return float((others.astype(np.float64) @ face.astype(np.float64) / lengths).max())
