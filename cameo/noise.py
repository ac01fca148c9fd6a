"""Networks that want fresh noise: it comes from a seed, so that the same photo gives the same result.

GPEN's generators that enlarge (`gpen-sr-128-256`) fill the levels above their input's size with Gaussian noise, which
the original draws anew at every call. In an engine it is an input like any other, `noise_0`, `noise_1`, ..., and
whoever does not feed it gets that of the feed `seed`, an integer (0 where there is none; docs/decisions/081).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from cameo.session import Session, Tensor
from cameo.tensors import TensorSpec

PREFIX: Final = "noise_"
SEED: Final = "seed"


class SeededNoise(Session):
    """Runs `session`, whose inputs `noises` are drawn from a seed where they are not fed.

    Every picture of a batch gets the same, so that no result depends on what else is in the batch.
    """

    def __init__(self, session: Session, noises: Sequence[TensorSpec]) -> None:
        self._session = session
        self._noises = noises
        self.inputs, self.outputs, self.batches = session.inputs, session.outputs, session.batches
        self.turns, self.engine = session.turns, session.engine

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Every output of the network; besides its inputs, `feeds` may hold `seed`."""
        given = {name: feed for name, feed in feeds.items() if name != SEED}
        batch = len(next(iter(given.values())))
        generator = np.random.default_rng(int(feeds.get(SEED, np.int64(0))))
        for spec in self._noises:
            shape = [side for side in spec.shape[1:] if isinstance(side, int)]
            drawn = generator.standard_normal((1, *shape), np.float32)
            given.setdefault(spec.name, drawn.repeat(batch, axis=0))
        return self._session.run(given)

    @property
    def most_pixels(self) -> int | None:
        return self._session.most_pixels

    def rows_at_once(self, pixels: int) -> int | None:
        return self._session.rows_at_once(pixels)

    def close(self) -> None:
        """Free the network's memory."""
        self._session.close()


def with_noise(session: Session, inputs: Sequence[TensorSpec]) -> Session:
    """`session`, its noise drawn from a seed if any of its `inputs` is noise."""
    noises = [spec for spec in inputs if spec.name.startswith(PREFIX)]
    return SeededNoise(session, noises) if noises else session
