"""Removes channels: how many stay per group, which ones, and the state dict without the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from cameo.errors import CameoError, RequestError
from compress.pruning.groups import ChannelGroup, Kept, Member


@dataclass(frozen=True)
class Ratios:
    """The share of channels to remove: `everywhere`, and instead of it in groups whose name matches a pattern.

    Widths are rounded down to a `multiple`: engines compute channels in blocks of 8 or 16, so that widths between take
    as long as the next one. Networks of a few dozen channels may want 4.
    """

    everywhere: float
    stages: Mapping[str, float] = field(default_factory=dict)
    multiple: int = 8

    def of(self, group: ChannelGroup) -> float:
        """The ratio for one group: that of the last pattern that matches."""
        matching = [ratio for pattern, ratio in self.stages.items() if fnmatchcase(group.name, pattern)]
        return matching[-1] if matching else self.everywhere


def choose(groups: Sequence[ChannelGroup], ratios: Ratios, importance: Mapping[str, Tensor]) -> Kept:
    """The channels that stay: in every group the most important ones.

    Raises:
        CameoError: a ratio is no share, names no group, or would leave a group empty.
    """
    _check(groups, ratios)
    kept = {}
    for group in groups:
        order = torch.argsort(importance[group.name], descending=True, stable=True)
        kept[group.name] = tuple(sorted(order[: width(group, ratios.of(group), ratios.multiple)].tolist()))
    return kept


def width(group: ChannelGroup, ratio: float, multiple: int = 8) -> int:
    """How many channels stay: a multiple not above what the ratio leaves, but at least one multiple.

    Raises:
        CameoError: not even one channel would stay.
    """
    left = group.channels * (1 - ratio)
    if left < 1:
        most = math.floor(100 * (1 - 1 / group.channels)) / 100
        raise CameoError(
            f"the ratio {ratio:g} would leave {group.name} empty: expected one of its {group.channels} channels to "
            f"stay at least, got {left:.2f}; prune at most {most:g} there"
        )
    return min(group.channels, max(multiple, int(left + 1e-6) // multiple * multiple))


def prune(state: Mapping[str, Tensor], groups: Sequence[ChannelGroup], kept: Kept) -> dict[str, Tensor]:
    """The state dict without the channels that do not stay."""
    gone: dict[tuple[str, int], set[int]] = {}
    divided = set()
    for group in groups:
        lost = sorted(set(range(group.channels)) - set(kept[group.name]))
        for member in group.members:
            gone.setdefault((member.key, member.axis), set()).update(member.places(lost))
            if member.fan_in:
                divided.add((member.key, member.axis))
    pruned = dict(state)
    for (key, axis), places in gone.items():
        size = state[key].shape[axis]
        stay = torch.tensor([place for place in range(size) if place not in places])
        pruned[key] = pruned[key].index_select(axis, stay)
        if (key, axis) in divided:  # the network will divide by the square root of the new size
            pruned[key] = pruned[key] * math.sqrt(len(stay) / size)
    return pruned


def per_channel(tensor: Tensor, member: Member, channels: int) -> Tensor:
    """The values of each channel, `(channels, values)`."""
    part = tensor.narrow(member.axis, member.start, channels * member.repeat)
    return part.movedim(member.axis, 0).reshape(channels, -1)


def _check(groups: Sequence[ChannelGroup], ratios: Ratios) -> None:
    for ratio in (ratios.everywhere, *ratios.stages.values()):
        if not 0 <= ratio < 1:
            raise RequestError(f"the pruning ratio is {ratio:g}: expected a share of the channels, from 0 to below 1")
    if ratios.multiple < 1:
        raise RequestError(f"widths cannot be multiples of {ratios.multiple}: expected 1 or more, 8 suits most engines")
    for pattern in ratios.stages:
        if not any(fnmatchcase(group.name, pattern) for group in groups):
            names = ", ".join(group.name for group in groups)
            raise RequestError(f"no stage is called '{pattern}': choose from {names}, or a pattern such as block_*")
