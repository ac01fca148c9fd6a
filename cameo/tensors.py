"""What goes into and comes out of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


def within(smallest: Sequence[int], shape: Sequence[int], largest: Sequence[int]) -> bool:
    """Whether every axis of a shape lies between those of the smallest and the largest, as far as they go."""
    return all(low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=False))


@dataclass(frozen=True)
class TensorSpec:
    """One edge of a network; a string in `shape` names a dynamic axis (`("N", "H", "W", 3)`)."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} ({', '.join(map(str, self.shape))})"
