"""The proof that channel groups are right: zeros in place of channels compute what a network without them computes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from compress.pruning.groups import ChannelGroup, Kept


def silence(state: Mapping[str, Tensor], groups: Sequence[ChannelGroup], kept: Kept) -> dict[str, Tensor]:
    """The state dict at its full widths with zeros in place of the channels that do not stay."""
    silent = {key: tensor.clone() for key, tensor in state.items()}
    for group in groups:
        lost = sorted(set(range(group.channels)) - set(kept[group.name]))
        for member in group.members:
            silent[member.key].index_fill_(member.axis, torch.tensor(member.places(lost), dtype=torch.long), 0)
    return silent
