"""Face fusion: what a face is taken from, the fused crops, and how these go into the template.

    face's crop -> recogniser -> identity
                -> 3-D coefficients: the first 80 are the shape of the head
    template's crop, with that shape -> its own key points, and those of both shapes' mean
    template's crop, identity, both sets of key points -> generator -> fused crop
    fused crop -> where the alpha mask shows it -> template

The numbers are those of the original (`ImageFaceFusion.inference`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.batches import run_rows
from cameo.faces.alignment import similarity_in_image_frame, square_template
from cameo.faces.alpha import ellipse
from cameo.faces.face import Face, Matrix
from cameo.faces.paste import crop_from
from cameo.faces.sampling import sample_region
from cameo.pixels import Pixels
from cameo.session import Session, Tensor

CROP_SIZE: Final = 256
# The original shows more around the face than the usual template.
FUSION_TEMPLATE: Final = square_template(CROP_SIZE, zoom=0.85)
SHAPE: Final = slice(0, 80)  # of the 257 coefficients of the 3-D model

Numbers = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Source:
    """What is taken from a face: its `crop`, uint8 `(256, 256, 3)` RGB, `identity` `(512,)`, of length 1, and 3-D
    `coefficients` `(257,)`.
    """

    face: Face
    crop: Pixels
    identity: Numbers
    coefficients: Numbers


@dataclass(frozen=True, eq=False)
class Fusion:
    """One face of the template with every step to its fused crop.

    `crop` and `fused` are uint8 `(256, 256, 3)` RGB; `to_crop` brings pixels of the template onto them. `coefficients`
    `(257,)` are the template's own; `keypoints_fused` and `keypoints_target` float32 `(17, 2)`, x and y in -1..1.
    """

    face: Face
    to_crop: Matrix
    crop: Pixels
    coefficients: Numbers
    keypoints_fused: Numbers
    keypoints_target: Numbers
    fused: Pixels


class FaceFuser:
    """Fuses faces by three networks.

    `generator` (`image`, `identity`, `keypoints_fused`, `keypoints_target` -> `result`), `recogniser` (`image` ->
    `embedding`) and `shapes` (`image`, `shape` -> `coefficients`, `keypoints`, `keypoints_fused`). `alpha`, uint8
    `(h, w)` or `(h, w, 3)` RGB, says how much of the fused crop shows where; without it, an ellipse.
    """

    def __init__(self, generator: Session, recogniser: Session, shapes: Session, alpha: Pixels | None = None) -> None:
        self._generator = generator
        self._recogniser = recogniser
        self._shapes = shapes
        self.mask = np.repeat(ellipse(CROP_SIZE)[..., None], 3, axis=2) if alpha is None else _mask_from(alpha)

    def cut(self, photo: Pixels, face: Face, border: int) -> tuple[Matrix, Pixels]:
        """The matrix from photo to crop, and the crop; `border` is how OpenCV goes on where the photo ends.

        Raises:
            PhotoError: the face's five points coincide.
        """
        to_crop = similarity_in_image_frame(face.five_points, FUSION_TEMPLATE)
        return to_crop, crop_from(photo, to_crop, CROP_SIZE, border)

    def identities(self, crops: Sequence[Pixels]) -> list[Numbers]:
        """The embedding of every crop, float32 `(512,)` of length 1."""
        rows = run_rows(self._recogniser, ({"image": crop} for crop in crops))
        return [np.asarray(row["embedding"], np.float32) for row in rows]

    def source(self, face: Face, crop: Pixels) -> Source:
        """What is taken from a face with this crop."""
        (identity,) = self.identities([crop])
        (row,) = run_rows(self._shapes, [{"image": crop, "shape": np.zeros(80, np.float32)}])
        return Source(face, crop, identity, np.asarray(row["coefficients"], np.float32))

    def fuse(self, places: Sequence[tuple[Face, Matrix, Pixels]], source: Source) -> Iterator[Fusion]:
        """The faces of a template, each with its matrix and crop, fused with `source`, in their order."""
        shape = source.coefficients[SHAPE]
        shaped = list(run_rows(self._shapes, ({"image": crop, "shape": shape} for _, _, crop in places)))
        points = [{name: np.asarray(row[name], np.float32) for name in row} for row in shaped]
        rows: Iterator[Mapping[str, Tensor]] = (
            {
                "image": crop,
                "identity": source.identity,
                "keypoints_fused": row["keypoints_fused"],
                "keypoints_target": row["keypoints"],
            }
            for (_, _, crop), row in zip(places, points, strict=True)
        )
        for (face, to_crop, crop), row, made in zip(places, points, run_rows(self._generator, rows), strict=True):
            fused = np.asarray(made["result"], np.uint8)
            keypoints = row["keypoints_fused"], row["keypoints"]
            yield Fusion(face, to_crop, crop, row["coefficients"], *keypoints, fused)

    def paste(self, picture: NDArray[np.float32], fusion: Fusion, rows: slice, columns: slice, fused: Numbers) -> None:
        """Put a crop, `(256, 256, 3)` in levels, into those rows and columns of the template, which `picture` holds."""
        both = sample_region(np.concatenate([fused, self.mask], axis=2), fusion.to_crop, rows, columns)
        painted, mask = both[..., :3], both[..., 3:]
        picture *= 1 - mask
        picture += mask * painted

    def with_colours_of_template(self, fusion: Fusion) -> Numbers:
        """The fused crop, float32 `(256, 256, 3)` in levels, with the template's mean and variance inside the mask."""
        weights = self.mask / self.mask.sum(axis=(0, 1))
        (mean, spread), (wanted_mean, wanted_spread) = (
            _mean_and_spread(crop.astype(np.float32), weights) for crop in (fusion.fused, fusion.crop)
        )
        gain = np.divide(wanted_spread, spread, out=np.ones(3, np.float32), where=spread > 0)
        return np.asarray(((fusion.fused - mean) * gain + wanted_mean).clip(0, 255), np.float32)


def _mean_and_spread(crop: Numbers, weights: Numbers) -> tuple[Numbers, Numbers]:
    mean = (crop * weights).sum(axis=(0, 1))
    return mean, np.sqrt(((crop - mean) ** 2 * weights).sum(axis=(0, 1)))


def _mask_from(alpha: NDArray[Any]) -> Numbers:
    """The mask of an alpha image, float32 `(256, 256, 3)` in 0..1.

    The original reads it in OpenCV's channel order, and lays it over a picture in the other: so does this.
    """
    three = np.repeat(alpha[..., None], 3, axis=2) if alpha.ndim == 2 else alpha[..., ::-1]
    resized = cv2.resize(np.ascontiguousarray(three), (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32) / np.float32(255)
