"""A network loaded on a device: the one seam between flows and engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cameo.tensors import TensorSpec

Tensor = NDArray[np.generic]


class Session(ABC):
    """What every backend returns. Feeds and results are keyed by the names in the network's `TensorSpec`s.

    Any thread may run a session, and several at once: an engine's takes them in turns, as many as it has cores for.
    Closing waits for those that run; whoever comes later gets an `EngineError`.
    """

    inputs: Sequence[TensorSpec] = ()
    """What it is fed."""
    outputs: Sequence[TensorSpec] = ()
    """What it gives."""
    batches: Sequence[int] = ()
    """The batch sizes that it was built for, ascending; () where any will do (`cameo/batches.py` chooses)."""
    turns: int = 1
    """How many runs it takes at once; the others wait."""
    engine: str = "the engine"
    """What runs it, for messages."""

    @property
    def most_pixels(self) -> int | None:
        """The largest picture that memory has room for; None where that is not known."""
        return None

    def rows_at_once(self, pixels: int) -> int | None:
        """How many rows it likes to be given together, with pictures of so many pixels; None where any will do."""
        return None

    @abstractmethod
    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every output of the network for one batch, as arrays that the caller owns."""

    @abstractmethod
    def close(self) -> None:
        """Free the device memory; calling it twice does no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
