"""Which sizes of photos a network of a bundle can be run at."""

from __future__ import annotations

from collections.abc import Iterable

from cameo.bundle import NetworkEntry
from cameo.errors import EngineError
from cameo.tensors import TensorSpec
from metrics.sizes import Size


def image_spec(network: NetworkEntry) -> TensorSpec:
    """The input `image` of `network`.

    Raises:
        EngineError: it takes no photo at all.
    """
    image = next((spec for spec in network.inputs if spec.name == "image" and len(spec.shape) == 4), None)
    if image is None:
        takes = ", ".join(map(str, network.inputs))
        raise EngineError(f"{network.name} cannot be validated on photos: expected an input 'image', it takes {takes}")
    return image


def runnable_sizes(network: NetworkEntry, wanted: Iterable[Size]) -> list[Size]:
    """The sizes to run `network` at: its own where it is fixed, else those of `wanted` that its profiles allow.

    Where the profiles allow none of them (a network built for one size), what they were built for.
    """
    _, height, width, _ = image_spec(network).shape
    if isinstance(height, int) and isinstance(width, int):
        return [(height, width)]
    per_engine = [engine.profiles for engine in network.engines if engine.profiles]
    allowed = [
        size for size in wanted if all(any(p.takes((p.opt[0], *size)) for p in profiles) for profiles in per_engine)
    ]
    built_for = list(dict.fromkeys((p.opt[1], p.opt[2]) for profiles in per_engine for p in profiles))
    return allowed or built_for
