"""GPEN on one aligned face: coloured, filled in, drawn from a label image, or enlarged.

    photo -> [grey | the missing parts white] -> the network's size -> network -> [the photo's own brightness and size]

The numbers are those of the original (`FaceGAN.process` and the demo around it). The photo is one aligned face as the
published networks were trained on, square, eyes and mouth where FFHQ has them; no face is looked for. Of each task:

    gpen-colorization-S     the photo's grey goes in. The result has the photo's size, and unless that is S x S already,
                            its brightness (Y of YUV) is the photo's, so that no detail is lost: only colours are new
    gpen-inpainting-S       what is missing is white, as in the authors' demo, in the photo or by the option `mask`
    gpen-seg2face-S         the photo is a label image, a colour for each part of the face
    gpen-sr-IN-OUT          a face of IN pixels comes out with OUT; details that nothing tells come from noise of `seed`

Knowingly different are:

    * that `seed`: the original's noise is another one at every call;
    * inpainting and enlarging leave a photo without colour without (`cameo/colour.py`): the original tints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

import cv2
import numpy as np

from cameo.colour import as_colourless_as, without_colour
from cameo.declaring import Declared, option
from cameo.errors import BundleError, PhotoError, RequestError
from cameo.faces.face import Face
from cameo.faces.restoring import ALIGNED, aligned_face, resize
from cameo.flows import FlowOptions, Outcome, Progress
from cameo.images import Photo, read_photo
from cameo.pixels import Pixels
from cameo.session import Session, Tensor

TAKES: Final = ("photo",)
DIGITAL_SOURCE_TYPE: Final = "compositeWithTrainedAlgorithmicMedia"
COLORIZATION, INPAINTING, SEG2FACE, SR = "gpen-colorization-", "gpen-inpainting-", "gpen-seg2face-", "gpen-sr-"
RESTORING: Final = (INPAINTING, SR)  # the others' task is to find colours
SOURCE_TYPES: Final = {SEG2FACE: "trainedAlgorithmicMedia", SR: "algorithmicallyEnhanced"}  # docs/decisions/152
VERBS: Final = {COLORIZATION: "colours", INPAINTING: "fills in", SEG2FACE: "draws", SR: "enlarges"}
WHITE: Final = 255
MISSING: Final = 128  # levels of a mask from which on a pixel counts as missing


@dataclass(frozen=True)
class Options(FlowOptions):
    """Nothing but what every flow has."""

    OF: ClassVar[str] = "gpen-face"


@dataclass(frozen=True)
class Request(Declared):
    """What is missing of the photo, and where details come from that nothing tells."""

    OF: ClassVar[str] = "gpen-face"

    aligned: bool = option(True, "the photo is one aligned face; nothing else is taken", choices=("yes",))
    mask: Photo | None = option(
        None, "inpainting: a picture of the photo's size, white where parts are missing", needs=INPAINTING
    )
    seed: int = option(0, "enlarging: of the noise that details come from", least=0, needs=SR)


class GpenFaceFlow:
    """Runs `session` of `network` (`image` -> `result`) on photos of one aligned face."""

    finder = ""

    def __init__(self, network: str, session: Session, options: Options | None = None) -> None:
        self._network = network
        self._task = next(task for task in VERBS if network.startswith(task))
        sizes = [int(size) for size in network.removeprefix(self._task).split("-")]
        self._in_size, self._out_size = sizes[0], sizes[-1]
        self._session = session
        self.options = options or Options()
        self.notes: list[str] = []

    def run(self, photos: Mapping[str, Pixels], request: Request, progress: Progress | None = None) -> Outcome:
        """The result, of the photo's size when colouring, else of the network's: one face.

        Raises:
            PhotoError: the mask cannot be read, or is not of the photo's size.
            RequestError: a mask for a network that fills nothing in, a seed for one that draws no noise.
        """
        pixels = photos["photo"]
        face = resize(self._prepared(pixels, request), (self._in_size, self._in_size))
        feeds: dict[str, Tensor] = {"image": face[None]}
        if self._task == SR:
            feeds["seed"] = np.array(request.seed)
        image = np.asarray(self._session.run(feeds)["result"][0], np.uint8)
        if self._task == COLORIZATION:
            image = _with_brightness_of(pixels, image)
        if self._task in RESTORING:
            image = as_colourless_as(pixels, image)
        if progress is not None:
            progress(1, 1)
        return Outcome(image, (aligned_face(image),), ALIGNED, SOURCE_TYPES.get(self._task, ""))

    def find_faces(self, photo: Pixels) -> list[Face]:
        """None: the photo is the face."""
        return []

    def describe(self) -> str:
        """One line about what this flow does with a photo."""
        enlarging = f" to {self._out_size} px" if self._task == SR else ""
        return f"GPEN {VERBS[self._task]} one aligned face of {self._in_size} px{enlarging}"

    def _prepared(self, photo: Pixels, request: Request) -> Pixels:
        if request.mask is not None and self._task != INPAINTING:
            raise RequestError(f"Option `mask` is for {INPAINTING}SIZE, the bundle has {self._network}: leave it out.")
        if request.seed and self._task != SR:
            raise RequestError(f"Option `seed` is for {SR}IN-OUT, the bundle has {self._network}: leave it out.")
        if self._task == COLORIZATION:
            return without_colour(photo)
        if request.mask is None:
            return photo
        mask = read_photo(request.mask, self.options.max_pixels)
        if mask.shape != photo.shape:
            sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (photo, mask)]
            raise PhotoError(f"The photo is {sizes[0]} and the mask {sizes[1]}, expected one size: resize the mask.")
        return np.where(mask >= MISSING, np.uint8(WHITE), photo)


def _with_brightness_of(photo: Pixels, coloured: Pixels) -> Pixels:
    """The colours at the photo's size with the photo's Y; as the original, just the result where sizes are the same."""
    if photo.shape == coloured.shape:
        return coloured
    yuv = cv2.cvtColor(resize(coloured, (photo.shape[1], photo.shape[0])), cv2.COLOR_RGB2YUV)
    yuv[..., 0] = cv2.cvtColor(without_colour(photo), cv2.COLOR_RGB2YUV)[..., 0]
    return np.asarray(cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB), np.uint8)


def open_flow(sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Options) -> GpenFaceFlow:
    """The flow over the one network of a bundle; `assets` are none.

    Raises:
        BundleError: there is no network of these tasks.
    """
    network = next((name for name in sessions if name.startswith(tuple(VERBS))), None)
    if network is None:
        raise BundleError(f"The bundle has no network {'SIZE, '.join(VERBS)}SIZE, expected one: build it again.")
    return GpenFaceFlow(network, sessions[network], options)
