"""GPEN: every face of a photo restored and put back, the rest enlarged if asked.

    photo -> [enlarged, in tiles] -> faces, best first -> aligned crops -> the generator, some crops at a time
    restored crop -> where it is face -> soft mask -> [smoothed, if the face is small] -> [mixed with the crop]
    -> put into the photo where its mask beats those of the faces before

The numbers are those of the original (`FaceEnhancement.process`). Knowingly different are:

    * a face's score is its score: the original divides it by the scale of a shrunk photo, 0.99 -> 1.5, and so lets
      every face of a photo beyond 1500 px pass its threshold (`cameo/faces/retinaface.py`);
    * an enlarged photo is exactly `scale` times as large: the original adds a row to an odd height, and a column;
    * enlarging by 1 works in tiles, where the original leaves it out, and tiles have no seams (`cameo/tiles.py`);
    * faces run in batches and are put back one by one within their rectangle: besides the photo, the result and one
      mask, memory holds one batch, however many faces there are;
    * a face whose five points coincide or are not numbers is left as it is, and `note` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from cameo.errors import BundleError, CameoError, PhotoError, PhotoTooLarge
from cameo.faces.alignment import similarity_in_crop_frame, square_template
from cameo.faces.cascade import CascadeFinder
from cameo.faces.face import Face, Image, Matrix
from cameo.faces.paste import MASK_SIZE, FacePaster, Mask, crop_from, face_mask, rectangle_mask
from cameo.faces.retinaface import MIN_SCORE, RetinaFaceFinder
from cameo.flows import Progress, options_of
from cameo.images import MAX_PIXELS, Photo, ReadOptions, read_picture
from cameo.session import Session
from cameo.tiles import FOLD, MIN_TILE, Enlarger

FindFaces = Callable[[Image], list[Face]]

GENERATOR, FINDER, PARSER, ENLARGER = "gpen-bfr-", "retinaface-r50", "parsenet", "realesrnet-x"
ZOOM: Final = 2 / 3  # the original pads the 112 px square of the template by a quarter on every side
SMALL_FACE: Final = 100  # pixels of the box's shorter side
SMOOTHING: Final = np.outer([1, 2, 1], [1, 2, 1]) / 16
BATCH_SIZE: Final = 512  # pixels a side of the faces that `face_batch` counts


@dataclass(frozen=True)
class GpenOptions:
    """`aligned`: the photo is one aligned face; `alpha`: share of the restored face; `sr`: enlarge the photo.

    `tile`: pixels a side of the tiles in which it is enlarged, None for all at once; `face_batch`: faces of 512 px per
    run of the generator, fewer of larger ones; `max_faces`: only so many are restored, those of the best score;
    `max_pixels`: larger photos and results are refused.
    """

    aligned: bool = False
    alpha: float = 1.0
    sr: bool = False
    tile: int | None = 256
    face_batch: int = 4
    max_faces: int | None = None
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        for name in ("aligned", "sr"):
            if not isinstance(getattr(self, name), bool):
                raise CameoError(f"Option {name} of gpen is {getattr(self, name)!r}, expected True or False.")
        for name in ("face_batch", "max_faces", "max_pixels"):
            value = getattr(self, name)
            if name == "max_faces" and value is None:
                continue
            if type(value) is not int or value < 1:
                raise CameoError(f"Option {name} of gpen is {value!r}, expected a whole number of at least 1.")
        if not isinstance(self.alpha, int | float) or not 0 <= self.alpha <= 1:
            raise CameoError(f"Option alpha of gpen is {self.alpha!r}, expected a number from 0 to 1.")
        if self.tile is not None and (type(self.tile) is not int or self.tile < MIN_TILE or self.tile % FOLD):
            raise CameoError(
                f"Option tile of gpen is {self.tile!r}, expected None or a multiple of {FOLD} of at least {MIN_TILE}."
            )


@dataclass(frozen=True, eq=False)
class Restored:
    """What the flow made of a photo: `image` uint8 `(H, W, 3)` RGB, and the faces it restored, in pixels of `image`.

    `note` says in a sentence what was left undone, or "".
    """

    image: Image
    faces: tuple[Face, ...]
    note: str = ""


class GpenFlow:
    """Restores the faces of photos; `generator` maps `image` to `result`, uint8 `(N, size, size, 3)` RGB.

    `parser` maps `image` to `mask`; without it, a rectangle stands in. `enlarger`, wanted by the option `sr`, enlarges
    the photo first. `notes` say, a sentence each, what stands in for a missing part.
    """

    def __init__(
        self,
        generator: Session,
        size: int,
        find_faces: FindFaces,
        parser: Session | None = None,
        enlarger: Enlarger | None = None,
        options: GpenOptions | None = None,
    ) -> None:
        self._generator = generator
        self._size = size
        self.find_faces = find_faces
        self._parser = parser
        self._enlarger = enlarger
        self._template = square_template(size, ZOOM)
        self._rectangle = rectangle_mask(size)
        self.options = options or GpenOptions()
        self.notes: list[str] = []

    def __call__(self, photo: Photo) -> Image:
        """The restored photo, uint8 `(H, W, 3)` RGB, of the photo's size, or as often as large as it is enlarged.

        Raises:
            PhotoError: the photo cannot be read, or it or its result is too large.
        """
        return self.run(photo).image

    def run(self, photo: Photo, progress: Progress | None = None) -> Restored:
        """The restored photo and its faces; `progress(done, faces)` is called after every batch.

        Raises:
            PhotoError: the photo cannot be read, or it or its result is too large.
        """
        picture = read_picture(photo, ReadOptions(self.options.max_pixels))
        pixels = picture.pixels
        if self.options.aligned:
            return Restored(self._enlarged(self._restore_aligned(pixels)), (), picture.note)
        base = self._enlarged(pixels)
        if base is not pixels:
            pixels = resize(pixels, (base.shape[1], base.shape[0]))
        found = [face for face in self.find_faces(pixels) if face.score >= MIN_SCORE]
        chosen = sorted(found, key=lambda face: -face.score)[: self.options.max_faces]  # most finders sort them already
        aligned = [(face, to_crop) for face in chosen if (to_crop := self._align(face)) is not None]
        paster = FacePaster(base)
        batch = max(1, self.options.face_batch * BATCH_SIZE**2 // max(self._size, BATCH_SIZE) ** 2)
        for start in range(0, len(aligned), batch):
            self._restore(pixels, aligned[start : start + batch], paster)
            if progress is not None:
                progress(min(start + batch, len(aligned)), len(aligned))
        note = picture.noted(_note(len(found), len(chosen), len(aligned)))
        return Restored(paster.image, tuple(face for face, _ in aligned), note)

    def describe(self) -> str:
        """One line about what this flow does with a photo."""
        if self.options.aligned:
            return f"GPEN restores one aligned face at {self._size} px"
        finder = getattr(self.find_faces, "title", type(self.find_faces).__name__)
        enlarged = f", the photo enlarged by {self._enlarger.scale}" if self._enlarger and self.options.sr else ""
        return f"GPEN restores faces at {self._size} px, found by {finder}{enlarged}"

    def _enlarged(self, photo: Image) -> Image:
        """The photo enlarged, or itself where that is not asked for."""
        if not self.options.sr:
            return photo
        if self._enlarger is None:
            raise BundleError(_NO_ENLARGER)
        height, width = (side * self._enlarger.scale for side in photo.shape[:2])
        if height * width > self.options.max_pixels:
            raise PhotoTooLarge(
                f"Enlarged, the photo would be {width}x{height}, {height * width:,} pixels, expected at most "
                f"{self.options.max_pixels:,}: shrink it, or leave out sr."
            )
        return self._enlarger(photo)

    def _restore_aligned(self, photo: Image) -> Image:
        face = resize(photo, (self._size, self._size))
        return np.asarray(self._generator.run({"image": face[None]})["result"][0], np.uint8)

    def _align(self, face: Face) -> Matrix | None:
        """The matrix from photo to crop, or None where the points of the face tell no place."""
        try:
            return similarity_in_crop_frame(face.five_points.astype(np.float32), self._template)
        except PhotoError:
            return None

    def _restore(self, photo: Image, faces: Sequence[tuple[Face, Matrix]], paster: FacePaster) -> None:
        """Restore one batch of faces and put them in, in their order."""
        crops = np.stack([crop_from(photo, to_crop, self._size) for _, to_crop in faces])
        results = self._generator.run({"image": crops})["result"]
        for (face, to_crop), original, result in zip(faces, crops, results, strict=True):
            restored = np.asarray(result, np.uint8)
            mask = self._mask_of(restored)  # before smoothing and mixing
            if min(face.box[2] - face.box[0], face.box[3] - face.box[1]) < SMALL_FACE:
                restored = np.asarray(cv2.filter2D(restored, -1, SMOOTHING), np.uint8)
            paster.paste(_mix(restored, original, self.options.alpha), mask, to_crop)

    def _mask_of(self, face: Image) -> Mask:
        """Where a restored crop is face; one crop at a time, because its logits are 20 MB."""
        if self._parser is None:
            return self._rectangle
        image = resize(face, (MASK_SIZE, MASK_SIZE))
        return face_mask(self._parser.run({"image": image[None]})["mask"][0], self._size)


def resize(image: Image, size: tuple[int, int]) -> Image:
    """The image at `size` (width, height)."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _mix(restored: Image, original: Image, alpha: float) -> Image:
    if alpha == 1:
        return restored
    return np.asarray(cv2.addWeighted(restored, alpha, original, 1 - alpha, 0), np.uint8)


def _note(found: int, chosen: int, restored: int) -> str:
    if found == 0:
        return "No face was found, so none was restored."
    notes = [f"Of {found} faces only the {chosen} of the best score were to be restored."] if chosen < found else []
    if restored < chosen:
        notes.append(f"{chosen - restored} of {chosen} faces stayed as they are: their five points tell no place.")
    return " ".join(notes)


_NO_ENLARGER = (
    "The bundle has no network realesrnet-x1, -x2 or -x4, expected one for the option sr: build it with its weights, "
    "or leave out sr."
)


def open_flow(sessions: Mapping[str, Session], assets: Mapping[str, Path], options: Mapping[str, object]) -> GpenFlow:
    """The flow over the networks of a bundle; `options` are the fields of `GpenOptions`, `assets` are not needed.

    Without retinaface-r50, OpenCV's cascades find the faces; without parsenet, the mask is a rectangle; `notes` says
    so.

    Raises:
        BundleError: the generator is missing, or the enlarger where the option `sr` asks for it.
        CameoError: an option is unknown or out of range.
    """
    generator = _only(sessions, GENERATOR)
    if generator is None:
        raise BundleError(f"The bundle has no network {GENERATOR}SIZE, expected one: build it again.")
    chosen = options_of(GpenOptions, "gpen", options)
    enlarger = _only(sessions, ENLARGER)
    if chosen.sr and enlarger is None:
        raise BundleError(_NO_ENLARGER)
    notes: list[str] = []
    flow = GpenFlow(
        sessions[generator],
        int(generator.removeprefix(GENERATOR)),
        _finder(sessions, notes),
        _parser(sessions, notes),
        Enlarger(sessions[enlarger], int(enlarger.removeprefix(ENLARGER)), chosen.tile) if enlarger else None,
        chosen,
    )
    flow.notes += notes
    return flow


def _only(sessions: Mapping[str, Session], start: str) -> str | None:
    """The name of the network that begins so and ends in a number, if there is one."""
    return next((name for name in sessions if name.startswith(start) and name.removeprefix(start).isdigit()), None)


def _finder(sessions: Mapping[str, Session], notes: list[str]) -> FindFaces:
    if FINDER in sessions:
        return RetinaFaceFinder(sessions[FINDER])
    notes.append(f"The bundle lacks {FINDER}: OpenCV's Haar cascades stand in and find frontal faces only.")
    return CascadeFinder()


def _parser(sessions: Mapping[str, Session], notes: list[str]) -> Session | None:
    if PARSER not in sessions:
        notes.append(f"The bundle lacks {PARSER}: faces are put back by a rectangle with a soft rim.")
    return sessions.get(PARSER)
