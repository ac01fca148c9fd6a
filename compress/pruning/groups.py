"""Which values of a network's weights belong to the same channel.

A channel is a row of the layer that makes it, a value of its bias, and a column of every layer that reads it: they go
together or not at all. A group is a set of channels with all such places ("members"). Families list their groups beside
their networks, by key and axis of the state dict, because tracers see neither that a weight used functionally has its
outputs on axis 1, nor that a scale depends on the number of inputs (docs/decisions/090).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """The axis of one tensor along which a group's channels lie.

    Channel c has the `repeat` values from `start + c * repeat`. `reads` says that the channel is multiplied by them
    where it is read: with all of them scaled, the channel is. `fan_in` says that the network divides the tensor by the
    square root of this axis's size.
    """

    key: str
    axis: int
    start: int = 0
    repeat: int = 1
    reads: bool = False
    fan_in: bool = False

    def places(self, channels: Iterable[int]) -> list[int]:
        """Where these channels lie on the axis."""
        return [self.start + channel * self.repeat + i for channel in channels for i in range(self.repeat)]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are kept or removed together in all members."""

    name: str
    channels: int
    members: tuple[Member, ...]


Kept = dict[str, tuple[int, ...]]
"""By group name: the channels that stay, ascending."""


def convolution_group(name: str, channels: int, made_by: Sequence[str], read_by: Sequence[str]) -> ChannelGroup:
    """The group of channels between plain convolutions with bias, given by their module names."""
    members = [Member(f"{module}.{parameter}", 0) for module in made_by for parameter in ("weight", "bias")]
    return ChannelGroup(name, channels, (*members, *(Member(f"{module}.weight", 1, reads=True) for module in read_by)))
