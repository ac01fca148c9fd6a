"""A face finder that needs no download: the Haar cascades that come with OpenCV 4.

It stands in where a bundle has no detector: frontal faces only, no landmarks, and mouth and nose from proportions. The
eyes are those of the eye cascade where it finds a plausible pair, and from proportions otherwise.

Proportions are fractions of the box of `haarcascade_frontalface_alt2`, means of hand-marked frontal faces. The mouth's
width is 0.83 eye distances, as in the five-point template.
"""

from __future__ import annotations

from pathlib import Path
from threading import local
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.errors import EngineUnavailable
from cameo.faces.alignment import transform
from cameo.faces.face import Face, Matrix
from cameo.pixels import Pixels

SEARCH_SIDE = 800  # pixels of the long side; more finds only smaller faces and more mistakes
MIN_FACE = 40  # pixels at the search size
MAX_FACES = 10
NEIGHBOURS = 5  # overlapping hits that make a face; 3, OpenCV's default, lets textures through
EYE_SEARCH_SIDE = 200  # pixels; the eye cascade was trained on 20 px eyes, a quarter of a face of 80
EYE_REGION = 0.6  # of the box's height, from the top
EYE_TOLERANCE = 0.13  # of the box's side, from where an eye usually is
PROPORTIONS: Matrix = np.array([(0.28, 0.375), (0.72, 0.375), (0.5, 0.6), (0.318, 0.785), (0.682, 0.785)])


class _Cascades(local):
    """The classifiers of one thread, loaded when it first asks."""

    def __init__(self) -> None:
        self.faces = _load("haarcascade_frontalface_alt2.xml")
        self.eyes = _load("haarcascade_eye.xml")


class CascadeFinder:
    """Finds frontal faces with OpenCV's bundled cascades.

    OpenCV's classifiers keep the image that they search, so every thread has its own (docs/decisions/105).

    Raises:
        EngineUnavailable: this OpenCV has no cascades (version 5 moved them to another package).
    """

    title: Final = "OpenCV's Haar cascades"
    most: Final = MAX_FACES

    def __init__(self) -> None:
        self._of_thread = _Cascades()

    def __call__(self, image: Pixels) -> list[Face]:
        """The faces of a uint8 `(H, W, 3)` RGB photo, largest first, with score 1: a cascade only says yes."""
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        scale = min(1.0, SEARCH_SIDE / max(gray.shape))
        if min(gray.shape) * scale < MIN_FACE:
            return []
        small = cv2.equalizeHist(cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        enlarge = (gray.shape[1] / small.shape[1], gray.shape[0] / small.shape[0])
        return [face.scaled(*enlarge) for face in self._search(small)]

    def _search(self, gray: NDArray[Any]) -> list[Face]:
        found = self._of_thread.faces.detectMultiScale(
            gray, scaleFactor=1.1, minNeighbors=NEIGHBOURS, minSize=(MIN_FACE, MIN_FACE)
        )
        boxes = sorted((tuple(map(int, box)) for box in found), key=lambda box: -box[2])[:MAX_FACES]
        return [self._face(gray, box) for box in boxes]

    def _face(self, gray: NDArray[Any], box: tuple[int, ...]) -> Face:
        x, y, side, _ = box
        eyes = self._find_eyes(gray[y : y + side, x : x + side])
        points = PROPORTIONS if eyes is None else _follow_eyes(eyes)
        corners = np.array([x, y, x + side, y + side], np.float32)
        return Face(corners, 1.0, None, points * side + (x, y))

    def _find_eyes(self, face: NDArray[Any]) -> Matrix | None:
        """Centres of the left and the right eye as fractions of the box, float64 `(2, 2)`, or None."""
        square = cv2.resize(face, (EYE_SEARCH_SIDE, EYE_SEARCH_SIDE), interpolation=cv2.INTER_LINEAR)
        upper = square[: int(EYE_REGION * EYE_SEARCH_SIDE)]
        smallest, largest = EYE_SEARCH_SIDE // 8, EYE_SEARCH_SIDE // 2
        found = self._of_thread.eyes.detectMultiScale(
            upper, scaleFactor=1.05, minNeighbors=4, minSize=(smallest, smallest), maxSize=(largest, largest)
        )
        if len(found) < 2:
            return None
        centres = (np.array(found)[:, :2] + np.array(found)[:, 2:] / 2) / EYE_SEARCH_SIDE
        distances = np.linalg.norm(centres[:, None] - PROPORTIONS[:2], axis=2)  # (found, left or right)
        if distances.min(axis=0).max() > EYE_TOLERANCE:
            return None
        return np.asarray(centres[distances.argmin(axis=0)])


def _follow_eyes(eyes: Matrix) -> Matrix:
    """The five proportions turned, scaled and shifted so that their eyes are `eyes`, float64 `(5, 2)`."""
    usual, found = PROPORTIONS[1] - PROPORTIONS[0], eyes[1] - eyes[0]
    ratio = complex(*found) / complex(*usual)
    turn = np.array([(ratio.real, -ratio.imag), (ratio.imag, ratio.real)])
    return transform(np.column_stack([turn, eyes[0] - turn @ PROPORTIONS[0]]), PROPORTIONS)


def _load(name: str) -> Any:
    folder = getattr(getattr(cv2, "data", None), "haarcascades", None)
    if folder is None or not hasattr(cv2, "CascadeClassifier"):
        raise EngineUnavailable(
            f"OpenCV {cv2.__version__} has no Haar cascades, expected OpenCV 4: run pip install "
            "'opencv-python-headless<5', or build the bundle with dctnet-detector and dctnet-landmarks."
        )
    cascade = cv2.CascadeClassifier(str(Path(folder, name)))
    if cascade.empty():
        raise EngineUnavailable(f"{Path(folder, name)} is missing or damaged: install opencv-python-headless again.")
    return cascade
