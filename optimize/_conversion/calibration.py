"""Calibration data: photos, fitted to what a network takes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cameo.artifact import sha256_of
from cameo.errors import PhotoError
from cameo.images import read_photo
from cameo.session import Tensor
from cameo.tensors import TensorSpec
from metrics.examples import Examples, Feeds
from metrics.sizes import Size

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)
log.addHandler(logging.NullHandler())  # where nobody listens, what is left out is said by who asked

LEAST_READABLE = 0.5
"""Share of the photos that must be readable: with fewer, the folder is not what it was taken for."""


@dataclass(frozen=True)
class Calibration:
    """Photos with their files' hashes, how they are fed, and the size (height, width) for networks that take any."""

    photos: tuple[Path, ...] = ()
    hashes: tuple[str, ...] = ()
    size: Size = (512, 512)
    examples: Examples = field(default_factory=Examples)

    @classmethod
    def of(cls, photos: Sequence[Path], size: Size = (512, 512), examples: Examples | None = None) -> Calibration:
        """The calibration on these files, as they are now."""
        hashes = tuple(map(sha256_of, photos))
        return cls(tuple(path.resolve() for path in photos), hashes, size, examples or Examples())

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


def feed(
    model: onnx.ModelProto, photo: Path, size: Size, contrast: float = 1, examples: Examples | None = None
) -> Feeds:
    """The photo as `model` takes it, by name; the contrast of its pictures around mid grey multiplied.

    Raises:
        EngineError: the model takes something else than one photo, and `examples` does not say what.
    """
    specs = [tensor_spec(value) for value in model.graph.input]
    (feeds,) = (examples or Examples()).feeds(specs, [read_photo(photo)], size)
    return {name: _stretched(feed, contrast) if contrast != 1 else feed for name, feed in feeds.items()}


def tensor_spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """One input or output of an ONNX graph."""
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(dim.dim_param or dim.dim_value or "?" for dim in tensor.shape.dim)
    return TensorSpec(value.name, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name, shape)


def _stretched(feed: Tensor, contrast: float) -> Tensor:
    if feed.dtype != np.uint8 or feed.ndim != 4:
        return feed
    return ((feed.astype(np.float64) - 127.5) * contrast + 127.5).clip(0, 255).astype(np.uint8)
