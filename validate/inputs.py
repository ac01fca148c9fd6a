"""Photos as the feeds of networks: cut to the shape of a size, then resized to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cameo.bundle import NetworkEntry, Profile
from cameo.errors import EngineError
from cameo.noise import PREFIX
from cameo.tensors import TensorSpec

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Sizes:
    """Where a network that takes photos of any size is compared, and where it is timed."""

    fidelity: tuple[Size, ...] = ((256, 256), (360, 480), (1024, 1024))
    latency: Size = (720, 960)


def fit(photo: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """The middle of `photo` uint8 `(H, W, 3)` RGB that has the proportions of `size`, resized to it."""
    height, width = photo.shape[:2]
    scale = max(size[0] / height, size[1] / width)
    rows, columns = min(height, round(size[0] / scale)), min(width, round(size[1] / scale))
    top, left = (height - rows) // 2, (width - columns) // 2
    part = photo[top : top + rows, left : left + columns]
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(part, (size[1], size[0]), interpolation=method), np.uint8)


def image_spec(network: NetworkEntry) -> TensorSpec:
    """The input `image` of `network`.

    Raises:
        EngineError: it takes something else besides noise, which photos cannot feed.
    """
    found = {spec.name: spec for spec in network.inputs if not spec.name.startswith(PREFIX)}
    if set(found) != {"image"}:
        raise EngineError(
            f"{network.name} cannot be validated on photos: expected one input 'image', it takes {', '.join(found)}"
        )
    return found["image"]


def runnable_sizes(network: NetworkEntry, wanted: Iterable[Size]) -> list[Size]:
    """The sizes to run `network` at: its own where it is fixed, else those of `wanted` that its profiles allow.

    Where the profiles allow none of them (a network built for one size), what they were built for.
    """
    _, height, width, _ = image_spec(network).shape
    if isinstance(height, int) and isinstance(width, int):
        return [(height, width)]
    per_engine = [engine.profiles for engine in network.engines if engine.profiles]
    allowed = [size for size in wanted if all(any(_takes(p, size) for p in profiles) for profiles in per_engine)]
    built_for = list(dict.fromkeys((p.opt[1], p.opt[2]) for profiles in per_engine for p in profiles))
    return allowed or built_for


def _takes(profile: Profile, size: Size) -> bool:
    return all(low <= side <= high for low, side, high in zip(profile.min[1:3], size, profile.max[1:3], strict=True))
