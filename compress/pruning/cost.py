"""What a network costs before any engine has it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(network: nn.Module) -> int:
    """The number of weights."""
    return sum(parameter.numel() for parameter in network.parameters())


def macs(network: nn.Module, run: Callable[[nn.Module, Tensor], Tensor], size: tuple[int, int]) -> int:
    """Multiplications of convolutions and matrix products for one image of `size`; nothing is computed."""
    shadow = deepcopy(network).to("meta")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        run(shadow, torch.zeros(1, 3, *size, device="meta"))
    return int(counter.get_total_flops()) // 2
