"""The face finder of GPEN: one network that gives boxes and five points, from its raw numbers to faces.

The network (`retinaface-r50`) says for every anchor how likely it is a face, and where, relative to the anchor. With
the anchor's centre c and size s, and numbers l of a box or d of a landmark,

    box centre = c + 0.1 s l[0:2],   box size = s exp(0.2 l[2:4]),   landmark = c + 0.1 s d

Anchors lie on three grids of 8, 16 and 32 pixels, which the last row and column may overhang, two sizes to a cell. They
are computed only for the rows that pass the score: a photo of 1500 x 1500 has 92 736 anchors, a face some twenty.

As the original (`RetinaFaceDetection.detect`), but for three things:

    * the original divides the *score* too by the scale of a shrunk photo (0.99 -> 1.5): here a score stays one;
    * the shrunk photo is rounded to uint8, the type of the network's input; boxes move by hundredths of a pixel;
    * where scores are exactly equal, the earlier anchor comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.faces.face import Face, Points
from cameo.pixels import Pixels
from cameo.session import Session

LARGEST_SIDE = 1500  # pixels: photos with a longer side are shrunk ...
SHRUNK_SIDE = 1000  # ... to this long side
MIN_SCORE = 0.9
MAX_CANDIDATES = 5000  # best anchors that suppression looks at
MAX_FACES = 750
SAME_FACE_IOU = 0.4
ANCHOR_SIZES = {8: (16, 32), 16: (64, 128), 32: (256, 512)}  # pixels, by the grid's step
CENTRE_VARIANCE, SIZE_VARIANCE = np.float32(0.1), np.float32(0.2)

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Detections:
    """K faces, best first: float32 `boxes` `(K, 4)` as (xmin, ymin, xmax, ymax), `scores` `(K,)` in 0..1, `points`
    `(K, 5, 2)`.
    """

    boxes: Points
    scores: Points
    points: Points


class RetinaFaceFinder:
    """Finds faces with a session of `retinaface-r50` (`image` -> `loc`, `conf`, `landms`)."""

    title: Final = "RetinaFace-R50"
    most: Final = MAX_FACES

    def __init__(self, network: Session, min_score: float = MIN_SCORE) -> None:
        self._network = network
        self._min_score = min_score

    def __call__(self, image: Pixels) -> list[Face]:
        """The faces of a uint8 `(H, W, 3)` RGB photo, best score first, as GPEN wants them."""
        found = self.detect(image)
        return [
            Face(box, float(score), None, points.astype(np.float64))
            for box, score, points in zip(found.boxes, found.scores, found.points, strict=True)
        ]

    def detect(self, image: Pixels) -> Detections:
        """At most 750 faces that hardly overlap, in pixels of the photo."""
        longest = max(image.shape[:2])
        scale = SHRUNK_SIDE / longest if longest > LARGEST_SIDE else 1.0
        if round(min(image.shape[:2]) * scale) < 1:  # thinner than a pixel: nothing to see, nothing to resize to
            return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
        if scale != 1.0:
            image = np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR), np.uint8)
        raw = self._network.run({"image": image[None]})
        scores = np.asarray(raw["conf"][0, :, 1], np.float32)
        chosen = best(scores, self._min_score)
        anchors = anchors_at(chosen, (image.shape[0], image.shape[1]))
        boxes = decode_boxes(np.asarray(raw["loc"][0, chosen], np.float32), anchors)
        kept = suppress(boxes, SAME_FACE_IOU, MAX_FACES)
        points = decode_points(np.asarray(raw["landms"][0, chosen[kept]], np.float32), anchors[kept])
        return Detections(boxes[kept] / np.float32(scale), scores[chosen[kept]], points / np.float32(scale))


def best(scores: Points, min_score: float) -> Indices:
    """The rows that score more than `min_score`, best first, at most 5000 of them."""
    passed = np.flatnonzero(scores > min_score)
    return passed[np.argsort(-scores[passed], kind="stable")[:MAX_CANDIDATES]]


def anchors_at(rows: Indices, size: tuple[int, int]) -> Points:
    """The anchors of those rows of the network's outputs, float32 `(K, 4)` as (centre x, y, width, height) in pixels.

    `size` is (height, width) of the network's image. Rows count the grids from fine to coarse, in each its cells by
    row and column, in each of these the sizes.
    """
    grids = [(step, sizes, -(-size[0] // step), -(-size[1] // step)) for step, sizes in ANCHOR_SIZES.items()]
    starts = np.cumsum([0] + [height * width * len(sizes) for _, sizes, height, width in grids])
    anchors = np.empty((len(rows), 4), np.float32)
    for (step, sizes, _, width), (start, end) in zip(grids, pairwise(starts), strict=True):
        here = (rows >= start) & (rows < end)
        cell, which = np.divmod(rows[here] - start, len(sizes))
        row, column = np.divmod(cell, width)
        side = np.array(sizes)[which]
        anchors[here] = np.stack([(column + 0.5) * step, (row + 0.5) * step, side, side], axis=1)
    return anchors


def decode_boxes(numbers: Points, anchors: Points) -> Points:
    """The boxes, float32 `(K, 4)` as (xmin, ymin, xmax, ymax), of the network's numbers `(K, 4)`."""
    centre = anchors[:, :2] + numbers[:, :2] * CENTRE_VARIANCE * anchors[:, 2:]
    half = anchors[:, 2:] * np.exp(numbers[:, 2:] * SIZE_VARIANCE) / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def decode_points(numbers: Points, anchors: Points) -> Points:
    """The five points, float32 `(K, 5, 2)`, of the network's numbers `(K, 10)`."""
    offsets = numbers.reshape(-1, 5, 2) * CENTRE_VARIANCE * anchors[:, None, 2:]
    return np.asarray(anchors[:, None, :2] + offsets, np.float32)


def suppress(boxes: Points, iou: float, most: int) -> Indices:
    """Greedy suppression: the rows, best first as given, that overlap none before them by more than `iou`.

    A box from pixel 3 to pixel 5 is three pixels wide (+ 1), as in the original. It ends when `most` are found.
    """
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    areas = sides[:, 0] * sides[:, 1]
    kept: list[int] = []
    rest = np.arange(len(boxes))
    while len(rest) and len(kept) < most:
        first, rest = rest[0], rest[1:]
        kept.append(int(first))
        corner_min = np.maximum(boxes[first, :2], boxes[rest, :2])
        corner_max = np.minimum(boxes[first, 2:], boxes[rest, 2:])
        shared = np.maximum(corner_max - corner_min + 1, 0).prod(axis=1)
        rest = rest[shared <= iou * (areas[first] + areas[rest] - shared)]
    return np.array(kept, np.intp)
