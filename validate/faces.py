"""Faces before and after: each cut out of both results, how far the two are apart, and whether its points moved.

A face's five points are found again in the original's result and in the engine's, by one finder. How far each of the
five moved between the two says whether the face is still the same person's: the largest of them, in pixels and as
a share of the distance of the eyes. Where the finder does not see the face in the original's result, there is nothing
to compare with; where it sees it there and not in the engine's, the face is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from cameo.faces.alignment import crop, similarity_in_crop_frame, square_template
from cameo.faces.face import Image, Points
from metrics import FACE
from metrics.landmarks import eye_distance, nearest, shift
from metrics.measurement import Measurement
from validate import fidelity

CROP_SIZE = 256
ZOOM = 2 / 3  # shows the whole head, as GPEN's own crops do


@dataclass(frozen=True, eq=False)
class ComparedFace:
    """One face in both results: aligned crops uint8 `(256, 256, 3)` RGB, their fidelity, and how far its points moved.

    `shift_px` is nan where the finder does not see it in the original's result, infinite where only there.
    """

    original: Image
    candidate: Image
    measurements: list[Measurement]
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


def compare_faces(subject: str, faces: Points, original: Result, candidate: Result) -> list[ComparedFace]:
    """Every face of `faces`, points `(F, 5, 2)` in both results, in their order; measured as `subject`'s."""
    return [_compare(subject, points, original, candidate) for points in faces]


def _compare(subject: str, points: Points, original: Result, candidate: Result) -> ComparedFace:
    to_crop = similarity_in_crop_frame(points, square_template(CROP_SIZE, ZOOM))
    theirs, ours = (crop(result.image, to_crop, CROP_SIZE) for result in (original, candidate))
    moved = shift(nearest(points, original.found), nearest(points, candidate.found))
    return ComparedFace(theirs, ours, fidelity.of_pictures(subject, theirs, ours, FACE), eye_distance(points), moved)
