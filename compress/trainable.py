"""What pruning and distillation need to know of a network.

The way from a checkpoint to a torch module, and back to a checkpoint that the exporter reads like any other.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from cameo.errors import CheckpointError
from cameo.tensors import TensorSpec
from metrics.examples import Examples

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compress.pruning.groups import ChannelGroup, Member


ONE_IMAGE = (TensorSpec("image", "uint8", ("N", "H", "W", 3)),)


class Trainable(Protocol):
    """A network that gives an image."""

    inputs: Sequence[TensorSpec]
    """What it takes, as its graph does (`ONE_IMAGE`); its family's `examples.py` makes that of photos."""
    suffix: str
    """Of the checkpoint files: ".pth"."""
    side: int | None
    """The side of the square image, or None: any multiple of `multiple`."""
    multiple: int
    learning_rate: float
    """The highest, of Adam, for a network that has much to learn."""

    def load(self, path: Path, part: str = "") -> nn.Module:
        """The network of a checkpoint, or of a part of one; CheckpointError if it is another's, or a student's."""

    def rebuild(self, state: Mapping[str, Tensor]) -> nn.Module:
        """A network with these weights, which give its widths."""

    def separated(self, network: nn.Module) -> nn.Module:
        """The network with depthwise-separable convolutions in place of dense ones, the nearest to it."""

    def save(self, network: nn.Module, path: Path) -> None:
        """Write a checkpoint as the authors ship theirs; the file appears when it is whole."""

    def run(self, network: nn.Module, feeds: Mapping[str, Tensor]) -> Tensor:
        """The image of a batch of feeds by name, differentiable, nothing rounded.

        Pictures, the result too, are float32 `(N, 3, H, W)` RGB levels, [0, 255]; other feeds are as the graph's.
        """

    def groups(self, network: nn.Module) -> tuple[ChannelGroup, ...]:
        """All channels that can be removed."""

    def features(self, network: nn.Module) -> Mapping[str, tuple[Member, ...]]:
        """What a pruned network's inner pictures have to resemble.

        By module name: which groups' channels lie where on axis 1 of its output (the member's key is the group's name).
        """


@dataclass(frozen=True)
class Handed:
    """A network as a family hands it in: `module` is the family's, and offers `trainable(network) -> Trainable`.

    `examples` makes feeds of photos.
    """

    network: str
    module: str
    examples: Examples = field(default_factory=Examples)

    @property
    def form(self) -> Trainable:
        """Its torch form with all that pruning and teaching need to know."""
        return cast(Trainable, importlib.import_module(self.module).trainable(self.network))

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The family's modules, which no import of a stage shows."""
        return (self.module, *self.examples.rests_on)


def is_student(path: Path) -> CheckpointError:
    """The error for a checkpoint that was taught already."""
    return CheckpointError(f"{path} is a depthwise-separable student, expected the network that it learned from")
