"""Each photo, with a random identity, shape and jaw line: nothing but its own networks could tell a photo's."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np

from cameo.pixels import Pixels
from cameo.session import Tensor
from cameo.tensors import TensorSpec
from metrics.sizes import fit

POINTS = 17
_MOVED = 0.02
"""How far key points stray from the mean jaw line, and fused ones from those, where a picture's sides are 2."""
_SHAPE = 0.5
"""How much faces differ in the coefficients of identity, which are of size 1 by the model's construction."""


def examples(network: str, inputs: Sequence[TensorSpec], photos: Sequence[Pixels]) -> Iterator[dict[str, Tensor]]:
    """What the network takes of these, by name, seeded by each photo: the same for every network that is fed it.

    `image` uint8 `(1, S, S, 3)` RGB; `identity` float32 `(1, D)` of length 1; `keypoints_target` and
    `keypoints_fused` float32 `(1, 17, 2)` (x, y) in [-1, 1]; `shape` float32 `(1, 80)`.
    """
    shapes = {spec.name: tuple(map(int, spec.shape)) for spec in inputs}
    _, height, width, _ = shapes["image"]
    for photo in photos:
        generator = np.random.default_rng(zlib.crc32(photo.tobytes()))
        drawn = {
            "identity": generator.standard_normal(shapes.get("identity", (1, 512)), np.float32),
            "keypoints_target": _jaw_line() + _MOVED * generator.standard_normal((1, POINTS, 2), np.float32),
            "shape": _SHAPE * generator.standard_normal(shapes.get("shape", (1, 80)), np.float32),
        }
        drawn["identity"] /= np.linalg.norm(drawn["identity"])
        moved = _MOVED * generator.standard_normal((1, POINTS, 2), np.float32)
        drawn["keypoints_fused"] = drawn["keypoints_target"] + moved
        feeds = {name: feed.astype(np.float32) for name, feed in drawn.items() if name in shapes}
        yield {"image": fit(photo, (height, width))[None], **feeds}


def _jaw_line() -> np.ndarray:
    """float32 `(1, 17, 2)`: half an ellipse from ear to ear, where it lies in an aligned face."""
    angle = np.linspace(0, np.pi, POINTS)
    return np.stack([-0.62 * np.cos(angle), 0.9 * np.sin(angle) - 0.05], axis=-1)[None].astype(np.float32)
