"""What a student is graded on: the teacher's image, and the teacher's inner pictures.

    loss = E[charbonnier(image)] + 0.5 E[charbonnier(neighbour differences)] + weight * E[features]

in levels / 127.5. An inner picture is compared channel by channel with those that the student kept, relative to the
teacher's own variance; its weight falls to zero half-way: at first it says how to repair the network layer by layer,
then only the image counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.pruning.groups import Kept, Member
from compress.recovery.feeds import Feeds

Run = Callable[[nn.Module, Feeds], Tensor]

FEATURES_UNTIL = 0.5  # of the run; without them a step takes two thirds of the time
CHARBONNIER = 0.004  # half a level of 255, below which an error is no longer an edge but a rounding


@dataclass(frozen=True)
class Lesson:
    """A teacher, a student, and how both are run: `run(network, feeds)` gives float32 levels.

    `channels` says by module name which of the teacher's channels the student's are; without, only images count.
    """

    teacher: nn.Module
    student: nn.Module
    run: Run
    channels: Mapping[str, Tensor]
    feature_weight: float = 0.1

    def loss(self, feeds: Feeds, progress: float) -> Tensor:
        """The student's loss on a batch; `progress` runs from 0 to 1."""
        weight = self.feature_weight * max(0.0, 1 - progress / FEATURES_UNTIL)
        names = list(self.channels) if weight > 0 else []
        device = next(iter(feeds.values())).device
        with _autocast(device.type):
            with torch.no_grad(), _Outputs(self.teacher, names) as taught:
                wanted = self.run(self.teacher, feeds)
            with _Outputs(self.student, names) as learned:
                got = self.run(self.student, feeds)
        loss = image_loss(got.float(), wanted.float())
        for name in names:
            target = taught[name].float().index_select(1, self.channels[name].to(device))
            loss = loss + weight / len(names) * _relative(learned[name].float(), target)
        return loss


def image_loss(got: Tensor, wanted: Tensor) -> Tensor:
    """Charbonnier error of levels / 127.5, plus half that of the differences between neighbours."""
    error = (got - wanted) / 127.5
    gradients = _charbonnier(error.diff(dim=2)) + _charbonnier(error.diff(dim=3))
    return _charbonnier(error) + 0.5 * gradients


def held_out_psnr(teacher: nn.Module, student: nn.Module, run: Run, batches: Sequence[Feeds]) -> Callable[[], float]:
    """A function that gives the PSNR in dB of the student, as it then is, against the teacher, over all pixels.

    In float32, clipped to [0, 255], on these batches.
    """
    with torch.inference_mode():
        pairs = [(feeds, run(teacher, feeds).clamp(0, 255)) for feeds in batches]

    def measure() -> float:
        with torch.inference_mode():
            errors = [(run(student, feeds).clamp(0, 255) - wanted).double().square() for feeds, wanted in pairs]
        mean = sum(float(error.sum()) for error in errors) / sum(error.numel() for error in errors)
        return 10 * math.log10(255**2 / max(mean, 1e-9))

    return measure


def kept_channels(features: Mapping[str, tuple[Member, ...]], kept: Kept) -> dict[str, Tensor]:
    """By module name: the channels of the teacher's output that the student still has."""
    return {
        name: torch.tensor([place for member in members for place in member.places(kept[member.key])])
        for name, members in features.items()
    }


class _Outputs(dict[str, Tensor]):
    """The outputs of named modules while it is open."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self._modules = {name: network.get_submodule(name) for name in names}

    def __enter__(self) -> _Outputs:
        def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
            return lambda module, inputs, output: self.__setitem__(name, output)

        self._hooks = [module.register_forward_hook(keep(name)) for name, module in self._modules.items()]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _autocast(device: str) -> torch.autocast:
    """bfloat16 for convolutions and matrix products, where the device computes it: several times as fast."""
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported() if device == "cpu" else torch.cuda.is_bf16_supported()
    return torch.autocast(device, torch.bfloat16, enabled=supported)


def _charbonnier(error: Tensor) -> Tensor:
    return (error.square() + CHARBONNIER**2).sqrt().mean()


def _relative(got: Tensor, wanted: Tensor) -> Tensor:
    return (got - wanted).square().mean() / wanted.var().clamp_min(1e-6)
