"""How photos become the feeds of a network: what validation, calibration and timing run it on."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cameo.errors import EngineError
from cameo.pixels import Pixels
from cameo.session import Tensor
from cameo.tensors import TensorSpec
from metrics.sizes import Size, fit

Feeds = Mapping[str, Tensor]


@dataclass(frozen=True)
class Examples:
    """Makes feeds of photos; without a `module`, a network takes one photo, as its input `image`.

    The `module` is the family's: `examples(network, inputs, photos) -> Iterator[Feeds]` gives one set of feeds for each
    photo, by name, with a batch of one, whichever others are asked for with it: teaching and calibration ask photo by
    photo. `inputs` are the network's with every axis a number, `photos` uint8 `(H, W, 3)` RGB of any size.
    """

    network: str = ""
    module: str = ""

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The family's module, for the keys of stages that feed a network."""
        return (self.module,) if self.module else ()

    def feeds(self, inputs: Sequence[TensorSpec], photos: Sequence[Pixels], size: Size) -> Iterator[Feeds]:
        """One set of feeds for each photo; where the network takes pictures of any size, of this one.

        Raises:
            EngineError: the network takes something else than one photo, and its family does not say what.
        """
        sized = [at_size(spec, size) for spec in inputs]
        if self.module:
            yield from importlib.import_module(self.module).examples(self.network, sized, photos)
            return
        if [(spec.name, spec.dtype, len(spec.shape)) for spec in sized] != [("image", "uint8", 4)]:
            raise EngineError(
                f"photos cannot feed {self.network or 'this graph'}: expected one input 'image', uint8 (N, H, W, 3), "
                f"got {', '.join(map(str, inputs))}; its family says in an examples.py what to feed"
            )
        height, width = sized[0].shape[1:3]
        for photo in photos:
            yield {"image": fit(photo, (int(height), int(width)))[None]}

    def of_noise(self, inputs: Sequence[TensorSpec], size: Size, batch: int = 1) -> Feeds:
        """Feeds that need no photo, for timing: what a picture of noise gives, `batch` times.

        Raises:
            EngineError: as `feeds`.
        """
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        (feeds,) = self.feeds(inputs, [noise], size)
        return {name: feed.repeat(batch, axis=0) for name, feed in feeds.items()}


def at_size(spec: TensorSpec, size: Size) -> TensorSpec:
    """The spec with a batch of one, and with this height and width where its picture may have any."""
    named = {"N": 1, "H": size[0], "W": size[1]}
    sides = dict(zip((1, 2), size, strict=True)) if len(spec.shape) == 4 else {}
    shape = tuple(
        axis if isinstance(axis, int) and axis > 0 else 1 if index == 0 else sides.get(index, named.get(str(axis), 1))
        for index, axis in enumerate(spec.shape)
    )
    return replace(spec, shape=shape)
