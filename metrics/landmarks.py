"""The five points of a face in two results: which faces are the same one, and how far its points moved."""

from __future__ import annotations

import math

import numpy as np

from cameo.faces.face import Points
from metrics.measurement import Metric

SHIFT = Metric(
    "landmark_shift",
    "Largest shift of a face's points",
    "px",
    False,
    "How far the farthest of the five points of any face moved between the original's result and the engine's.",
)
SHIFT_SHARE = Metric(
    "landmark_shift_share",
    "Largest shift of a face's points, of its eyes' distance",
    "%",
    False,
    "The same as a share of the distance of that face's eyes.",
)
LOST = Metric(
    "faces_lost",
    "Faces lost",
    "faces",
    False,
    "Faces that the finder sees in the original's result alone, and those that only the original worked on.",
)
METRICS = (SHIFT, SHIFT_SHARE, LOST)

SAME_FACE = 0.5  # of the distance of the eyes, between the middles of two sets of points


def shift(before: Points | None, after: Points | None) -> float:
    """The largest shift of any of the five points `(5, 2)`, in pixels; nan if `before` lacks, inf if `after` does."""
    if before is None:
        return math.nan
    return math.inf if after is None else float(np.linalg.norm(after - before, axis=1).max())


def nearest(face: Points, found: Points) -> Points | None:
    """The points `(5, 2)` among `found` `(F, 5, 2)` that are the same face's, or None."""
    if not len(found):
        return None
    distances = np.linalg.norm(found.mean(axis=1) - face.mean(axis=0), axis=1)
    index = int(distances.argmin())
    return np.asarray(found[index]) if distances[index] <= SAME_FACE * eye_distance(face) else None


def eye_distance(face: Points) -> float:
    """The distance of the first two of the five points."""
    return float(np.linalg.norm(face[1] - face[0]))
