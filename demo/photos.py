"""The freely licensed photos of the demo: where they lie, and how training varies them.

They ship inside the wheels of scikit-image, scikit-learn and matplotlib; README.md lists authors and licences.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.errors import PhotoError
from cameo.images import read_photo

Image = NDArray[np.uint8]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Photo:
    """A photo inside an installed package; `face` is (left, top, right, bottom) in pixels."""

    package: str
    path: str
    distribution: str
    face: Box | None = None

    def read(self) -> Image:
        """The photo, uint8 `(H, W, 3)` BGR.

        Raises:
            PhotoError: the package is not installed, or does not hold the photo.
        """
        spec = find_spec(self.package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if Path(folder, self.path).exists():
                return np.ascontiguousarray(read_photo(Path(folder, self.path))[..., ::-1])
        raise PhotoError(f"No photo {self.path} in package {self.package}: run pip install {self.distribution}.")


TRAINING = (
    Photo("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "matplotlib", face=(150, 20, 380, 360)),
    Photo("skimage", "data/chelsea.png", "scikit-image", face=(110, 20, 340, 260)),
    Photo("skimage", "data/coffee.png", "scikit-image"),
    Photo("skimage", "data/rocket.jpg", "scikit-image"),
    Photo("sklearn", "datasets/images/flower.jpg", "scikit-learn"),
)
RESTORATION = (  # what GPEN's demo weights learn from
    *TRAINING,
    Photo("skimage", "data/camera.png", "scikit-image", face=(190, 60, 300, 170)),
    Photo("skimage", "data/coins.png", "scikit-image"),
    Photo("skimage", "data/brick.png", "scikit-image"),
    Photo("skimage", "data/ihc.png", "scikit-image"),
    Photo("skimage", "data/retina.jpg", "scikit-image"),
)
HELD_OUT = (
    Photo("skimage", "data/astronaut.png", "scikit-image", face=(140, 5, 310, 200)),
    Photo("sklearn", "datasets/images/china.jpg", "scikit-learn"),
)


def random_view(image: Image, box: Box | None, size: int, rng: np.random.Generator) -> Image:
    """A random view of the photo, uint8 `(size, size, 3)`: turned, scaled, mirrored and recoloured.

    With a box, the view is centred near it and between 1.0 and 1.8 times its height, as an aligned head crop is;
    without one, it lies anywhere and shrinks the photo by up to 2 or enlarges it by up to 2.
    """
    height, width = image.shape[:2]
    if box:
        left, top, right, bottom = box
        extent = (bottom - top) * rng.uniform(1.0, 1.8)
        centre = np.array([left + right, top + bottom]) / 2 + rng.uniform(-0.15, 0.15, 2) * extent
    else:
        extent = size * np.exp2(rng.uniform(-1, 1))
        centre = rng.uniform(0, 1, 2) * (width, height)
    matrix = cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), rng.uniform(-20, 20), size / extent)
    matrix[:, 2] += size / 2 - centre
    if extent > size:  # the view shrinks the photo: blur first, or it aliases
        image = cv2.GaussianBlur(image, (0, 0), 0.4 * extent / size).astype(np.uint8)
    view = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return recolour(view[:, :: rng.choice((-1, 1))], rng)


def recolour(image: Image, rng: np.random.Generator) -> Image:
    """The image under another light, uint8: white balance, hue, saturation, gamma and contrast vary."""
    values = image.astype(np.float32) / 255 * rng.uniform(0.85, 1.15, 3).astype(np.float32)
    hsv = cv2.cvtColor(values.clip(0, 1).astype(np.float32), cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0] + _hue_shift(rng)) % 360
    hsv[..., 1] *= rng.uniform(0.4, 1.3)
    values = cv2.cvtColor(hsv.clip(0, (360, 1, 1)).astype(np.float32), cv2.COLOR_HSV2BGR)
    values = np.power(values, np.exp2(rng.uniform(-0.8, 0.8)))
    values = (values - 0.5) * rng.uniform(0.7, 1.2) + 0.5 + rng.uniform(-0.1, 0.1)
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def _hue_shift(rng: np.random.Generator) -> float:
    """Degrees: mostly small, at times any, for the few photos do not show every colour."""
    return float(rng.uniform(0, 360) if rng.random() < 0.35 else rng.normal(0, 8))


def degrade(image: Image, rng: np.random.Generator) -> Image:
    """The image as a poorer camera would take it, uint8: at times blurred, at times noisy."""
    values = image.astype(np.float32)
    if rng.random() < 0.2:
        values = cv2.GaussianBlur(values, (0, 0), rng.uniform(0.4, 1.0))
    if rng.random() < 0.4:
        values = values + rng.normal(0, rng.uniform(1, 6), image.shape)
    return np.rint(values.clip(0, 255)).astype(np.uint8)
