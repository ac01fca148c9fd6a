"""At what size networks see a photo: as the flow usually shows it to them, or by a rule that an article published.

    rule          the photo's                 networks see
    original      any                         what the flow usually shows them
    long-1024     long side above 1024        long side 1024 (Lanczos)
                  up to 1024                  the photo as it is
    short-1024    short side below 512        the photo mirrored around its border, to 512 in each side that is shorter
                  512 to 1024                 short side 768 (Lanczos)
                  above 1024                  short side 1024 (mean of areas), with a warning

`long-1024` is of the article about DCT-Net, `short-1024` of the one about face fusion. Figures as published: DCT-Net
took 11200 MiB at 2048 x 2048 and 5800 at 1024 x 1024 (RTX 4090); face fusion's 3.42 GB became 1.05, by several
measures (RTX 3060).

Whatever networks see, a result has the photo's own size. A flow that changes parts of a photo puts them into the photo
itself, so that the rest keeps its bits (docs/decisions/149); one that draws all of it anew goes `back`
(docs/decisions/205).

Lanczos of `long-1024` is Pillow's, which takes the mean of what a small pixel covers (docs/decisions/206); that of
`short-1024` is OpenCV's, as in the article.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from PIL import Image

from cameo.declaring import option
from cameo.faces.face import Face, Matrix
from cameo.pixels import Pixels

Size = tuple[int, int]
"""Width and height."""
Resize = Callable[[Pixels, Size], Pixels]

LONGEST: Final = 1024  # pixels of the long side
SMALLEST: Final = 512  # pixels of the short side
USUAL: Final = 768
LARGEST: Final = 1024


@dataclass(frozen=True, eq=False)
class Fitted:
    """A photo as networks see it: pixel p of `image`, uint8 `(h, w, 3)`, shows the photo at p * `scale` + `shift`.

    `scale` and `shift` are (x, y) in pixels of the photo, whose (width, height) are `size`; `note` is a warning, or "".
    """

    image: Pixels
    scale: tuple[float, float]
    shift: tuple[float, float]
    size: Size
    note: str = ""

    @property
    def from_photo(self) -> Matrix:
        """The matrix from the photo to `image`, float64 `(2, 3)`."""
        (x, y), (right, down) = self.scale, self.shift
        return np.array([(1 / x, 0, -right / x), (0, 1 / y, -down / y)])

    def in_photo(self, face: Face) -> Face:
        """A face of `image`, in pixels of the photo."""
        return face.scaled(*self.scale).shifted(*self.shift)

    def shows(self, face: Face) -> bool:
        """Whether the middle of a face of `image` lies in the photo, not in what was mirrored around it."""
        if min(self.shift) >= 0:
            return True
        box = self.in_photo(face).box
        middle = (box[:2] + box[2:]) / 2
        return bool((middle >= -0.5).all() and (middle < np.array(self.size) - 0.5).all())

    def back(self, made: Pixels, enlarge: Callable[[Pixels], Pixels] | None = None) -> Pixels:
        """What was made of `image`, uint8 `(h, w, 3)` of any size, at the photo's own: uint8 `(H, W, 3)`.

        Where it is smaller, `enlarge` is asked first, once; Lanczos does the rest.
        """
        shown = self.image.shape[1::-1]
        width, height = (round(side * factor) for side, factor in zip(shown, self.scale, strict=True))
        if enlarge is not None and made.shape[1] < width:
            made = enlarge(made)
        left, top = (int(max(-start, 0)) for start in self.shift)  # what was mirrored; a resized photo starts within 1
        return lanczos(made, (width, height))[top : top + self.size[1], left : left + self.size[0]]


def size_rule_option() -> Any:
    """The field of a `Request` that chooses a rule."""
    return option(ORIGINAL, "at what size networks see photos, by an article's rule", choices=SIZE_RULES)


def fit(photo: Pixels, rule: str) -> Fitted:
    """A uint8 `(H, W, 3)` photo by one of the `SIZE_RULES`."""
    return _RULES[rule](photo)


def lanczos(image: Pixels, size: Size) -> Pixels:
    """The image at `size`; of a smaller one, every pixel is the weighted mean of all that it covers."""
    if (image.shape[1], image.shape[0]) == size:
        return image
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def seen_at(size: Size) -> str:
    """The sentence that says at what size networks saw the photo."""
    return f"Networks saw the photo at {size[0]}x{size[1]} pixels."


def _original(photo: Pixels) -> Fitted:
    return Fitted(photo, (1, 1), (0, 0), (photo.shape[1], photo.shape[0]))


def _by_long_side(photo: Pixels) -> Fitted:
    long = max(photo.shape)
    return _original(photo) if long <= LONGEST else _resized(photo, (LONGEST, long), lanczos, warns=True)


def _by_short_side(photo: Pixels) -> Fitted:
    short = min(photo.shape[:2])
    if short < SMALLEST:
        return _mirrored(photo)
    if short <= LARGEST:
        return _resized(photo, (USUAL, short), _lanczos4)
    return _resized(photo, (LARGEST, short), _area, warns=True)


def _mirrored(photo: Pixels) -> Fitted:
    height, width = photo.shape[:2]
    down, right = max(SMALLEST - height, 0), max(SMALLEST - width, 0)
    top, left = down // 2, right // 2
    border = (top, down - top, left, right - left)
    image = cv2.copyMakeBorder(photo, *border, cv2.BORDER_REFLECT_101)
    return Fitted(np.asarray(image, np.uint8), (1, 1), (-left, -top), (width, height))


def _resized(photo: Pixels, ratio: tuple[int, int], resize: Resize, warns: bool = False) -> Fitted:
    height, width = photo.shape[:2]
    size = max(round(width * ratio[0] / ratio[1]), 1), max(round(height * ratio[0] / ratio[1]), 1)
    image = photo if size == (width, height) else resize(photo, size)
    x, y = width / size[0], height / size[1]
    shift = ((x - 1) / 2, (y - 1) / 2)  # centres of pixels meet
    return Fitted(image, (x, y), shift, (width, height), seen_at(size) if warns else "")


def _lanczos4(photo: Pixels, size: Size) -> Pixels:
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_LANCZOS4), np.uint8)


def _area(photo: Pixels, size: Size) -> Pixels:
    return np.asarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA), np.uint8)


_RULES: Final[dict[str, Callable[[Pixels], Fitted]]] = {
    "original": _original,
    "long-1024": _by_long_side,
    "short-1024": _by_short_side,
}
ORIGINAL, BY_LONG_SIDE, BY_SHORT_SIDE = SIZE_RULES = tuple(_RULES)
