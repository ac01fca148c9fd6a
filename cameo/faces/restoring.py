"""Faces restored and put back: aligned crops through a generator of faces, where they are face, into the photo.

    face -> aligned crop -> the generator, some crops at a time -> where it is face -> soft mask
    -> [smoothed, if the face is small] -> [mixed with the crop] -> into the photo where its mask beats those before

The numbers are those of GPEN's authors (`FaceEnhancement.process`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import cv2
import numpy as np

from cameo.batches import run_rows
from cameo.errors import PhotoError
from cameo.faces.alignment import similarity_in_crop_frame, square_template
from cameo.faces.face import Face, Matrix
from cameo.faces.paste import MASK_SIZE, FacePaster, Mask, crop_from, face_mask, rectangle_mask
from cameo.pixels import Pixels
from cameo.session import Session

ZOOM: Final = 2 / 3  # the original pads the 112 px square of the template by a quarter on every side
SMALL_FACE: Final = 100  # pixels of the box's shorter side
ALIGNED: Final = "The whole photo was taken as one aligned face."
SMOOTHING: Final = np.outer([1, 2, 1], [1, 2, 1]) / 16


class FaceRestorer:
    """Restores faces with `generator` (`image` -> `result`, uint8 `(N, size, size, 3)` RGB).

    `parser` (`image` -> `mask`) says where a restored crop is face; without it, a soft rectangle stands in.
    """

    def __init__(self, generator: Session, size: int, parser: Session | None = None) -> None:
        self._generator = generator
        self.size = size
        self._parser = parser
        self._template = square_template(size, ZOOM)
        self._rectangle = rectangle_mask(size)

    def restore(
        self,
        photo: Pixels,
        base: Pixels,
        faces: Sequence[Face],
        alpha: float = 1.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Pixels, list[Face]]:
        """`base` with the faces of `photo`, which is of its size, restored, and the faces whose points tell a place.

        `alpha` is the share of the restored face; `progress(done, faces)` is called after each.
        """
        aligned = [(face, to_crop) for face in faces if (to_crop := self._align(face)) is not None]
        paster = FacePaster(base)
        waiting: deque[Pixels] = deque()  # crops that run: memory holds one batch of them

        def cut(to_crop: Matrix) -> Pixels:
            waiting.append(crop_from(photo, to_crop, self.size))
            return waiting[-1]

        rows = run_rows(self._generator, ({"image": cut(to_crop)} for _, to_crop in aligned))
        for done, (place, row) in enumerate(zip(aligned, rows, strict=True), 1):
            self._paste(paster, np.asarray(row["result"], np.uint8), waiting.popleft(), place, alpha)
            if progress is not None:
                progress(done, len(aligned))
        return paster.image, [face for face, _ in aligned]

    def restore_aligned(self, photo: Pixels, alpha: float = 1.0) -> Pixels:
        """A photo that is one aligned face, restored: uint8 `(size, size, 3)` RGB; `alpha` is the share of that."""
        face = resize(photo, (self.size, self.size))
        return _mix(np.asarray(self._generator.run({"image": face[None]})["result"][0], np.uint8), face, alpha)

    def _align(self, face: Face) -> Matrix | None:
        """The matrix from photo to crop, or None where the points of the face tell no place."""
        try:
            return similarity_in_crop_frame(face.five_points.astype(np.float32), self._template)
        except PhotoError:
            return None

    def _paste(
        self, paster: FacePaster, restored: Pixels, crop: Pixels, place: tuple[Face, Matrix], alpha: float
    ) -> None:
        face, to_crop = place
        mask = self._mask_of(restored)  # before smoothing and mixing
        if min(face.box[2] - face.box[0], face.box[3] - face.box[1]) < SMALL_FACE:
            restored = np.asarray(cv2.filter2D(restored, -1, SMOOTHING), np.uint8)
        paster.paste(_mix(restored, crop, alpha), mask, to_crop)

    def _mask_of(self, face: Pixels) -> Mask:
        """Where a restored crop is face; one crop at a time, because its logits are 20 MB."""
        if self._parser is None:
            return self._rectangle
        image = resize(face, (MASK_SIZE, MASK_SIZE))
        return face_mask(self._parser.run({"image": image[None]})["mask"][0], self.size)


def aligned_face(image: Pixels) -> Face:
    """The face that a picture of one aligned face shows: all of it, its points where GPEN's crops have them."""
    height, width = image.shape[:2]
    points = square_template(1, ZOOM) * (width, height)
    return Face(np.array([0, 0, width, height], np.float32), 1.0, None, points)


def resize(image: Pixels, size: tuple[int, int]) -> Pixels:
    """The image at `size` (width, height)."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _mix(restored: Pixels, original: Pixels, alpha: float) -> Pixels:
    if alpha == 1:
        return restored
    return np.asarray(cv2.addWeighted(restored, alpha, original, 1 - alpha, 0), np.uint8)
