"""How much each channel matters, larger is more.

group_l2  the norm of all weights of a channel. Needs nothing but the weights.
taylor    how much the image would change, to first order, if the channel were gone. Let m scale the channel (the
          weights that read it): the image y moves by dy/dm, and for a random v of +-1, E[(v . dy/dm)^2] = |dy/dm|^2.
          The gradient of v . y gives v . dy/dm as the sum over these weights of weight times gradient. (The weights
          that make a channel say nothing where they are normalised: GPEN's demodulation takes their scale away.)

Neither needs labels. Source of the first-order criterion: Molchanov et al., Importance Estimation for Neural Network
Pruning, CVPR 2019, with the change of the image in place of the change of a loss (docs/decisions/091).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from compress.pruning.channels import per_channel
from compress.pruning.groups import ChannelGroup
from compress.recovery.feeds import Feeds

PROBES = 2  # random v per batch of photos


def group_l2(network: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, Tensor]:
    """By group name, float32 `(channels,)`: the norm of each channel's weights, every tensor weighing the same."""
    state = network.state_dict()
    found = {}
    for group in groups:
        squares = [
            per_channel(state[member.key].float(), member, group.channels).pow(2).sum(1) for member in group.members
        ]
        found[group.name] = torch.stack([s / s.mean().clamp_min(1e-12) for s in squares]).sum(0).sqrt()
    return found


def taylor(
    network: nn.Module,
    run: Callable[[Feeds], Tensor],
    groups: Sequence[ChannelGroup],
    batches: Iterable[Feeds],
    seed: int = 0,
) -> dict[str, Tensor]:
    """By group name, float32 `(channels,)`: the change of `run(batch)` if a channel were gone, to first order."""
    random = torch.Generator().manual_seed(seed)
    parameters = dict(network.named_parameters())
    squares = {group.name: torch.zeros(group.channels) for group in groups}
    for batch in batches:
        for _ in range(PROBES):
            image = run(batch)
            sign = torch.randint(0, 2, image.shape, generator=random).to(image) * 2 - 1
            network.zero_grad(set_to_none=True)
            (image * sign).mean().backward()  # type: ignore[no-untyped-call]
            for group in groups:
                squares[group.name] += _change(group, parameters).pow(2)
    network.zero_grad(set_to_none=True)
    return {name: total.sqrt() for name, total in squares.items()}


def _change(group: ChannelGroup, parameters: dict[str, nn.Parameter]) -> Tensor:
    change = torch.zeros(group.channels)
    for member in group.members:
        gradient = parameters[member.key].grad if member.reads else None  # buffers are no parameters, and read nothing
        if gradient is not None:
            product = parameters[member.key].detach() * gradient
            change += per_channel(product, member, group.channels).sum(1).cpu()
    return change
