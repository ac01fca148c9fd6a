"""Lighter variants of a network: one file of this package each, found by what it offers.

VARIANT: str                              what it is called in a bundle ("pruned", "qat", "student")
MODE: str                                 the mode of its engines
PRECISIONS: tuple[str, ...]               the precisions that it learned, and alone is built in; () for the usual ones
stage(network, wish) -> Stage | None      what makes its checkpoint, None where the wish is for another
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import compress
from cameo.discovery import module_in, names_in
from compress.teaching import Photos, Teaching
from compress.trainable import Handed


class Variant(Protocol):
    """What the module of a variant offers."""

    VARIANT: str
    MODE: str
    PRECISIONS: tuple[str, ...]

    def stage(self, network: Handed, wish: Wish) -> Any: ...


@dataclass(frozen=True)
class Wish:
    """What a build asks for: a share of channels to `prune`, a `fast` student, `precisions` to be learned.

    They learn from `photos` in `steps` steps; below `folder` is where one that was killed goes on. `part` names the
    weights in a checkpoint that has several.
    """

    prune: float = 0.0
    fast: bool = False
    precisions: tuple[str, ...] = ()
    photos: Photos = field(default_factory=Photos)
    steps: int = 0
    folder: Path = field(default_factory=Path)
    part: str = ""

    def teaching(self, network: Handed, variant: str, pace: float = Teaching.pace) -> Teaching:
        """How the variant learns."""
        place = (self.folder / f"learning-{network.network}-{variant}").resolve()
        return Teaching(self.photos, self.steps, pace, checkpoints=place)


def variants() -> Iterator[Variant]:
    """Every variant that a network can be built as, from what gives up least to what gives up most."""
    modules = [module_in(compress, name) for name in names_in(compress)]
    found = [cast(Variant, module) for module in modules if hasattr(module, "VARIANT")]
    return iter(sorted(found, key=lambda variant: (variant.MODE, variant.VARIANT)))


def learnable() -> frozenset[str]:
    """The precisions that a network can learn to live with."""
    return frozenset(precision for variant in variants() for precision in variant.PRECISIONS)
