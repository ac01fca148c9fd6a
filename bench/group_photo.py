"""A group photo of known faces: the face of the demo's public-domain portrait, at several sizes on a quiet ground."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from cameo.errors import PhotoError
from cameo.faces.face import Face
from cameo.faces.finders.cascade import CascadeFinder
from cameo.images import read_photo
from cameo.pixels import Pixels

PORTRAIT = Path(__file__).resolve().parents[1] / "demo" / "photo.jpg"
SIZE = (1920, 1080)
COLUMNS, ROWS = 4, 3
SIDES = (340, 200, 280, 160, 240, 320, 180)  # pixels of the square around each face, in turn
FACE_SHARE = 0.5  # of that square's side


@dataclass(frozen=True, eq=False)
class GroupPhoto:
    """`image` uint8 `(1080, 1920, 3)` RGB, and where its faces are."""

    image: Pixels
    faces: tuple[Face, ...]


def compose(count: int) -> GroupPhoto:
    """A photo of `count` faces, at most twelve.

    Raises:
        PhotoError: the portrait's face is not found.
    """
    portrait = read_photo(PORTRAIT)
    found = CascadeFinder()(portrait)
    if not found:
        raise PhotoError(f"no face was found in {PORTRAIT}: expected the demo's portrait; restore the file")
    corner, square = _around(found[0], portrait)
    image = cv2.GaussianBlur(cv2.resize(portrait, SIZE, interpolation=cv2.INTER_AREA), (0, 0), 30)
    faces = []
    for index in range(count):
        side = SIDES[index % len(SIDES)]
        left = SIZE[0] // COLUMNS * (index % COLUMNS) + 60
        top = SIZE[1] // ROWS * (index // COLUMNS) + 10
        image[top : top + side, left : left + side] = cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)
        faces.append(_moved(found[0], corner, side / len(square), (left, top)))
    return GroupPhoto(np.asarray(image, np.uint8), tuple(faces))


def _around(face: Face, photo: Pixels) -> tuple[tuple[int, int], Pixels]:
    """The corner (x, y) of the square around a face, and its pixels."""
    half = int((face.box[2] - face.box[0]) / FACE_SHARE / 2)
    left, top = (int((face.box[i] + face.box[i + 2]) / 2) - half for i in range(2))
    left, top = max(left, 0), max(top, 0)
    return (left, top), photo[top : top + 2 * half, left : left + 2 * half]


def _moved(face: Face, corner: tuple[int, int], scale: float, to: tuple[int, int]) -> Face:
    offset, origin = np.array(to), np.array(corner)
    box = (face.box.reshape(2, 2) - origin) * scale + offset
    return Face(box.astype(np.float32).reshape(4), 1.0, None, (face.five_points - origin) * scale + offset)
