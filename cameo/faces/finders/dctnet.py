"""The face finder of DCT-Net and face fusion: a detector network, then 68 landmarks for every face as one batch.

Details that a rewrite would lose, all as in the originals' client code (FaceAna of Peppa_Pig_Face_Engine):

    * faces of at most 60 x 60 px are dropped, and beyond ten faces the smaller ones;
    * the landmark crop is a square 1.4 times the *width* of the box, for both axes;
    * landmarks are truncated to whole pixels;
    * a face's box is 0.3 x the bounding box of its landmarks + 0.7 x the detector's box that overlaps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.faces.face import Face, Finder, Points
from cameo.faces.finders.cascade import CascadeFinder
from cameo.faces.pupils import five_points
from cameo.pixels import Pixels
from cameo.session import Session

DETECTOR, LANDMARKS = "dctnet-detector", "dctnet-landmarks"
DETECTOR_SIZE = 512
LANDMARKS_SIZE = 160
MEAN_COLOUR = (123, 116, 103)  # RGB, what both networks subtract: padding with it is padding with nothing
MIN_SCORE = 0.8
MAX_FACES = 10
MIN_SIDE = 60  # pixels
CROP_WIDTHS = 1.4
SAME_FACE_IOU = 0.5
LANDMARKS_SHARE = 0.3


class FaceFinder:
    """Finds faces with `detector` (`image` -> `boxes`, `scores`, `count`) and `landmarks` (`image` -> `prediction`)."""

    title: Final = "the detector of DCT-Net"
    most: Final = MAX_FACES

    def __init__(self, detector: Session, landmarks: Session) -> None:
        self._detector = detector
        self._landmarks = landmarks

    def __call__(self, image: Pixels) -> list[Face]:
        """The faces of a uint8 `(H, W, 3)` RGB photo, largest first."""
        detections = self.detect(image)
        boxes = [box for box in _largest(detections) if _is_large_enough(box)]
        if not boxes:
            return []
        faces = []
        for box, points in zip(boxes, self.find_landmarks(image, boxes), strict=True):
            track = _track_box(points, detections)
            faces.append(Face(track, float(box[4]), points, five_points(image, points)))
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def detect(self, image: Pixels) -> Points:
        """Rows (xmin, ymin, xmax, ymax, score) in pixels, float32 `(K, 5)`, best first."""
        scale = DETECTOR_SIZE / max(image.shape[:2])
        if min(image.shape[:2]) * scale < 1:  # thinner than a pixel of the canvas
            return np.zeros((0, 5), np.float32)
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        canvas = np.full((DETECTOR_SIZE, DETECTOR_SIZE, 3), MEAN_COLOUR, np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        found = self._detector.run({"image": canvas[None]})
        count = int(found["count"][0])
        boxes = np.asarray(found["boxes"][0, :count], np.float32)[:, [1, 0, 3, 2]] * np.float32(DETECTOR_SIZE / scale)
        scores = np.asarray(found["scores"][0, :count], np.float32)
        return np.column_stack([boxes, scores])[scores > MIN_SCORE]

    def find_landmarks(self, image: Pixels, boxes: list[Points]) -> Points:
        """The 68 landmarks of every box, whole numbers as float32 `(K, 68, 2)`, in pixels of the photo."""
        squares = [_landmark_square(box) for box in boxes]
        crops = np.stack([_padded_crop(image, square) for square in squares])
        prediction = self._landmarks.run({"image": crops})["prediction"]
        fractions = np.asarray(prediction[:, :136], np.float32).reshape(-1, 68, 2)
        corners = np.array([square[:2] for square in squares])[:, None]
        sides = np.array([square[2] for square in squares], np.float32)[:, None, None]
        return np.asarray(np.trunc(fractions * sides + corners.astype(np.float64)), np.float32)


def finder_of(sessions: Mapping[str, Session], notes: list[str]) -> Finder:
    """The finder over a bundle's two networks; OpenCV's cascades where it lacks one, and a sentence more in `notes`."""
    if DETECTOR in sessions and LANDMARKS in sessions:
        return FaceFinder(sessions[DETECTOR], sessions[LANDMARKS])
    missing = " and ".join(name for name in (DETECTOR, LANDMARKS) if name not in sessions)
    notes.append(f"The bundle lacks {missing}: OpenCV's Haar cascades stand in and find frontal faces only.")
    return CascadeFinder()


def _largest(detections: Points) -> Points:
    if len(detections) <= MAX_FACES:
        return detections
    areas = (detections[:, 2] - detections[:, 0]) * (detections[:, 3] - detections[:, 1])
    return detections[np.argsort(-areas, kind="stable")[:MAX_FACES]]


def _is_large_enough(box: Points) -> bool:
    width, height = box[2] - box[0], box[3] - box[1]
    return bool(max(width, height) > MIN_SIDE and width * CROP_WIDTHS >= 2)  # a crop needs a pixel


def _landmark_square(box: Points) -> tuple[int, int, int]:
    """Left, top and side of the square around the box's centre; it may leave the photo."""
    half = int(CROP_WIDTHS * (box[2] - box[0]) // 2)
    centre_x, centre_y = int((box[0] + box[2]) // 2), int((box[1] + box[3]) // 2)
    return centre_x - half, centre_y - half, 2 * half


def _padded_crop(image: Pixels, square: tuple[int, int, int]) -> Pixels:
    """The square, uint8 `(160, 160, 3)`, in the mean colour where it leaves the photo."""
    left, top, side = square
    height, width = image.shape[:2]
    canvas = np.full((side, side, 3), MEAN_COLOUR, np.uint8)
    x0, x1 = np.clip((left, left + side), 0, width)
    y0, y1 = np.clip((top, top + side), 0, height)
    canvas[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    size = (LANDMARKS_SIZE, LANDMARKS_SIZE)
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _track_box(landmarks: Points, detections: Points) -> Points:
    """The bounding box of the landmarks, drawn towards the first detection that overlaps it, float32 `(4,)`."""
    box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)])
    for detection in detections[:, :4]:
        if _iou(box, detection) > SAME_FACE_IOU:
            return np.asarray(LANDMARKS_SHARE * box + (1 - LANDMARKS_SHARE) * detection, np.float32)
    return np.asarray(box, np.float32)


def _iou(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Intersection over union of two (xmin, ymin, xmax, ymax) boxes."""
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    intersection = float(np.prod(np.maximum(sides, 0)))
    union = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - intersection
    return intersection / union if union > 0 else 0.0
