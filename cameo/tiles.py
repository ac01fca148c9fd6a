"""Photos of any size through an enlarging network, in tiles that leave no seams.

Neighbouring tiles overlap by `OVERLAP` pixels of the photo. Around the middle of what they share, one fades into the
other over `FEATHER` pixels; the rest of it, `CONTEXT` pixels on either side, is only there for the network to see:

    one tile      ──────────────┬── context ──┐
    its weight    1 1 1 1 1 1 1 1 1 1 \\ 0 0 0 0
    the next                    └── context ──┬──────────────
                                 0 0 0 0 / 1 1 1 1 1 1 1 1 1

So a tiled and an untiled run can differ only as far as the network sees beyond its context, in a band of `OVERLAP`
pixels around the middle of each overlap. Rows of tiles are joined first, then rows with each other: that is exactly
bilinear fading at the corners, and needs no more than one row of tiles beside the result.

The original (`RealESRNet.tile_process`) puts tiles with 10 px of context side by side. Knowingly different, besides:

    * a photo is padded to what the network needs and the result cropped by that *times the scale*: the original forgets
      the factor, and its result of an odd side is one pixel too large;
    * tiles start and end on multiples of 4 / scale, so that x1 works in tiles too; there the original gives up;
    * all tiles of a photo have one size, so that an engine that compiles per shape does so once: the last of an axis
      lies flush with the photo's end and overlaps more, the original's are cut off there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.errors import CameoError
from cameo.pixels import Pixels
from cameo.session import Session

FOLD: Final = 4  # the network works at a quarter of its result's size: sides are multiples of 4 / scale
OVERLAP: Final = 64  # pixels of the photo that neighbouring tiles share at least
FEATHER: Final = 16  # pixels of the photo over which they fade
CONTEXT: Final = (OVERLAP - FEATHER) // 2
MIN_TILE: Final = 2 * OVERLAP


class Enlarger:
    """Enlarges photos `scale` times with `network` (`image` -> `result`), in tiles of at most `tile` pixels a side.

    Tiles are smaller where the network's memory has no room for such: what a photo is made of may then differ in the
    bands where tiles meet.

    Raises:
        CameoError: `tile` is neither None (the photo whole) nor a multiple of 4 of at least 128.
    """

    def __init__(self, network: Session, scale: int, tile: int | None) -> None:
        if tile is not None and (tile < MIN_TILE or tile % FOLD):
            raise CameoError(f"Tiles are {tile} px, expected a multiple of {FOLD} of at least {MIN_TILE}, or None.")
        self._network = network
        self.scale = scale
        self._tile = tile

    def __call__(self, photo: Pixels, progress: Callable[[int, int], None] | None = None) -> Pixels:
        """The photo `scale` times as large, uint8 `(scale * H, scale * W, 3)` RGB; `progress(done, tiles)`."""
        height, width = photo.shape[:2]
        padded = pad_to_multiple(photo, max(1, FOLD // self.scale))
        result = self._enlarge(padded, progress or (lambda done, tiles: None))
        return np.ascontiguousarray(result[: height * self.scale, : width * self.scale])

    def _enlarge(self, photo: Pixels, progress: Callable[[int, int], None]) -> Pixels:
        height, width = photo.shape[:2]
        tile = fitting_tile(self._tile, self._network.most_pixels)
        rows, columns = spans(height, tile), spans(width, tile)
        if len(rows) == len(columns) == 1:
            return self._run(photo)
        canvas = np.empty((height * self.scale, width * self.scale, 3), np.uint8)
        reached, tiles = 0, count(1)
        for row in rows:
            strip = self._strip(photo[row], columns, lambda: progress(next(tiles), len(rows) * len(columns)))
            lay(canvas, strip, row.start * self.scale, reached, FEATHER * self.scale)
            reached = row.stop * self.scale
        return canvas

    def _strip(self, photo: Pixels, columns: list[slice], done: Callable[[], None]) -> Pixels:
        """One row of tiles, joined; `done` is told of each."""
        height, width = photo.shape[:2]
        strip = np.empty((height * self.scale, width * self.scale, 3), np.uint8)
        across = strip.swapaxes(0, 1)
        reached = 0
        for column in columns:
            piece = self._run(photo[:, column]).swapaxes(0, 1)
            done()
            lay(across, piece, column.start * self.scale, reached, FEATHER * self.scale)
            reached = column.stop * self.scale
        return strip

    def _run(self, photo: Pixels) -> Pixels:
        return np.asarray(self._network.run({"image": np.ascontiguousarray(photo[None])})["result"][0], np.uint8)


def fitting_tile(tile: int | None, most_pixels: int | None) -> int | None:
    """The tile that was asked for, or the largest whose square has at most `most_pixels`; at least `MIN_TILE`."""
    if tile is None or most_pixels is None or tile * tile <= most_pixels:
        return tile
    return max(math.isqrt(most_pixels) // FOLD * FOLD, MIN_TILE)


def spans(length: int, tile: int | None) -> list[slice]:
    """The tiles of one axis, all of one length of at most `tile`; neighbours share at least `OVERLAP` pixels.

    Where `length` is a multiple of what the network folds (1, 2 or 4, as `tile` is), so is every start.
    """
    if tile is None or length <= tile:
        return [slice(0, length)]
    last = length - tile
    return [slice(start, start + tile) for start in (*range(0, last, tile - OVERLAP), last)]


def lay(canvas: NDArray[Any], piece: NDArray[Any], start: int, reached: int, feather: int) -> None:
    """Put `piece` into uint8 `canvas` at `start` of the first axis, fading from what is there up to `reached`."""
    if reached <= start:
        canvas[start : start + len(piece)] = piece
        return
    before = (reached - start - feather) // 2  # what the piece has there only for context
    fade = slice(start + before, start + before + feather)
    weight = ((np.arange(feather, dtype=np.float32) + np.float32(0.5)) / feather)[:, None, None]
    mixed = piece[before : before + feather] * weight + canvas[fade] * (1 - weight)
    canvas[fade] = np.rint(mixed).astype(np.uint8)
    canvas[fade.stop : start + len(piece)] = piece[before + feather :]


def pad_to_multiple(photo: Pixels, multiple: int) -> Pixels:
    """The photo mirrored right of and below it, up to sides that are multiples."""
    bottom, right = -photo.shape[0] % multiple, -photo.shape[1] % multiple
    if bottom == right == 0:
        return photo
    return np.asarray(cv2.copyMakeBorder(photo, 0, bottom, 0, right, cv2.BORDER_REFLECT_101), np.uint8)
