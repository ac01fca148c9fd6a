"""Feeds are checked against the engine's own inputs, so that every backend refuses a wrong one in the same words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cameo.errors import EngineError
from cameo.session import Tensor
from cameo.tensors import TensorSpec


def checked(engine: str, inputs: Sequence[TensorSpec], feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `feeds` in the order of `inputs`, each C-contiguous.

    Raises:
        EngineError: a name, dtype or shape is not what the engine takes.
    """
    if set(feeds) != {spec.name for spec in inputs}:
        raise EngineError(
            f"{engine} was fed {', '.join(sorted(feeds)) or 'nothing'}: it takes exactly {', '.join(map(str, inputs))}"
        )
    sizes: dict[str, int] = {}
    for spec in inputs:
        array = feeds[spec.name]
        if not isinstance(array, np.ndarray) or array.dtype.name != spec.dtype or not _fits(array, spec, sizes):
            found = f"{array.dtype.name} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            named = "".join(f", {axis} = {size}" for axis, size in sizes.items() if axis in spec.shape)
            raise EngineError(f"{engine} was fed {spec.name} as {found}: expected a numpy array {spec}{named}")
    return {spec.name: np.ascontiguousarray(feeds[spec.name]) for spec in inputs}


def _fits(array: Tensor, spec: TensorSpec, sizes: dict[str, int]) -> bool:
    """Whether the shape fits; named axes must have one size in all inputs ("?" is an axis without a name)."""
    if array.ndim != len(spec.shape) or array.size == 0:
        return False
    return all(
        size == (axis if isinstance(axis, int) else size if axis == "?" else sizes.setdefault(axis, size))
        for axis, size in zip(spec.shape, array.shape, strict=True)
    )
