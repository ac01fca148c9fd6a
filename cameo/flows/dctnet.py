"""DCT-Net: a photo becomes a cartoon, the background by one network and every head by another.

    photo -> at most 720 px short side, or by a size rule -> background network -> canvas
             faces, largest first: head crop of 288 px -> head network -> blended into the canvas by the alpha mask
    canvas -> [enlarged by RealESRNet] -> the photo's size

The numbers are those of the original (`Cartoonizer.cartoonize`). Knowingly different are:

    * where the photo ends, networks see it mirrored, at the right and bottom side of the background as around a head.
      The original goes on in white, which leaves rims (docs/decisions/107); and it pads an aligned side, too, by 16 px,
      if the other needs padding. Results differ within 50 px of such a border, and in heads that one cuts;
    * a head goes on beyond its crop, so that a mask that is not 0 at its rim leaves no dark line there;
    * a photo without colour stays without (`cameo/colour.py`);
    * the result is uint8 at the photo's size; the original returns floats, and without a face the resized image;
    * the short side may be any, not only 720, or unlimited (`size=None`); faces are looked for at 720 in any case;
    * where a size rule is asked for, it says at what size networks work (`cameo/size_rule.py`);
    * the long side is at most 3000 px, in all cases: the original runs out of memory instead;
    * heads run as batches, and the blend touches only the rectangle where the mask is not zero.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.batches import run_rows
from cameo.colour import as_colourless_as
from cameo.declaring import Declared, option
from cameo.enlarging import ENLARGER, NO_ENLARGER, enlarged, enlarger_of, only, tile_option
from cameo.errors import BundleError, RequestError
from cameo.faces.alignment import crop, invert, similarity_in_image_frame, square_template, transform, warp
from cameo.faces.alpha import alpha_of, ellipse
from cameo.faces.counting import counted
from cameo.faces.face import Face, Finder, Matrix
from cameo.faces.finders.dctnet import finder_of
from cameo.flows import FlowOptions, Outcome, Progress
from cameo.pixels import Pixels
from cameo.session import Session
from cameo.size_rule import ORIGINAL, Fitted, fit, seen_at, size_rule_option
from cameo.tiles import Enlarger, pad_to_multiple

Canvas = NDArray[Any]
TAKES: Final = ("photo",)
DIGITAL_SOURCE_TYPE: Final = "compositeWithTrainedAlgorithmicMedia"
BACKGROUND, HEAD = "dctnet-background", "dctnet-head"
MAX_LONG_SIDE: Final = 3000  # pixels; the memory of the background network grows with their square
FINDING_SIZE: Final = 720  # pixels of the short side; finders overlook faces of 60 px and less (docs/decisions/201)
MULTIPLE: Final = 16  # both sides of what the background network gets
HEAD_SIZE: Final = 288
_NO_FACE: Final = "No face was found: all of the photo was drawn as background."
# The original's reference points: one pixel right and down, three quarters of the usual scale, to show all of the hair.
HEAD_TEMPLATE: Final = square_template(HEAD_SIZE, zoom=0.75, offset=1)


@dataclass(frozen=True)
class Options(FlowOptions):
    """At what size the networks work; larger photos are shrunk, and the result enlarged again."""

    OF: ClassVar[str] = "dctnet"

    size: int | None = option(
        720,
        "short side in pixels to work at, or full; the result has the photo's size",
        least=MULTIPLE,
        most=MAX_LONG_SIDE,
        none="full",
    )
    tile: int | None = tile_option()


@dataclass(frozen=True)
class Request(Declared):
    """At what size a photo is drawn, if not by the option `size`, and how the result gets to the photo's own."""

    OF: ClassVar[str] = "dctnet"

    sr: bool = option(False, "enlarge the result to the photo's size by RealESRNet", needs=ENLARGER)
    size_rule: str = size_rule_option()


@dataclass(frozen=True)
class Networks:
    """`background` and `head` map `image` to `result`, uint8 `(N, H, W, 3)` RGB; `enlarger` is for the option `sr`."""

    background: Session
    head: Session
    enlarger: Enlarger | None = None


class DctNetFlow:
    """Makes cartoons of photos with `networks`.

    `alpha`, uint8 `(h, w)` or `(h, w, 3)`, says how much of the head network's picture shows where in the head crop.
    `notes` say, a sentence each, what stands in for a missing part.
    """

    def __init__(
        self,
        networks: Networks,
        finder: Finder,
        alpha: Pixels | None = None,
        options: Options | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self._networks = networks
        self._finder = finder
        self._mask = ellipse(HEAD_SIZE) if alpha is None else _mask_from(alpha)
        self.options = options or Options()
        self.notes = list(notes)
        self.finder = finder.title

    def run(self, photos: Mapping[str, Pixels], request: Request, progress: Progress | None = None) -> Outcome:
        """The cartoon of `photo`, of its size; `progress(done, all)` counts the photo and its heads.

        Raises:
            PhotoTooLarge: what `sr` makes would be.
            RequestError: the option `sr`, and no network for it.
        """
        enlarge = self._enlarging() if request.sr else None
        pixels = photos["photo"]
        view = fit(pixels, request.size_rule)
        seen = (view.image.shape[1], view.image.shape[0])
        size = working_size(*seen, self.options.size if request.size_rule == ORIGINAL else None)
        small = _resize(view.image, size)
        finding = _at_finding_size(view.image, small)
        found = self._found(finding)
        canvas = self.paint(small, [_moved(face, finding, small) for face in found], progress)
        faces = [_moved(face, finding, view.image) for face in found]
        notes = (seen_at(size) if view.note else "", counted(len(found), self._finder) or ("" if found else _NO_FACE))
        return Outcome(
            as_colourless_as(pixels, _back(view, canvas, enlarge)),
            tuple(view.in_photo(face) for face in faces if view.shows(face)),
            " ".join(filter(None, notes)),
        )

    def find_faces(self, photo: Pixels) -> list[Face]:
        """The faces of a photo, largest first."""
        view = _at_finding_size(photo)
        return [_moved(face, view, photo) for face in self._found(view)]

    def paint(self, image: Pixels, faces: Sequence[Face], progress: Progress | None = None) -> Canvas:
        """The cartoon of a photo at working size, and of its faces, before rounding: `(H, W, 3)` RGB in 0..255.

        It is float32, or uint8 where there is no face.
        """
        canvas: Canvas = self._paint_background(image)
        if faces:
            canvas = canvas.astype(np.float32)
        matrices = [similarity_in_image_frame(face.five_points, HEAD_TEMPLATE) for face in faces]
        if progress is not None:
            progress(1, 1 + len(faces))
        crops = ({"image": crop(image, matrix, HEAD_SIZE)} for matrix in matrices)
        for index, head in enumerate(run_rows(self._networks.head, crops)):
            self._blend(canvas, np.asarray(head["result"], np.uint8), matrices[index])
            if progress is not None:
                progress(2 + index, 1 + len(faces))
        return canvas

    def describe(self) -> str:
        """One line about what this flow does with a photo."""
        size = "the photo's size" if self.options.size is None else f"a short side of at most {self.options.size} px"
        return f"DCT-Net cartoon at {size}, long side at most {MAX_LONG_SIDE} px, faces by {self.finder}"

    def _found(self, view: Pixels) -> list[Face]:
        return sorted(self._finder(view), key=lambda face: face.area, reverse=True)

    def _enlarging(self) -> Callable[[Pixels], Pixels]:
        """What enlarges results on request (docs/decisions/207)."""
        if self._networks.enlarger is None:
            raise RequestError(NO_ENLARGER)
        return partial(enlarged, enlarger=self._networks.enlarger, max_pixels=self.options.max_pixels)

    def _paint_background(self, image: Pixels) -> Pixels:
        height, width = image.shape[:2]
        padded = pad_to_multiple(image, MULTIPLE)
        result = self._networks.background.run({"image": padded[None]})["result"]
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


def _at_finding_size(photo: Pixels, small: Pixels | None = None) -> Pixels:
    """The photo as faces are looked for in it; `small` itself where it has that size."""
    height, width = photo.shape[:2]
    size = working_size(width, height, FINDING_SIZE)
    return small if small is not None and (small.shape[1], small.shape[0]) == size else _resize(photo, size)


def _moved(face: Face, seen_in: Pixels, image: Pixels) -> Face:
    """A face that was seen in one size of a photo, in another."""
    if image.shape == seen_in.shape:
        return face
    return face.scaled(image.shape[1] / seen_in.shape[1], image.shape[0] / seen_in.shape[0])


def _back(view: Fitted, canvas: Canvas, enlarge: Callable[[Pixels], Pixels] | None) -> Pixels:
    """What was painted of `view`, at the photo's size."""
    if enlarge is None and view.image.shape[1::-1] == view.size:
        return _round_at_size(canvas, view.size)  # from floats, as the original
    return view.back(_round_at_size(canvas, (canvas.shape[1], canvas.shape[0])), enlarge)


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


def open_flow(sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Options) -> DctNetFlow:
    """The flow over the networks and assets of a bundle.

    Without the detector and landmarks networks, OpenCV's cascades find the faces; without the asset `alpha`, the mask
    is an ellipse; `notes` says so.

    Raises:
        BundleError: a network is missing.
        PhotoError: the alpha mask cannot be read.
    """
    check(sessions, options, Request())
    notes: list[str] = []
    finder = finder_of(sessions, notes)
    networks = Networks(sessions[BACKGROUND], sessions[HEAD], enlarger_of(sessions, options.tile))
    return DctNetFlow(networks, finder, alpha_of(assets, notes), options, notes)


def check(networks: Collection[str], _: Options, request: Request) -> None:
    """Look whether the networks are there.

    Raises:
        BundleError: one that is always needed is missing.
        RequestError: the option `sr` asks for the enlarger, and it is missing.
    """
    missing = [name for name in (BACKGROUND, HEAD) if name not in networks]
    if missing:
        raise BundleError(f"The bundle has no network {' and no '.join(missing)}, dctnet needs both: build it again.")
    if request.sr and only(networks, ENLARGER) is None:
        raise RequestError(NO_ENLARGER)
