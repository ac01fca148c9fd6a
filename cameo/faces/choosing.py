"""Which of several faces is meant: the largest, one by its number, or the one most like a face elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cameo.errors import RequestError
from cameo.faces.face import Face, Points


def largest_first(faces: Sequence[Face]) -> list[Face]:
    """The faces by whole pixels of width times height, as face fusion's original compares them."""
    return sorted(faces, key=lambda face: -int(face.box[2] - face.box[0]) * int(face.box[3] - face.box[1]))


def numbered(faces: Sequence[Face], number: int, photo: str) -> Face:
    """Face `number` of those of a photo, which `photo` names; 1 is the first.

    Raises:
        RequestError: there are not so many.
    """
    if number > len(faces):
        has = "1 face: choose 1" if len(faces) == 1 else f"{len(faces)} faces: choose 1, the largest, to {len(faces)}"
        raise RequestError(f"Face {number} of the photo '{photo}' was asked for, which has {has}.")
    return faces[number - 1]


def most_similar(identities: Sequence[Points]) -> tuple[int, float]:
    """Which of the identities after the first is closest to that, from 0, and their cosine; all are of length 1."""
    wanted, *others = identities
    cosines = np.stack(others) @ wanted
    return int(cosines.argmax()), float(cosines.max())
