"""Photos without labels, and batches of crops of them.

A batch is a function of (seed, step), so that a run that was killed goes on with the very batches that it would have
seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.errors import PhotoError
from cameo.images import read_photo
from cameo.pixels import Pixels

LEAST_PHOTOS = 2  # one to learn from, one held out
HELD_OUT_SHARE = 5  # one photo in so many
FLAT = 2.0  # standard deviation in levels below which a photo shows nothing
LONGEST_SIDE = 2048  # larger photos are shrunk: crops would see only smooth parts of them


@dataclass(frozen=True)
class PhotoSet:
    """uint8 `(H, W, 3)` RGB photos to learn from and held out, and why others were left out, by file name."""

    training: tuple[Pixels, ...]
    held_out: tuple[Pixels, ...]
    skipped: dict[str, str]


def read_photos(files: Sequence[Path], side: int) -> PhotoSet:
    """All photos that training on crops of `side` pixels can use; every fifth is held out.

    Raises:
        PhotoError: too few are left.
    """
    photos: list[Pixels] = []
    skipped = {}
    for path in files:
        try:
            photos.append(_usable(read_photo(path), side, path.name))
        except PhotoError as error:
            skipped[path.name] = str(error)
    if len(photos) < LEAST_PHOTOS:
        reasons = "; ".join(list(skipped.values())[:3])
        raise PhotoError(
            f"{len(photos)} photos to learn from, expected at least {LEAST_PHOTOS} (better: dozens), with "
            f"{len(skipped)} of {len(files)} left out{f' ({reasons})' if reasons else ''}: add photos"
        )
    chosen = set(range(HELD_OUT_SHARE - 1, len(photos), HELD_OUT_SHARE)) or {len(photos) - 1}
    return PhotoSet(
        tuple(photo for index, photo in enumerate(photos) if index not in chosen),
        tuple(photo for index, photo in enumerate(photos) if index in chosen),
        skipped,
    )


def _usable(photo: Pixels, side: int, name: str) -> Pixels:
    height, width = photo.shape[:2]
    if 2 * min(height, width) < side:
        raise PhotoError(f"{name} is {width}x{height}, expected at least {side // 2} pixels on its shorter side")
    if photo.std() < FLAT:
        raise PhotoError(f"{name} is one flat colour, expected a photo that shows something")
    scale = LONGEST_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        photo = np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)
    return photo


@dataclass(frozen=True)
class Crops:
    """Batches of random views of photos. `whole`: nearly the whole photo each time, for networks of one size."""

    photos: Sequence[Pixels]
    side: int
    batch_size: int = 8
    whole: bool = False
    seed: int = 0

    def batch(self, step: int) -> Pixels:
        """The batch of a step, uint8 `(N, side, side, 3)` RGB, always the same for the same step."""
        random = np.random.default_rng((self.seed, step))
        picked = random.integers(len(self.photos), size=self.batch_size)
        return np.stack([recoloured(self._view(self.photos[index], random), random) for index in picked])

    def _view(self, photo: Pixels, random: np.random.Generator) -> Pixels:
        """A random square of the photo, mirrored or not; from half to twice its size, or nearly all of it."""
        short = min(photo.shape[:2])
        extent = (
            short * random.uniform(0.8, 1) if self.whole else min(short, self.side * np.exp2(random.uniform(-1, 1)))
        )
        extent = max(2, int(extent))
        top, left = (int(random.integers(length - extent + 1)) for length in photo.shape[:2])
        return _resized(photo[top : top + extent, left : left + extent], self.side)[:, :: random.choice((-1, 1))]


def held_out_views(photos: Sequence[Pixels], side: int, multiple: int, whole: bool) -> list[Pixels]:
    """The photos as a network takes them, uint8 `(H, W, 3)`: their middle as a square, or all of a sane size."""
    if whole:
        return [_resized(_middle(photo), side) for photo in photos]
    limited = [photo[: 4 * side, : 6 * side] for photo in photos]
    return [photo[: len(photo) // multiple * multiple, : photo.shape[1] // multiple * multiple] for photo in limited]


def recoloured(image: Pixels, random: np.random.Generator) -> Pixels:
    """The image under another light, uint8: mostly white balance, contrast and brightness; at times another hue.

    Few photos show few colours, and a network must keep its colours on photos that it has not seen.
    """
    values: NDArray[Any] = image.astype(np.float32)
    if random.random() < 0.35:
        values = values[..., random.permutation(3)]
    values = values * random.uniform(0.7, 1.3, 3).astype(np.float32)
    values = (values - 128) * np.float32(random.uniform(0.6, 1.3)) + 128 + np.float32(random.uniform(-32, 32))
    if random.random() < 0.2:
        values = values + random.normal(0, random.uniform(1, 6), image.shape)
    return np.asarray(np.rint(values.clip(0, 255)), np.uint8)


def _middle(photo: Pixels) -> Pixels:
    height, width = photo.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return photo[top : top + side, left : left + side]


def _resized(image: Pixels, side: int) -> Pixels:
    method = cv2.INTER_AREA if len(image) > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), np.uint8)
