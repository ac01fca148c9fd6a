"""What PyTorch originals share: a function from tensors to tensors behind the edges of the engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from cameo.session import Session, Tensor

if TYPE_CHECKING:
    import torch

    Run = Callable[..., Mapping[str, torch.Tensor]]


class TorchSession(Session):
    """Runs `run` on `image` as float32 `(N, 3, H, W)` RGB in 0..255, eagerly and without autograd.

    What else is fed is passed on by its name, as tensors.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the outputs for `image` uint8 `(N, H, W, 3)` RGB."""
        import torch

        with torch.no_grad():
            image = torch.from_numpy(np.ascontiguousarray(feeds["image"])).permute(0, 3, 1, 2).float()
            others = {n: torch.from_numpy(np.ascontiguousarray(feed)) for n, feed in feeds.items() if n != "image"}
            return {name: output.numpy() for name, output in self._run(image, **others).items()}

    def close(self) -> None:
        """Nothing is held but memory."""


def to_photo(levels: torch.Tensor) -> torch.Tensor:
    """float `(N, 3, H, W)` in [0, 255] as uint8 `(N, H, W, 3)`, truncated."""
    import torch

    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
