"""How large a photo may be: what is beyond is refused from the header, before it is decoded (docs/decisions/103)."""

from __future__ import annotations

from typing import Final

from cameo.errors import PhotoError, PhotoTooLarge

# A 100-megapixel medium-format sensor gives 11648 x 8736: 102 million.
MAX_PIXELS: Final = 120_000_000
MAX_SIDE: Final = 65_535  # of a JPEG; panoramas of phones are some 16000 wide
MAX_ASPECT: Final = 1_000  # a phone's full turn is some 7:1, what is beyond is no picture


def check_size(height: int, width: int, what: str, max_pixels: int, max_side: int = MAX_SIDE) -> None:
    """Refuse a photo without pixels, and one beyond a limit.

    Raises:
        PhotoError: it has no pixels.
        PhotoTooLarge: it has more than `max_pixels`, a side beyond `max_side`, or an aspect beyond `MAX_ASPECT`.
    """
    if height <= 0 or width <= 0:
        raise PhotoError(f"{what} has no pixels ({width}x{height}), expected at least 1x1: give another photo.")
    if height * width > max_pixels:
        raise PhotoTooLarge(
            f"{what} is {width}x{height}, {height * width:,} pixels, expected at most {max_pixels:,}: shrink it."
        )
    if max(height, width) > max_side:
        raise PhotoTooLarge(f"{what} is {width}x{height}, expected sides of at most {max_side}: shrink it.")
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise PhotoTooLarge(
            f"{what} is {width}x{height}, expected a long side of at most {MAX_ASPECT} short ones: crop it."
        )
