"""GPEN's generators that enlarge take noise besides the face; the others take the face alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from cameo.images import Pixels
from cameo.noise import PREFIX
from cameo.session import Tensor
from cameo.tensors import TensorSpec
from metrics.sizes import fit


def examples(network: str, inputs: Sequence[TensorSpec], photos: Sequence[Pixels]) -> Iterator[dict[str, Tensor]]:
    """Each photo as `image`, uint8 `(1, S, S, 3)` RGB, and float32 noise of a fixed seed for every other input."""
    generator = np.random.default_rng(0)
    noise = {
        spec.name: generator.standard_normal(spec.shape, np.float32) for spec in inputs if spec.name.startswith(PREFIX)
    }
    _, height, width, _ = next(spec.shape for spec in inputs if spec.name == "image")
    for photo in photos:
        yield {"image": fit(photo, (int(height), int(width)))[None], **noise}
