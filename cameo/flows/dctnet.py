"""DCT-Net: a photo becomes a cartoon, the background by one network and every head by another.

    photo -> at most 720 px short side -> background network -> canvas
             faces, largest first: head crop of 288 px -> head network -> blended into the canvas by the alpha mask
    canvas -> the photo's size

The numbers are those of the original (`Cartoonizer.cartoonize`). Knowingly different are:

    * where the photo ends, networks see it mirrored, at the right and bottom side of the background as around a head.
      The original goes on in white, which leaves rims (docs/decisions/107); and it pads an aligned side, too, by 16 px,
      if the other needs padding. Results differ within 50 px of such a border, and in heads that one cuts;
    * a head goes on beyond its crop, so that a mask that is not 0 at its rim leaves no dark line there;
    * a photo without colour stays without (`cameo/colour.py`);
    * the result is uint8 at the photo's size; the original returns floats, and without a face the resized image;
    * the short side may be any, not only 720, or unlimited (`size=None`);
    * the long side is at most 3000 px, in both cases: the original runs out of memory instead;
    * heads run as batches, and the blend touches only the rectangle where the mask is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.batches import run_rows
from cameo.colour import as_colourless_as
from cameo.errors import BundleError
from cameo.faces.alignment import crop, invert, similarity_in_image_frame, square_template, transform, warp
from cameo.faces.cascade import CascadeFinder
from cameo.faces.detection import FaceFinder
from cameo.faces.face import Face, Finder, Matrix
from cameo.flows import FlowOptions, Outcome, Progress
from cameo.images import read_photo
from cameo.options import Declared, option
from cameo.pixels import Pixels
from cameo.session import Session
from cameo.tiles import pad_to_multiple

Canvas = NDArray[Any]
TAKES: Final = ("photo",)
BACKGROUND, HEAD, DETECTOR, LANDMARKS = "dctnet-background", "dctnet-head", "dctnet-detector", "dctnet-landmarks"
MAX_LONG_SIDE: Final = 3000  # pixels; the memory of the background network grows with their square
MULTIPLE: Final = 16  # both sides of what the background network gets
HEAD_SIZE: Final = 288
# The original's reference points: one pixel right and down, three quarters of the usual scale, to show all of the hair.
HEAD_TEMPLATE: Final = square_template(HEAD_SIZE, zoom=0.75, offset=1)
# The default mask, fractions of the crop: an ellipse that fades out over `_FEATHER`, much as the published alpha.jpg.
_HALF_AXES: Final = (0.40, 0.49)
_FEATHER: Final = 0.156


@dataclass(frozen=True)
class Options(FlowOptions):
    """At what size the networks work; larger photos are shrunk, and the result enlarged again."""

    OF: ClassVar[str] = "dctnet"

    size: int | None = option(720, "short side in pixels to work at, or full", least=MULTIPLE, none="full")


@dataclass(frozen=True)
class Request(Declared):
    """DCT-Net draws every photo in the same way."""

    OF: ClassVar[str] = "dctnet"


class DctNetFlow:
    """Makes cartoons of photos; `background` and `head` map `image` to `result`, uint8 `(N, H, W, 3)` RGB.

    `alpha`, uint8 `(h, w)` or `(h, w, 3)`, says how much of the head network's picture shows where in the head crop.
    `notes` say, a sentence each, what stands in for a missing part.
    """

    def __init__(
        self,
        background: Session,
        head: Session,
        finder: Finder,
        alpha: Pixels | None = None,
        options: Options | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self._background = background
        self._head = head
        self._finder = finder
        self._mask = _ellipse() if alpha is None else _mask_from(alpha)
        self.options = options or Options()
        self.notes = list(notes)
        self.finder = finder.title

    def run(self, photos: Mapping[str, Pixels], request: Request, progress: Progress | None = None) -> Outcome:
        """The cartoon of `photo`, of its size; `progress(done, all)` counts the photo and its heads."""
        pixels = photos["photo"]
        height, width = pixels.shape[:2]
        small_width, small_height = working_size(width, height, self.options.size)
        canvas, faces = self.paint(_resize(pixels, (small_width, small_height)), progress)
        scaled = tuple(face.scaled(width / small_width, height / small_height) for face in faces)
        return Outcome(as_colourless_as(pixels, _round_at_size(canvas, (width, height))), scaled)

    def find_faces(self, photo: Pixels) -> list[Face]:
        """The faces of a photo, largest first."""
        return sorted(self._finder(photo), key=lambda face: face.area, reverse=True)

    def paint(self, image: Pixels, progress: Progress | None = None) -> tuple[Canvas, list[Face]]:
        """The cartoon of a photo at working size before rounding, `(H, W, 3)` RGB in 0..255, and its faces.

        It is float32, or uint8 where no face was found.
        """
        canvas: Canvas = self._paint_background(image)
        faces = self.find_faces(image)
        if faces:
            canvas = canvas.astype(np.float32)
        matrices = [similarity_in_image_frame(face.five_points, HEAD_TEMPLATE) for face in faces]
        if progress is not None:
            progress(1, 1 + len(faces))
        crops = ({"image": crop(image, matrix, HEAD_SIZE)} for matrix in matrices)
        for index, head in enumerate(run_rows(self._head, crops)):
            self._blend(canvas, np.asarray(head["result"], np.uint8), matrices[index])
            if progress is not None:
                progress(2 + index, 1 + len(faces))
        return canvas, faces

    def describe(self) -> str:
        """One line about what this flow does with a photo."""
        size = "the photo's size" if self.options.size is None else f"a short side of at most {self.options.size} px"
        return f"DCT-Net cartoon at {size}, long side at most {MAX_LONG_SIDE} px, faces by {self.finder}"

    def _paint_background(self, image: Pixels) -> Pixels:
        height, width = image.shape[:2]
        padded = pad_to_multiple(image, MULTIPLE)
        result = self._background.run({"image": padded[None]})["result"]
        return np.asarray(result[0, :height, :width], np.uint8)

    def _blend(self, canvas: Canvas, head: Pixels, matrix: Matrix) -> None:
        """Put one head into the float32 canvas.

        The warps span the whole canvas, because a shifted warp rounds its coordinates differently.
        """
        height, width = canvas.shape[:2]
        to_image = invert(matrix)
        rows, columns = _bounds(to_image, width, height)
        mask = warp(self._mask, to_image, (width, height))[rows, columns, None]
        painted = warp(head, to_image, (width, height), cv2.BORDER_REPLICATE)[rows, columns]
        canvas[rows, columns] = mask * painted + (1 - mask) * canvas[rows, columns]


def working_size(width: int, height: int, size: int | None) -> tuple[int, int]:
    """Width and height at which the networks see a photo: never larger than the photo."""
    short, long = min(width, height), max(width, height)
    new_short, new_long = short, long
    if size is not None and short > size:
        new_short, new_long = size, int(size * long / short)
    if new_long > MAX_LONG_SIDE:
        new_short, new_long = max(1, int(MAX_LONG_SIDE * short / long)), MAX_LONG_SIDE
    return (new_short, new_long) if width <= height else (new_long, new_short)


def _resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The image at `size` (width, height), in its own dtype; INTER_AREA, as the original in both directions."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _round_at_size(canvas: Canvas, size: tuple[int, int]) -> Pixels:
    """The canvas at `size` (width, height), uint8; a channel at a time, because floats of a large photo are large."""
    if canvas.dtype == np.uint8:
        return _resize(canvas, size)
    channels = (np.ascontiguousarray(canvas[..., channel]) for channel in range(3))
    image = np.empty((size[1], size[0], 3), np.uint8)
    for channel, plane in enumerate(channels):
        image[..., channel] = cv2.convertScaleAbs(_resize(plane, size))  # rounds to nearest and saturates
    return image


def _bounds(to_image: Matrix, width: int, height: int) -> tuple[slice, slice]:
    """Rows and columns of the image that a warped head crop can reach."""
    corners = transform(to_image, np.array([(0, 0), (1, 0), (0, 1), (1, 1)], np.float64) * HEAD_SIZE)
    left, top = np.clip(np.floor(corners.min(axis=0)) - 2, 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 2, 0, (width, height)).astype(int)
    return slice(top, bottom), slice(left, right)


def _mask_from(alpha: Pixels) -> NDArray[np.float32]:
    """The mask of an alpha image, float32 `(288, 288)` in 0..1."""
    resized = _resize(alpha, (HEAD_SIZE, HEAD_SIZE))
    gray = cv2.cvtColor(resized, cv2.COLOR_RGB2GRAY) if resized.ndim == 3 else resized
    return np.asarray(gray, np.float32) / np.float32(255)


def _ellipse() -> NDArray[np.float32]:
    """The default mask, float32 `(288, 288)` in 0..1: the distance to the rim of an ellipse, cut off at 1."""
    inside = np.zeros((HEAD_SIZE, HEAD_SIZE), np.uint8)
    centre, axes = HEAD_SIZE // 2, [math.floor(fraction * HEAD_SIZE) for fraction in _HALF_AXES]
    cv2.ellipse(inside, (centre, centre), axes, 0, 0, 360, 1, cv2.FILLED)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(np.minimum(distance / (_FEATHER * HEAD_SIZE), 1), np.float32)


def open_flow(sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Options) -> DctNetFlow:
    """The flow over the networks and assets of a bundle.

    Without the detector and landmarks networks, OpenCV's cascades find the faces; without the asset `alpha`, the mask
    is an ellipse; `notes` says so.

    Raises:
        BundleError: a network is missing.
        PhotoError: the alpha mask cannot be read.
    """
    missing = [name for name in (BACKGROUND, HEAD) if name not in sessions]
    if missing:
        raise BundleError(f"The bundle has no network {' and no '.join(missing)}, dctnet needs both: build it again.")
    notes: list[str] = []
    finder = _finder(sessions, notes)
    alpha = read_photo(assets["alpha"]) if "alpha" in assets else None
    if alpha is None:
        notes.append("The bundle has no alpha mask: an ellipse with a soft rim stands in.")
    return DctNetFlow(sessions[BACKGROUND], sessions[HEAD], finder, alpha, options, notes)


def _finder(sessions: Mapping[str, Session], notes: list[str]) -> Finder:
    if DETECTOR in sessions and LANDMARKS in sessions:
        return FaceFinder(sessions[DETECTOR], sessions[LANDMARKS])
    missing = " and ".join(name for name in (DETECTOR, LANDMARKS) if name not in sessions)
    notes.append(f"The bundle lacks {missing}: OpenCV's Haar cascades stand in and find frontal faces only.")
    return CascadeFinder()
