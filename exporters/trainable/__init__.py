"""Networks that can be pruned and taught: one file per family, named as the family, found by its name.

Each module offers `trainable(network) -> Trainable`: the way from a checkpoint to a torch module and back to a
checkpoint that the exporter reads like any other, and what pruning and distillation need to know of it.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from cameo.errors import CheckpointError
from exporters import family_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from optimize.pruning.groups import ChannelGroup, Member


class Trainable(Protocol):
    """A network that takes an image and gives one."""

    suffix: str
    """Of the checkpoint files: ".pb" or ".pth"."""
    side: int | None
    """The side of the square image, or None: any multiple of `multiple`."""
    multiple: int

    def load(self, path: Path) -> nn.Module:
        """The network of a checkpoint in its faithful form; CheckpointError if it is another's."""

    def rebuild(self, state: Mapping[str, Tensor]) -> nn.Module:
        """A network with these weights, which give its widths."""

    def separated(self, network: nn.Module) -> nn.Module:
        """The network with depthwise-separable convolutions in place of dense ones, the nearest to it."""

    def save(self, network: nn.Module, path: Path) -> None:
        """Write a checkpoint as the authors ship theirs; the file appears when it is whole."""

    def run(self, network: nn.Module, levels: Tensor) -> Tensor:
        """Image of an image, both float32 `(N, 3, H, W)` RGB levels, [0, 255]; differentiable, nothing rounded."""

    def groups(self, network: nn.Module) -> tuple[ChannelGroup, ...]:
        """All channels that can be removed."""

    def features(self, network: nn.Module) -> Mapping[str, tuple[Member, ...]]:
        """What a pruned network's inner pictures have to resemble.

        By module name: which groups' channels lie where on axis 1 of its output (the member's key is the group's name).
        """


def trainable_networks() -> list[str]:
    """The networks that can be pruned and taught."""
    families = [m.name for m in pkgutil.iter_modules(__path__)]
    return [name for family in families for name in importlib.import_module(f"{__name__}.{family}").NETWORKS]


def trainable(network: str) -> Trainable:
    """The torch form of `network` with all that pruning needs to know.

    Raises:
        CheckpointError: there is no such network, or it cannot be pruned.
    """
    family_of(network)
    for family in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{family.name}")
        if network in module.NETWORKS:
            return cast(Trainable, module.trainable(network))
    raise CheckpointError(f"{network} cannot be pruned: choose one of {', '.join(trainable_networks())}")
