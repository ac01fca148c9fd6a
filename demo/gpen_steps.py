"""Steps of training for GPEN's demo weights: convolutions by Muon, all else by Adam.

A convolution sees pictures whose mean outweighs their detail a hundredfold, and detail is what there is to restore.
Adam follows the mean; Muon makes a step as large in every direction. Source: Jordan et al., Muon, 2024.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from exporters.gpen.layers import EqualConv2d, ModulatedConv2d
from exporters.gpen.network import FullGenerator

MUON_TO_ADAM = 50  # Muon's rate for steps ten times as large as Adam's


class Steps:
    """Both optimizers of a network."""

    def __init__(self, network: FullGenerator) -> None:
        self._kernels = [
            module.weight
            for module in network.modules()
            if isinstance(module, (EqualConv2d, ModulatedConv2d)) and module.weight.shape[-1] > 1
        ]
        self._matrices = [nn.Parameter(kernel.detach().view(kernel.shape[-4], -1)) for kernel in self._kernels]
        chosen = {id(kernel) for kernel in self._kernels}
        others = [parameter for parameter in network.parameters() if id(parameter) not in chosen]
        self._muon = torch.optim.Muon(self._matrices, weight_decay=0, adjust_lr_fn="match_rms_adamw")
        self._adam = torch.optim.Adam(others, betas=(0.9, 0.99), eps=1e-12, fused=True)

    def step(self, rate: float) -> None:
        """Move all weights that have gradients, the numbers in a kernel by about `rate`."""
        for kernel, matrix in zip(self._kernels, self._matrices, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.view_as(matrix)
        for optimizer, factor in ((self._muon, MUON_TO_ADAM), (self._adam, 1)):
            optimizer.param_groups[0]["lr"] = rate * factor
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """What is needed to go on."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on."""
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])
