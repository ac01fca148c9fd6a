"""GPEN's generators: checkpoint, torch form for training, checkpoint.

Groups follow the picture. An encoder level's channels are made by its convolution and read by the next level, by the
linear layer behind the last, and, put beside the generator's own channels in the noise slots, by whatever reads those
(with the bias added there, and the styles that modulate it). Modulated weights have outputs on axis 1 and inputs on
axis 2. Weights are divided by the square root of their inputs' number (equalised learning rate).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from compress.pruning.groups import ChannelGroup, Member
from compress.trainable import ONE_IMAGE, is_student
from exporters.gpen.export import NETWORKS as _NETWORKS
from exporters.gpen.export import is_normalised, load_generator, size_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from exporters.gpen.network import Architecture, FullGenerator

NETWORKS = tuple(name for name in _NETWORKS if not name.startswith("gpen-sr"))  # those take noise besides the image


def trainable(network: str) -> TrainableGpen:
    """The torch form of a generator."""
    return TrainableGpen(network)


class TrainableGpen:
    """A generator as torch module; see `compress.trainable.Trainable`."""

    inputs = ONE_IMAGE
    suffix = ".pth"
    multiple = 1
    learning_rate = 1e-2  # weights of size 1, which the network scales, want larger steps than others

    def __init__(self, network: str) -> None:
        self._network = network
        self.side = size_of(network)

    def load(self, path: Path, part: str = "") -> nn.Module:
        """The generator of a checkpoint.

        Raises:
            CheckpointError: not a checkpoint of this network, or a student of one.
        """
        from exporters.gpen.training_form import quickened

        network = load_generator(path, self._network, part)
        if network.architecture.separable:
            raise is_student(path)
        return quickened(network)

    def rebuild(self, state: Mapping[str, Tensor]) -> nn.Module:
        """A generator with these weights, which give its widths."""
        from exporters.gpen.network import FullGenerator
        from exporters.gpen.training_form import quickened

        return quickened(FullGenerator.from_state_dict({key: tensor.clone() for key, tensor in state.items()}))

    def separated(self, network: nn.Module) -> nn.Module:
        """The generator with depthwise-separable convolutions in place of its 3x3 ones, the nearest to them."""
        from exporters.gpen.separable import separated
        from exporters.gpen.training_form import quickened

        return quickened(separated(cast("FullGenerator", network)))

    def save(self, network: nn.Module, path: Path) -> None:
        """Write the state dict as its authors do."""
        from exporters.checkpoints.torch_checkpoint import save_checkpoint

        save_checkpoint(network.state_dict(), path)

    def run(self, network: nn.Module, feeds: Mapping[str, Tensor]) -> Tensor:
        """The restored face of RGB levels, as RGB levels."""
        levels = feeds["image"]
        if is_normalised(self._network):
            return cast("Tensor", network(levels / 127.5 - 1)) * 127.5 + 127.5
        return cast("Tensor", network(levels / 255)) * 255

    def groups(self, network: nn.Module) -> tuple[ChannelGroup, ...]:
        """All channels of the encoder and of the generator; the style keeps its size."""
        return generator_groups(cast("FullGenerator", network).architecture)

    def features(self, network: nn.Module) -> Mapping[str, tuple[Member, ...]]:
        """The pictures of the encoder's levels and of the styled layers."""
        plan = cast("FullGenerator", network).architecture
        pictures = {f"ecd{level}": (Member(_encoder(plan, level), 1),) for level in range(len(plan.encoder))}
        for layer, own in enumerate(plan.styled):
            halves = Member(_styled(layer), 1), Member(_slot(plan, layer), 1, start=own)
            pictures[_module(layer)] = halves
        return pictures


def generator_groups(plan: Architecture) -> tuple[ChannelGroup, ...]:
    """All groups of a generator with these widths."""
    members: dict[str, list[Member]] = {"constant": [Member("generator.input.input", 1)]}
    widths = {"constant": plan.constant}
    for level, channels in enumerate(plan.encoder):
        widths[_encoder(plan, level)] = channels
        members[_encoder(plan, level)] = list(_encoder_members(plan, level))
    for layer, channels in enumerate(plan.styled):
        widths[_styled(layer)] = channels
        members[_styled(layer)] = [Member(f"{_module(layer)}.conv.weight", 1)]
    members["constant"] += _read_by(f"{_module(0)}.conv", 0)
    for layer, own in enumerate(plan.styled):
        bias = f"{_module(layer)}.activate.bias"
        for group, start in ((_styled(layer), 0), (_slot(plan, layer), own)):
            members[group] += [Member(bias, 0, start), *_readers(plan, layer, start)]
    return tuple(ChannelGroup(name, widths[name], tuple(found)) for name, found in members.items())


def _encoder_members(plan: Architecture, level: int) -> Iterator[Member]:
    convolution = 0 if level == 0 else 1  # behind the blur, which the first level lacks
    yield Member(f"ecd{level}.0.{convolution}.weight", 0)
    yield Member(f"ecd{level}.0.{convolution + 1}.bias", 0)
    if level + 1 < len(plan.encoder):
        yield Member(f"ecd{level + 1}.0.1.weight", 1, reads=True, fan_in=True)
    else:  # the linear layer reads the 4x4 picture flattened, channel by channel
        yield Member("final_linear.0.weight", 1, repeat=16, reads=True, fan_in=True)


def _readers(plan: Architecture, layer: int, start: int) -> Iterator[Member]:
    """Where a styled layer's picture is read: by the next layer, and by the RGB image."""
    if layer + 1 < len(plan.styled):
        yield from _read_by(f"{_module(layer + 1)}.conv", start)
    if layer % 2 == 0:
        picture = "generator.to_rgb1" if layer == 0 else f"generator.to_rgbs.{layer // 2 - 1}"
        yield from _read_by(f"{picture}.conv", start)


def _read_by(convolution: str, start: int) -> Iterator[Member]:
    """How a modulated convolution reads channels: columns of its weight, and a style for each."""
    yield Member(f"{convolution}.weight", 2, start, reads=True, fan_in=True)
    yield Member(f"{convolution}.modulation.weight", 0, start)
    yield Member(f"{convolution}.modulation.bias", 0, start)


def _slot(plan: Architecture, layer: int) -> str:
    """The group in a layer's noise slot: the encoder's; above its size noise, one channel for each of its own."""
    level = len(plan.encoder) - 1 - (layer + 1) // 2
    return _encoder(plan, level) if level >= 0 else _styled(layer)


def _encoder(plan: Architecture, level: int) -> str:
    return f"encoder_{plan.in_size >> level}"


def _styled(layer: int) -> str:
    return f"generator_{4 << (layer + 1) // 2}{'_up' if layer % 2 else ''}"


def _module(layer: int) -> str:
    return "generator.conv1" if layer == 0 else f"generator.convs.{layer - 1}"
