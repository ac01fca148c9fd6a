"""GPEN on one aligned face: coloured, filled in, drawn from a label image, or enlarged.

    photo -> [grey | the missing parts white] -> the network's size -> network -> [the photo's own brightness and size]

The numbers are those of the original (`FaceGAN.process` and the demo around it). The photo is one aligned face as the
published networks were trained on, square, eyes and mouth where FFHQ has them; no face is looked for. Of each task:

    gpen-colorization-S     the photo's grey goes in. The result has the photo's size, and unless that is S x S already,
                            its brightness (Y of YUV) is the photo's, so that no detail is lost: only colours are new
    gpen-inpainting-S       what is missing is white, as in the authors' demo, in the photo or by the option `mask`
    gpen-seg2face-S         the photo is a label image, a colour for each part of the face
    gpen-sr-IN-OUT          a face of IN pixels comes out with OUT; details that nothing tells come from noise of `seed`

Knowingly different is that `seed`: the original's noise is another one at every call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from cameo.errors import BundleError, CameoError, PhotoError
from cameo.faces.face import Image
from cameo.flows import Progress, options_of
from cameo.flows.gpen import Restored, resize
from cameo.images import MAX_PIXELS, Photo, ReadOptions, read_photo, read_picture
from cameo.session import Session, Tensor

COLORIZATION, INPAINTING, SEG2FACE, SR = "gpen-colorization-", "gpen-inpainting-", "gpen-seg2face-", "gpen-sr-"
VERBS: Final = {COLORIZATION: "colours", INPAINTING: "fills in", SEG2FACE: "draws", SR: "enlarges"}
WHITE: Final = 255
MISSING: Final = 128  # levels of a mask from which on a pixel counts as missing
_NOTE: Final = "The whole photo was taken as one aligned face."


@dataclass(frozen=True)
class GpenFaceOptions:
    """`aligned` can only be True; `mask`, for inpainting: a picture of the photo's size, white where parts are missing.

    `seed` of the noise, for networks that want some; `max_pixels`: larger photos are refused.
    """

    aligned: bool = True
    mask: str | Path | None = None
    seed: int = 0
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.aligned is not True:
            raise CameoError(f"Option aligned of gpen-face is {self.aligned!r}, expected True: it takes nothing else.")
        for name, least in (("seed", 0), ("max_pixels", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise CameoError(f"Option {name} of gpen-face is {value!r}, expected a whole number from {least} on.")


class GpenFaceFlow:
    """Runs `session` of `network` (`image` -> `result`) on photos of one aligned face; `mask` uint8 `(H, W, 3)`."""

    def __init__(
        self, network: str, session: Session, mask: Image | None = None, options: GpenFaceOptions | None = None
    ) -> None:
        self._task = next(task for task in VERBS if network.startswith(task))
        sizes = [int(size) for size in network.removeprefix(self._task).split("-")]
        self._in_size, self._out_size = sizes[0], sizes[-1]
        self._session = session
        self._mask = mask
        self.options = options or GpenFaceOptions()
        self.notes: list[str] = []

    def __call__(self, photo: Photo) -> Image:
        """The result, uint8 `(H, W, 3)` RGB: of the photo's size when colouring, else of the network's.

        Raises:
            PhotoError: the photo cannot be read, is too large, or is not of the mask's size.
        """
        return self.run(photo).image

    def run(self, photo: Photo, progress: Progress | None = None) -> Restored:
        """The result; its `faces` are empty, as none is looked for.

        Raises:
            PhotoError: the photo cannot be read, is too large, or is not of the mask's size.
        """
        picture = read_picture(photo, ReadOptions(self.options.max_pixels))
        pixels = picture.pixels
        face = resize(self._prepared(pixels), (self._in_size, self._in_size))
        feeds: dict[str, Tensor] = {"image": face[None]}
        if self._task == SR:
            feeds["seed"] = np.array(self.options.seed)
        image = np.asarray(self._session.run(feeds)["result"][0], np.uint8)
        if self._task == COLORIZATION:
            image = _with_brightness_of(pixels, image)
        if progress is not None:
            progress(1, 1)
        return Restored(image, (), picture.noted(_NOTE))

    def describe(self) -> str:
        """One line about what this flow does with a photo."""
        enlarging = f" to {self._out_size} px" if self._task == SR else ""
        return f"GPEN {VERBS[self._task]} one aligned face of {self._in_size} px{enlarging}"

    def _prepared(self, photo: Image) -> Image:
        if self._task == COLORIZATION:
            return _grey(photo)
        if self._mask is None:
            return photo
        if self._mask.shape != photo.shape:
            sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (photo, self._mask)]
            raise PhotoError(f"The photo is {sizes[0]} and the mask {sizes[1]}, expected one size: resize the mask.")
        return np.where(self._mask >= MISSING, np.uint8(WHITE), photo)


def _grey(photo: Image) -> Image:
    """The photo without its colours, uint8 `(H, W, 3)`."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB), np.uint8)


def _with_brightness_of(photo: Image, coloured: Image) -> Image:
    """The colours at the photo's size with the photo's Y; as the original, just the result where sizes are the same."""
    if photo.shape == coloured.shape:
        return coloured
    yuv = cv2.cvtColor(resize(coloured, (photo.shape[1], photo.shape[0])), cv2.COLOR_RGB2YUV)
    yuv[..., 0] = cv2.cvtColor(_grey(photo), cv2.COLOR_RGB2YUV)[..., 0]
    return np.asarray(cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB), np.uint8)


def open_flow(
    sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Mapping[str, object]
) -> GpenFaceFlow:
    """The flow over the one network of a bundle; `options` are the fields of `GpenFaceOptions`, `assets` none.

    Raises:
        BundleError: there is no network of these tasks.
        CameoError: an option is unknown or out of range, or a mask was given to a network that fills nothing in.
        PhotoError: the mask cannot be read.
    """
    network = next((name for name in sessions if name.startswith(tuple(VERBS))), None)
    if network is None:
        raise BundleError(f"The bundle has no network {'SIZE, '.join(VERBS)}SIZE, expected one: build it again.")
    chosen = options_of(GpenFaceOptions, "gpen-face", options)
    if chosen.mask is not None and not network.startswith(INPAINTING):
        raise CameoError(f"Option mask is for {INPAINTING}SIZE, the bundle has {network}: leave it out.")
    mask = read_photo(chosen.mask, chosen.max_pixels) if chosen.mask is not None else None
    return GpenFaceFlow(network, sessions[network], mask, chosen)
