"""A fused face into its template: pasted, enhanced, mixed, rounded once; all within the rectangle that it can reach.

    template's rectangle, as floats -> fused crop over it -> [enhanced] -> share of it -> levels

The share is 1 unless the face was wanted weaker, something lies over it, or the photo's border cuts it. Where it is 0,
or no mask shows anything, the template keeps its bits. Several faces go in one after another, each over those before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.errors import RequestError
from cameo.faces.enhancing import FaceEnhancer
from cameo.faces.face import Face
from cameo.faces.fusing import CROP_SIZE, FaceFuser, Fusion
from cameo.faces.occluders import bare_head
from cameo.faces.paste import Mask, blocks, border_fades, reach, warp_region
from cameo.pixels import Pixels
from cameo.session import Session

PARSER: Final = "parsenet"
NO_PARSER: Final = (
    f"The bundle has no network {PARSER}, expected one for the option `keep_occluders`: build it with its weights, or "
    "leave the option out."
)
BLOCK: Final = 256  # pixels a side of what is mixed at once: exact sampling holds several floats for each of its values
Picture = NDArray[np.float32]


@dataclass(frozen=True)
class Blend:
    """How a fused face goes into its template; by default as in the original.

    `strength`, 0 to 1, is its share; `match_color` gives it the template's mean and variance; `keep_occluders` keeps
    what ParseNet sees over the template's face; `mirror_borders` shows networks the photo mirrored where it ends, and
    lets a face that its border cuts fade out before it.
    """

    strength: float = 1
    enhance: bool = True
    match_color: bool = False
    keep_occluders: bool = False
    mirror_borders: bool = False

    @property
    def border(self) -> int:
        """How OpenCV goes on where a photo ends."""
        return cv2.BORDER_REFLECT if self.mirror_borders else cv2.BORDER_CONSTANT


class FaceBlender:
    """Puts what `fuser` made into templates; `enhancer` and `parser` (`image` -> `mask`) are None where not at hand."""

    def __init__(self, fuser: FaceFuser, enhancer: FaceEnhancer | None = None, parser: Session | None = None) -> None:
        self._fuser = fuser
        self._enhancer = enhancer
        self._parser = parser

    def check(self, blend: Blend) -> None:
        """Raises RequestError if that takes a network that is not there."""
        if blend.keep_occluders and self._parser is None:
            raise RequestError(NO_PARSER)

    def describe(self) -> str:
        """A few words about what happens to a fused face, or ""."""
        return f", enhanced by GPEN at {self._enhancer.size} px" if self._enhancer else ""

    def put(self, image: Pixels, template: Pixels, fusion: Fusion, blend: Blend) -> None:
        """Put one face into `image`, uint8 `(H, W, 3)`: a copy of the template with the faces before it.

        Ask `check` first whether it can be blended so.
        """
        shape = image.shape[0], image.shape[1]
        enhancer = self._enhancer if blend.enhance else None
        rows, columns = reach(fusion.to_crop, CROP_SIZE, shape)
        if enhancer is not None:
            rows, columns = _around((rows, columns), enhancer.reach(fusion.face, shape))
        if rows.start >= rows.stop or columns.start >= columns.stop:
            return
        picture = image[rows, columns].astype(np.float32)
        self.paste(picture, fusion, rows, columns, blend)
        if enhancer is not None:
            self.enhance(picture, fusion.face, rows, columns, blend)
        bare = None
        if blend.keep_occluders and self._parser is not None:
            bare = bare_head(self._parser, template, fusion.face, blend.border)
        fades = self._fades(fusion, shape, enhancer) if blend.mirror_borders else None
        for block, part in _parts(picture, rows, columns):
            share = np.full(part.shape[:2], blend.strength, np.float32)
            if bare is not None:
                share *= warp_region(*bare, *block)
            if fades is not None:
                share *= np.minimum(fades[0][block[0], None], fades[1][block[1]])
            mixed = image[block] * (1 - share[..., None]) + part * share[..., None]
            image[block] = np.rint(mixed).clip(0, 255)

    def paste(self, picture: Picture, fusion: Fusion, rows: slice, columns: slice, blend: Blend) -> None:
        """Put a fused crop into those rows and columns of the template, which `picture` holds, in levels."""
        matched = blend.match_color
        fused = self._fuser.with_colours_of_template(fusion) if matched else fusion.fused.astype(np.float32)
        for block, part in _parts(picture, rows, columns):
            self._fuser.paste(part, fusion, *block, fused)

    def enhance(self, picture: Picture, face: Face, rows: slice, columns: slice, blend: Blend) -> None:
        """Enhance a face of the template, of which `picture` holds those rows and columns, in levels."""
        if self._enhancer is None:
            return
        crop = self._enhancer.crop(picture, face, rows, columns, blend.border)
        enhanced = self._enhancer.enhance(crop, face)
        for block, part in _parts(picture, rows, columns):
            self._enhancer.paste(part, enhanced, face, *block)

    def _fades(self, fusion: Fusion, shape: tuple[int, int], enhancer: FaceEnhancer | None) -> tuple[Mask, Mask]:
        """What every row and column of the photo shows of a face that its border cuts (docs/decisions/107)."""
        rows, columns = border_fades(fusion.to_crop, CROP_SIZE, shape)
        if enhancer is not None:
            more = border_fades(enhancer.align(fusion.face), enhancer.size, shape)
            rows, columns = np.minimum(rows, more[0]), np.minimum(columns, more[1])
        return rows, columns


def _around(*places: tuple[slice, slice]) -> tuple[slice, slice]:
    """The rows and columns that hold all of these that hold anything."""
    held = [place for place in places if all(one.stop > one.start for one in place)] or [places[0]]
    rows, columns = (
        slice(min(place[axis].start for place in held), max(place[axis].stop for place in held)) for axis in (0, 1)
    )
    return rows, columns


def _parts(picture: Picture, rows: slice, columns: slice) -> Iterator[tuple[tuple[slice, slice], Picture]]:
    """Pieces of those rows and columns of the photo, and of `picture`, which holds them."""
    for block in blocks(rows, columns, BLOCK):
        top, left = block[0].start - rows.start, block[1].start - columns.start
        height, width = (one.stop - one.start for one in block)
        yield block, picture[top : top + height, left : left + width]
