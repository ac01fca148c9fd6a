"""DCT-Net: a photo becomes a cartoon, the background by one network and every head by another.

    photo -> at most 720 px short side -> background network -> canvas
             faces, largest first: head crop of 288 px -> head network -> blended into the canvas by the alpha mask
    canvas -> the photo's size

The numbers are those of the original (`Cartoonizer.cartoonize`), and so is one quirk: a side that is not a multiple of
16 makes *both* sides grow to the next one, an aligned side by a whole 16. Leaving it out would save 2 % of the pixels
of a 720 px photo but change 4 % of them, by up to 32 levels within 50 px of the border. Knowingly different are:

    * the result is uint8 at the photo's size; the original returns floats, and without a face the resized image;
    * the short side may be any, not only 720, or unlimited (`size=None`);
    * the long side is at most 3000 px, in both cases: the original runs out of memory instead;
    * heads run as batches, and the blend touches only the rectangle where the mask is not zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.errors import BundleError, CameoError
from cameo.faces.alignment import crop, invert, similarity_in_image_frame, square_template, transform, warp
from cameo.faces.cascade import CascadeFinder
from cameo.faces.detection import FaceFinder
from cameo.faces.face import Face, Image, Matrix
from cameo.flows import Progress, options_of
from cameo.images import MAX_PIXELS, Photo, ReadOptions, read_photo, read_picture
from cameo.session import Session

Canvas = NDArray[Any]
FindFaces = Callable[[Image], list[Face]]

BACKGROUND, HEAD, DETECTOR, LANDMARKS = "dctnet-background", "dctnet-head", "dctnet-detector", "dctnet-landmarks"
MAX_LONG_SIDE: Final = 3000  # pixels; the memory of the background network grows with their square
MULTIPLE: Final = 16  # both sides of what the background network gets
HEAD_SIZE: Final = 288
# The original's reference points: one pixel right and down, three quarters of the usual scale, to show all of the hair.
HEAD_TEMPLATE: Final = square_template(HEAD_SIZE, zoom=0.75, offset=1)
WHITE: Final = (255, 255, 255)
# The default mask, fractions of the crop: an ellipse that fades out over `_FEATHER`, much as the published alpha.jpg.
_HALF_AXES: Final = (0.40, 0.49)
_FEATHER: Final = 0.156


@dataclass(frozen=True)
class DctNetOptions:
    """`size`: short side in pixels at which the networks work, or None for the photo's own; larger photos are shrunk.

    `head_batch`: heads per run of the head network; `max_pixels`: larger photos are refused.
    """

    size: int | None = 720
    head_batch: int = 4
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        for name, least in (("size", MULTIPLE), ("head_batch", 1), ("max_pixels", 1)):
            value = getattr(self, name)
            if name == "size" and value is None:
                continue
            if not isinstance(value, int) or value < least:
                raise CameoError(f"Option {name} of dctnet is {value!r}, expected a whole number of at least {least}.")


@dataclass(frozen=True, eq=False)
class Cartoon:
    """What the flow made of a photo: `image` uint8 `(H, W, 3)` RGB, and the faces it found, in pixels of the photo."""

    image: Image
    faces: tuple[Face, ...]
    note: str = ""


class DctNetFlow:
    """Makes cartoons of photos; `background` and `head` map `image` to `result`, uint8 `(N, H, W, 3)` RGB.

    `alpha`, uint8 `(h, w)` or `(h, w, 3)`, says how much of the head network's picture shows where in the head crop.
    `notes` say, a sentence each, what stands in for a missing part.
    """

    def __init__(
        self,
        background: Session,
        head: Session,
        find_faces: FindFaces,
        alpha: Image | None = None,
        options: DctNetOptions | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self._background = background
        self._head = head
        self.find_faces = find_faces
        self._mask = _ellipse() if alpha is None else _mask_from(alpha)
        self.options = options or DctNetOptions()
        self.notes = list(notes)

    def __call__(self, photo: Photo) -> Image:
        """The cartoon, uint8 `(H, W, 3)` RGB, of the photo's size.

        Raises:
            PhotoError: the photo cannot be read, or is too large.
        """
        return self.run(photo).image

    def run(self, photo: Photo, progress: Progress | None = None) -> Cartoon:
        """The cartoon together with the faces that were found; `progress(done, all)` counts the photo and its heads.

        Raises:
            PhotoError: the photo cannot be read, or is too large.
        """
        picture = read_picture(photo, ReadOptions(self.options.max_pixels))
        pixels = picture.pixels
        height, width = pixels.shape[:2]
        small_width, small_height = working_size(width, height, self.options.size)
        canvas, faces = self.paint(_resize(pixels, (small_width, small_height)), progress)
        scaled = tuple(face.scaled(width / small_width, height / small_height) for face in faces)
        return Cartoon(_round_at_size(canvas, (width, height)), scaled, picture.note)

    def paint(self, image: Image, progress: Progress | None = None) -> tuple[Canvas, list[Face]]:
        """The cartoon of a photo at working size before rounding, `(H, W, 3)` RGB in 0..255, and its faces.

        It is float32, or uint8 where no face was found.
        """
        canvas: Canvas = self._paint_background(image)
        faces = sorted(self.find_faces(image), key=lambda face: face.area, reverse=True)
        if faces:
            canvas = canvas.astype(np.float32)
        matrices = [similarity_in_image_frame(face.five_points, HEAD_TEMPLATE) for face in faces]
        if progress is not None:
            progress(1, 1 + len(faces))
        for start in range(0, len(matrices), self.options.head_batch):
            batch = matrices[start : start + self.options.head_batch]
            heads = np.stack([crop(image, matrix, HEAD_SIZE, WHITE) for matrix in batch])
            for head, matrix in zip(self._head.run({"image": heads})["result"], batch, strict=True):
                self._blend(canvas, np.asarray(head, np.uint8), matrix)
            if progress is not None:
                progress(1 + start + len(batch), 1 + len(faces))
        return canvas, faces

    def describe(self) -> str:
        """One line about what this flow does with a photo."""
        size = "the photo's size" if self.options.size is None else f"a short side of at most {self.options.size} px"
        finder = getattr(self.find_faces, "title", type(self.find_faces).__name__)
        return f"DCT-Net cartoon at {size}, long side at most {MAX_LONG_SIDE} px, faces by {finder}"

    def _paint_background(self, image: Image) -> Image:
        height, width = image.shape[:2]
        padded = pad_to_multiple(image)
        result = self._background.run({"image": padded[None]})["result"]
        return np.asarray(result[0, :height, :width], np.uint8)

    def _blend(self, canvas: Canvas, head: Image, matrix: Matrix) -> None:
        """Put one head into the float32 canvas.

        The warps span the whole canvas, because a shifted warp rounds its coordinates differently.
        """
        height, width = canvas.shape[:2]
        to_image = invert(matrix)
        rows, columns = _bounds(to_image, width, height)
        mask = warp(self._mask, to_image, (width, height))[rows, columns, None]
        painted = warp(head, to_image, (width, height))[rows, columns]
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


def pad_to_multiple(image: Image) -> Image:
    """The image with white right of and below it, uint8 with both sides multiples of 16.

    As in the original, if one side needs padding the other gets at least one pixel too, so an aligned side gains 16.
    """
    height, width = image.shape[:2]
    if height % MULTIPLE == 0 and width % MULTIPLE == 0:
        return image
    right, bottom = MULTIPLE - width % MULTIPLE, MULTIPLE - height % MULTIPLE
    return np.asarray(cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=WHITE), np.uint8)


def _resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """The image at `size` (width, height), in its own dtype; INTER_AREA, as the original in both directions."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def _round_at_size(canvas: Canvas, size: tuple[int, int]) -> Image:
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


def _mask_from(alpha: Image) -> NDArray[np.float32]:
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


def open_flow(sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Mapping[str, object]) -> DctNetFlow:
    """The flow over the networks and assets of a bundle; `options` are the fields of `DctNetOptions`.

    Without the detector and landmarks networks, OpenCV's cascades find the faces; without the asset `alpha`, the mask
    is an ellipse; `notes` says so.

    Raises:
        BundleError: a network is missing.
        CameoError: an option is unknown or out of range.
        PhotoError: the alpha mask cannot be read.
    """
    missing = [name for name in (BACKGROUND, HEAD) if name not in sessions]
    if missing:
        raise BundleError(f"The bundle has no network {' and no '.join(missing)}, dctnet needs both: build it again.")
    notes: list[str] = []
    find_faces = _finder(sessions, notes)
    alpha = read_photo(assets["alpha"]) if "alpha" in assets else None
    if alpha is None:
        notes.append("The bundle has no alpha mask: an ellipse with a soft rim stands in.")
    return DctNetFlow(
        sessions[BACKGROUND], sessions[HEAD], find_faces, alpha, options_of(DctNetOptions, "dctnet", options), notes
    )


def _finder(sessions: Mapping[str, Session], notes: list[str]) -> FindFaces:
    if DETECTOR in sessions and LANDMARKS in sessions:
        return FaceFinder(sessions[DETECTOR], sessions[LANDMARKS])
    missing = " and ".join(name for name in (DETECTOR, LANDMARKS) if name not in sessions)
    notes.append(f"The bundle lacks {missing}: OpenCV's Haar cascades stand in and find frontal faces only.")
    return CascadeFinder()
