"""How a photo gets poor: out of focus or moved, shrunk, noisy, and stored with too few bits.

The demo weights of GPEN learn to undo it, and `make demo` does it to a photo before GPEN restores it.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Poverty:
    """What happens to a photo, in this order; the defaults do nothing."""

    blur: float = 0  # standard deviation of a Gaussian, pixels
    motion: int = 0  # length of a straight movement, pixels
    direction: float = 0  # of that movement, degrees
    shrink: float = 1  # to 1/shrink of its side, and back at the end
    noise: float = 0  # standard deviation, levels, on the shrunk photo
    quality: int | None = None  # of JPEG, 0 to 100, on the shrunk photo


CLEAN = Poverty()
DEMO = Poverty(blur=1.2, noise=10)
EXAMPLES = {
    "blur, sigma 2": Poverty(blur=2),
    "moved by 9 pixels": Poverty(motion=9, direction=30),
    "shrunk to 1/3": Poverty(shrink=3),
    "noise, sigma 12": Poverty(noise=12),
    "JPEG, quality 30": Poverty(quality=30),
    "blur 1.2 and noise 10, the demo's": DEMO,
    "blur, shrunk, noise, JPEG": Poverty(blur=1.2, shrink=2, noise=5, quality=60),
}


def impoverish(photo: Image, poverty: Poverty, rng: np.random.Generator) -> Image:
    """The poor photo, uint8 `(H, W, 3)` in the photo's colour order."""
    height, width = photo.shape[:2]
    values: NDArray[Any] = photo.astype(np.float32)
    if poverty.blur:
        values = cv2.GaussianBlur(values, (0, 0), poverty.blur)
    if poverty.motion > 1:
        values = cv2.filter2D(values, -1, _motion_kernel(poverty), borderType=cv2.BORDER_REPLICATE)
    if poverty.shrink > 1:
        size = max(1, round(width / poverty.shrink)), max(1, round(height / poverty.shrink))
        values = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    if poverty.noise:
        values = values + rng.normal(0, poverty.noise, values.shape)
    poor = np.rint(values.clip(0, 255)).astype(np.uint8)
    if poverty.quality is not None:
        poor = _as_jpeg(poor, poverty.quality)
    if poverty.shrink > 1:
        poor = cv2.resize(poor, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(poor, np.uint8)


def random_poverty(rng: np.random.Generator) -> Poverty:
    """Two photos in three are poor as the demo's, more or less; the others in any way, one in eight of them in none."""
    if rng.random() < 2 / 3:
        return Poverty(blur=rng.uniform(0.7, 1.7), noise=rng.uniform(5, 15))
    if rng.random() < 1 / 8:
        return CLEAN
    blurred, shrunk, noisy, stored = rng.random(4) < (0.4, 0.3, 0.4, 0.5)
    moved = blurred and rng.random() < 0.1
    return Poverty(
        blur=rng.uniform(0.5, 1.8) if blurred and not moved else 0,
        motion=int(rng.integers(3, 9)) if moved else 0,
        direction=rng.uniform(0, 180),
        shrink=rng.uniform(1, 3) if shrunk else 1,
        noise=rng.uniform(1, 15) if noisy else 0,
        quality=int(rng.integers(30, 90)) if stored else None,
    )


def _motion_kernel(poverty: Poverty) -> NDArray[np.float32]:
    """A line through the middle, float32 `(K, K)` with sum 1, K odd."""
    side = poverty.motion | 1
    line = np.zeros((side, side), np.float32)
    line[side // 2] = 1
    middle = (side - 1) / 2
    turn = cv2.getRotationMatrix2D((middle, middle), poverty.direction, 1)
    turned = cv2.warpAffine(line, turn, (side, side), flags=cv2.INTER_LINEAR)
    return np.asarray(turned / turned.sum(), np.float32)


def _as_jpeg(image: Image, quality: int) -> Image:
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
