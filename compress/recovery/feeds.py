"""What a network is fed while it is measured and taught: its family's examples of photos (docs/decisions/158)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cameo.pixels import Pixels
from compress.trainable import Handed

Feeds = Mapping[str, Tensor]
"""By input: pictures as float32 `(N, 3, H, W)` RGB levels, [0, 255]; all else as the graph takes it."""


def feeds_of(network: Handed, photos: Sequence[Pixels], device: str = "cpu") -> Feeds:
    """A batch with a row for each of these photos, uint8 `(H, W, 3)` RGB of one size."""
    height, width = photos[0].shape[:2]
    return in_torch(network.examples.feeds(network.form.inputs, photos, (height, width)), device)


def in_torch(rows: Iterable[Mapping[str, NDArray[np.generic]]], device: str = "cpu") -> Feeds:
    """The batch of these rows, each as the network's graph takes it; uint8 `(1, H, W, 3)` is a picture."""
    rows = list(rows)
    return {name: _tensor(np.concatenate([row[name] for row in rows])).to(device) for name in rows[0]}


def device_of_choice() -> str:
    """A GPU if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _tensor(array: NDArray[np.generic]) -> Tensor:
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if array.dtype != np.uint8 or array.ndim != 4:
        return tensor
    return tensor.permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
