"""Faces before and after: each cut out of both results, how far the two are apart, and whether its points moved.

A face's five points are found again in the original's result and in the engine's, by one finder. How far each of the
five moved between the two says whether the face is still the same person's: the largest of them, in pixels and as
a share of the distance of the eyes. Where the finder does not see the face in the original's result, there is nothing
to compare with; where it sees it there and not in the engine's, the face is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cameo.faces.alignment import crop, similarity_in_crop_frame, square_template
from cameo.faces.face import Image, Matrix, Points
from validate.fidelity import Deviation, deviations_of_pictures

CROP_SIZE = 256
ZOOM = 2 / 3  # shows the whole head, as GPEN's own crops do
SAME_FACE = 0.5  # of the distance of the eyes, between the middles of two sets of points


@dataclass(frozen=True, eq=False)
class ComparedFace:
    """One face in both results: aligned crops uint8 `(256, 256, 3)` RGB, their fidelity, and how far its points moved.

    `shift_px` is nan where the finder does not see it in the original's result, infinite where only there.
    """

    original: Image
    candidate: Image
    deviations: list[Deviation]
    eye_distance_px: float
    shift_px: float

    @property
    def shift_share(self) -> float:
        """`shift_px` as per cent of the distance of the eyes."""
        return self.shift_px / self.eye_distance_px * 100


@dataclass(frozen=True, eq=False)
class Result:
    """What a flow made of a photo, uint8 `(H, W, 3)` RGB, and the points `(F, 5, 2)` that the finder sees in that."""

    image: Image
    found: Points


def compare_faces(faces: Points, original: Result, candidate: Result) -> list[ComparedFace]:
    """Every face of `faces`, points `(F, 5, 2)` in both results, in their order."""
    return [_compare(points, original, candidate) for points in faces]


def _compare(points: Points, original: Result, candidate: Result) -> ComparedFace:
    to_crop = similarity_in_crop_frame(points, square_template(CROP_SIZE, ZOOM))
    crops = [crop(result.image, to_crop, CROP_SIZE) for result in (original, candidate)]
    before, after = (nearest(points, result.found) for result in (original, candidate))
    return ComparedFace(*crops, deviations_of_pictures(*crops), eye_distance(points), _shift(before, after))


def _shift(before: Matrix | None, after: Matrix | None) -> float:
    if before is None:
        return math.nan
    return math.inf if after is None else float(np.linalg.norm(after - before, axis=1).max())


def nearest(face: Points, found: Points) -> Matrix | None:
    """The points `(5, 2)` among `found` that are the same face's, or None."""
    if not len(found):
        return None
    distances = np.linalg.norm(found.mean(axis=1) - face.mean(axis=0), axis=1)
    index = int(distances.argmin())
    return np.asarray(found[index]) if distances[index] <= SAME_FACE * eye_distance(face) else None


def eye_distance(face: Points) -> float:
    """The distance of the first two of the five points."""
    return float(np.linalg.norm(face[1] - face[0]))
