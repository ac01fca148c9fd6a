"""The face that no demo network has seen, and how well it is restored from every example of damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cameo.faces.alignment import crop, similarity_in_crop_frame, square_template
from cameo.faces.cascade import CascadeFinder
from cameo.flows.gpen import ZOOM
from cameo.images import read_photo
from demo.poor_photo import CLEAN, EXAMPLES, impoverish
from validate.metrics import psnr, ssim

Image = NDArray[np.uint8]
PHOTO = Path(__file__).parent / "photo.jpg"


@dataclass(frozen=True)
class Score:
    """How near two pictures are to the good one: the poor one, and what is restored of it."""

    psnr_poor: float
    psnr_restored: float
    ssim_poor: float
    ssim_restored: float


def held_out_face(size: int) -> Image:
    """The face of the demo photo as the flow cuts it out, uint8 `(size, size, 3)` RGB."""
    photo = read_photo(PHOTO)
    points = CascadeFinder()(photo)[0].five_points.astype(np.float32)
    return crop(photo, similarity_in_crop_frame(points, square_template(size, ZOOM)), size)


def scores(restore: Callable[[Image], Image], size: int) -> dict[str, Score]:
    """What `restore` does to the held-out face, uint8 `(size, size, 3)` RGB, clean and damaged in every way."""
    good = held_out_face(size)
    found = {}
    for name, poverty in {"clean": CLEAN, **EXAMPLES}.items():
        poor = impoverish(good, poverty, np.random.default_rng(0))
        restored = restore(poor)
        found[name] = Score(*(metric.measure(good, image) for metric in (psnr, ssim) for image in (poor, restored)))
    return found
