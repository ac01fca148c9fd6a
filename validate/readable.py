"""The photos that a bundle is compared on: those that can be read, as large as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cameo.counting import count_of
from cameo.errors import PhotoError
from cameo.images import read_photo
from cameo.pixels import Pixels
from validate.pictures import shrink
from validate.results import SkippedPhoto


def readable(photos: Sequence[Path], max_side: int = 0) -> tuple[dict[str, Pixels], tuple[SkippedPhoto, ...]]:
    """The photos uint8 `(H, W, 3)` RGB by path, shrunk to `max_side` (0: as they are), and those that cannot be read.

    Raises:
        PhotoError: not one of them can be read.
    """
    found: dict[str, Pixels] = {}
    skipped: list[SkippedPhoto] = []
    for path in photos:
        try:
            photo = read_photo(path)
        except PhotoError as error:
            skipped.append(SkippedPhoto(path.name, str(error)))
            continue
        found[str(path)] = shrink(photo, max_side) if max_side else photo
    if not found:
        raise PhotoError(
            f"none of {count_of(len(photos), 'photo')} can be read: {'; '.join(one.why for one in skipped[:3])}"
        )
    return found, tuple(skipped)
