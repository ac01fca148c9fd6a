"""What a network costs before any engine has it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from compress.recovery.feeds import Feeds


def parameters(network: nn.Module) -> int:
    """The number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def macs(network: nn.Module, run: Callable[[nn.Module, Feeds], Tensor], feeds: Feeds) -> int:
    """Multiplications of convolutions and matrix products for one set of feeds; nothing is computed."""
    shadow = deepcopy(network).to("meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        run(shadow, {name: feed.to("meta") for name, feed in feeds.items()})
    return int(counter.get_total_flops()) // 2
