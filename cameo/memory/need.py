"""A network's memory on an engine as `fixed + per_pixel * pixels * batch`.

Engines whose builder planned them (TensorRT) bring it in the bundle: weights are fixed, and of activations each profile
tells those of its largest shape. Those of smaller ones are never more than its plan: the line is the steepest that any
profile plans. For other engines it is measured (`calibration`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cameo.bundle import EngineEntry, NetworkEntry
from cameo.memory.amounts import in_words

SMALLEST: int = 256 * 256
"""Pixels of the picture that a network of any size must at least have room for."""


@dataclass(frozen=True)
class Need:
    """Bytes that stay (`fixed`), and bytes for every pixel of every row that runs; `how` they are known, in a word."""

    fixed: float
    per_pixel: float
    how: str

    def of(self, pixels: int, batch: int = 1) -> float:
        """Bytes for `batch` rows with pictures of so many pixels."""
        return self.fixed + self.per_pixel * pixels * batch

    def describe(self) -> str:
        """ "86 MiB + 637 MiB for each megapixel that runs"."""
        return f"{in_words(self.fixed)} + {in_words(1e6 * self.per_pixel)} for each megapixel that runs"


def planned(entry: EngineEntry) -> Need | None:
    """What the builder planned, for the most demanding target; None where it plans nothing."""
    known = [
        (profile.weight_bytes, profile.activation_bytes, profile.max[0] * profile.max[1] * profile.max[2])
        for profile in entry.profiles
        if profile.weight_bytes is not None and profile.activation_bytes is not None
    ]
    if not known:
        return None
    return Need(max(w for w, _, _ in known), max(a / pixels for _, a, pixels in known), "planned")


def fitted(points: Sequence[tuple[int, int, int]]) -> Need:
    """The line through measured (pixels, batch, bytes) that no point lies above."""
    sizes = [pixels * batch for pixels, batch, _ in points]
    taken = [size for _, _, size in points]
    middle, mean = sum(sizes) / len(sizes), sum(taken) / len(taken)
    spread = sum((size - middle) ** 2 for size in sizes)
    slope = sum((x - middle) * (y - mean) for x, y in zip(sizes, taken, strict=True)) / spread if spread else 0.0
    slope = max(slope, 0.0)
    return Need(max(max(y - slope * x for x, y in zip(sizes, taken, strict=True)), 0.0), slope, "measured")


def least_pixels(network: NetworkEntry) -> int:
    """Pixels of the smallest picture that `network` must be able to take: its own size, where it has one."""
    shapes = [spec.shape for spec in network.inputs if spec.name == "image"]
    match shapes:
        case [[_, int(height), int(width), _]]:
            return height * width
        case _:
            return SMALLEST
