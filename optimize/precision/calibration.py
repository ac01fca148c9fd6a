"""Calibration data: photos, fitted to what a network takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cameo.artifact import sha256_of
from cameo.errors import EngineError, PhotoError
from cameo.images import read_photo
from metrics.sizes import Size, fit
from optimize.precision.reference import Feeds

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

LEAST_READABLE = 0.5
"""Share of the photos that must be readable: with fewer, the folder is not what it was taken for."""


@dataclass(frozen=True)
class Calibration:
    """Photos with the hashes of their files, and the size (height, width) to run networks at that take any."""

    photos: tuple[Path, ...] = ()
    hashes: tuple[str, ...] = ()
    size: Size = (512, 512)

    @classmethod
    def of(cls, photos: Sequence[Path], size: Size = (512, 512)) -> Calibration:
        """The calibration on these files, as they are now."""
        return cls(tuple(path.resolve() for path in photos), tuple(map(sha256_of, photos)), size)

    def readable(self) -> tuple[list[Path], list[str]]:
        """The photos that can be read, and the names of those that cannot.

        Raises:
            PhotoError: there are none, or too few of them can be read.
        """
        if not self.photos:
            raise PhotoError("calibration needs photos and got none: name a folder of them with --calibration")
        good, skipped = [], []
        for path in self.photos:
            try:
                read_photo(path)
                good.append(path)
            except PhotoError as error:
                log.warning("left out of the calibration: %s", error)
                skipped.append(path.name)
        if len(good) < LEAST_READABLE * len(self.photos):
            some = ", ".join(skipped[:3]) + (", ..." if len(skipped) > 3 else "")
            raise PhotoError(
                f"{len(skipped)} of {len(self.photos)} calibration photos cannot be read ({some}), expected at least "
                "half of them to be photos: repair them, or name another folder with --calibration"
            )
        return good, skipped


def feed(model: onnx.ModelProto, photo: Path, size: Size, contrast: float = 1) -> Feeds:
    """The photo as the input `image` of `model`, uint8 `(1, H, W, 3)` RGB, its contrast around mid grey multiplied.

    Raises:
        EngineError: the model takes something else than one photo.
    """
    import onnx

    inputs = model.graph.input
    image = inputs[0].type.tensor_type
    if len(inputs) != 1 or image.elem_type != onnx.TensorProto.UINT8 or len(image.shape.dim) != 4:
        raise EngineError(
            "a graph is calibrated on photos: expected one input 'image', uint8 (N, H, W, 3), "
            f"got {', '.join(value.name for value in inputs)}; export it with this project's exporters"
        )
    height, width = (dim.dim_value or side for dim, side in zip(image.shape.dim[1:3], size, strict=True))
    pixels = fit(read_photo(photo), (height, width))
    return {inputs[0].name: (pixels if contrast == 1 else _stretched(pixels, contrast))[None]}


def _stretched(pixels: NDArray[np.uint8], contrast: float) -> NDArray[np.uint8]:
    return ((pixels - 127.5) * contrast + 127.5).clip(0, 255).astype(np.uint8)
