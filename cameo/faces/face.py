"""What is known about one face of a photo."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from cameo.pixels import Pixels

Points = NDArray[np.floating[Any]]
Matrix = NDArray[np.float64]


class Finder(Protocol):
    """Finds the faces of photos, at most `most`; `title` says in words by what."""

    @property
    def title(self) -> str: ...

    @property
    def most(self) -> int: ...

    def __call__(self, image: Pixels) -> list[Face]:
        """The faces of a uint8 `(H, W, 3)` RGB photo."""
        ...


@dataclass(frozen=True, eq=False)
class Face:
    """One face, in pixels of the photo it was found in, x before y.

    `box` float32 `(4,)` is (xmin, ymin, xmax, ymax); `landmarks` float32 `(68, 2)` are in iBUG order, None where the
    finder has none; `five_points` float64 `(5, 2)` are left eye, right eye, nose tip, left and right corner of the
    mouth, as the viewer sees them.
    """

    box: Points
    score: float
    landmarks: Points | None
    five_points: Points

    @property
    def area(self) -> float:
        """Pixels in the box."""
        return float((self.box[2] - self.box[0]) * (self.box[3] - self.box[1]))

    def scaled(self, x: float, y: float) -> Self:
        """The same face in the photo stretched by `x` and `y`."""
        factors = np.array([x, y])
        return type(self)(
            (self.box * np.tile(factors, 2)).astype(np.float32),
            self.score,
            None if self.landmarks is None else (self.landmarks * factors).astype(np.float32),
            self.five_points * factors,
        )

    def shifted(self, x: float, y: float) -> Self:
        """The same face in a photo that lies `x` pixels further left and `y` further up."""
        by = np.array([x, y])
        return type(self)(
            (self.box + np.tile(by, 2)).astype(np.float32),
            self.score,
            None if self.landmarks is None else (self.landmarks + by).astype(np.float32),
            self.five_points + by,
        )
