"""Checkpoint → student: depthwise-separable convolutions, and fewer channels if asked for, taught by the original.

Why it is that, and no small network from scratch: docs/decisions/095.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from compress.prune_channels import PruneChannels
from compress.trainable import Handed
from compress.variants import Wish

VARIANT, MODE, PRECISIONS = "student", "fast", ()


@dataclass(frozen=True)
class MakeStudent(PruneChannels):
    """The student of the mode "fast": depthwise-separable, and narrower if `ratio` is not 0."""

    separable: ClassVar[bool] = True
    name: ClassVar[str] = "make-student"


def stage(network: Handed, wish: Wish) -> MakeStudent | None:
    """The stage of this variant, if it is wanted."""
    if not wish.fast:
        return None
    return MakeStudent(network, wish.prune, teaching=wish.teaching(network, VARIANT), part=wish.part)
