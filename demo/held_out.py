"""The face that no demo network has seen, and how well it is restored from every example of damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cameo.faces.alignment import crop, similarity_in_crop_frame, square_template
from cameo.faces.finders.cascade import CascadeFinder
from cameo.faces.restoring import ZOOM
from cameo.images import read_photo
from cameo.pixels import Pixels
from demo.poor_photo import CLEAN, EXAMPLES, impoverish
from metrics import psnr, ssim

PHOTO = Path(__file__).parent / "photo.jpg"


@dataclass(frozen=True)
class Score:
    """How near two pictures are to the good one: the poor one, and what is restored of it."""

    psnr_poor: float
    psnr_restored: float
    ssim_poor: float
    ssim_restored: float


def scores(restore: Callable[[Pixels], Pixels], size: int) -> dict[str, Score]:
    """What `restore` does to the held-out face, uint8 `(size, size, 3)` RGB, of a photo clean and damaged in every way.

    The face is cut out as the flow does, always where the good photo has it.
    """
    photo = read_photo(PHOTO)
    points = CascadeFinder()(photo)[0].five_points.astype(np.float32)
    matrix = similarity_in_crop_frame(points, square_template(size, ZOOM))
    good = crop(photo, matrix, size)
    found = {}
    for name, poverty in {"clean": CLEAN, **EXAMPLES}.items():
        poor = crop(impoverish(photo, poverty, np.random.default_rng(0)), matrix, size)
        restored = restore(poor)
        found[name] = Score(*(metric.measure(good, image) for metric in (psnr, ssim) for image in (poor, restored)))
    return found
