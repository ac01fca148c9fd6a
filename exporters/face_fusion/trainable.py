"""The fusion generator: checkpoint, torch form for training, checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from cameo.errors import CheckpointError
from cameo.tensors import TensorSpec
from compress.pruning.groups import ChannelGroup, Member
from compress.trainable import ONE_IMAGE
from exporters.face_fusion.export_generator import SIZE, load_generator

if TYPE_CHECKING:
    from torch import Tensor, nn

    from exporters.face_fusion.network import FusionGenerator

NETWORKS = ("fusion-generator",)


def trainable(network: str) -> TrainableGenerator:
    """The torch form of the generator."""
    return TrainableGenerator(network)


class TrainableGenerator:
    """The generator as torch module; see `compress.trainable.Trainable`."""

    inputs = (
        *ONE_IMAGE,
        TensorSpec("identity", "float32", ("N", 512)),
        TensorSpec("keypoints_fused", "float32", ("N", 17, 2)),
        TensorSpec("keypoints_target", "float32", ("N", 17, 2)),
    )
    suffix = ".pt"
    side = SIZE
    multiple = 1
    learning_rate = 1e-3

    def __init__(self, network: str) -> None:
        self._network = network

    def load(self, path: Path, part: str = "") -> nn.Module:
        """The generator of a checkpoint.

        Raises:
            CheckpointError: not a checkpoint of this network.
        """
        from exporters.face_fusion.training_form import folded

        return folded(load_generator(path, self._network, part))

    def rebuild(self, state: Mapping[str, Tensor]) -> nn.Module:
        """A generator with these weights, which give its widths."""
        from exporters.checkpoints.torch_checkpoint import shapes_of
        from exporters.face_fusion.network import Architecture, FusionGenerator
        from exporters.face_fusion.training_form import plain

        network = FusionGenerator.without_weights(Architecture.from_shapes(shapes_of(state)))
        network.load_state_dict({key: tensor.clone() for key, tensor in state.items()}, assign=True)
        return plain(network)

    def separated(self, network: nn.Module) -> nn.Module:
        """Raises CheckpointError: it is normalised pixel by pixel, and no student of it was tried."""
        raise CheckpointError(f"{self._network} has no depthwise-separable student: prune it (--prune) instead")

    def save(self, network: nn.Module, path: Path) -> None:
        """Write the state dict as its authors do."""
        from exporters.checkpoints.torch_checkpoint import save_checkpoint
        from exporters.face_fusion.training_form import unfolded

        save_checkpoint({"state_dict": unfolded(cast("FusionGenerator", network))}, path)

    def run(self, network: nn.Module, feeds: Mapping[str, Tensor]) -> Tensor:
        """The fused face as RGB levels."""
        others = [feeds[name] for name in ("identity", "keypoints_fused", "keypoints_target")]
        return cast("Tensor", network(feeds["image"] / 127.5 - 1, *others)) * 127.5 + 127.5

    def groups(self, network: nn.Module) -> tuple[ChannelGroup, ...]:
        """All channels but those of the pictures that it takes and gives."""
        from exporters.face_fusion.channels import generator_groups

        return generator_groups(cast("FusionGenerator", network).architecture)

    def features(self, network: nn.Module) -> Mapping[str, tuple[Member, ...]]:
        """What the encoder's levels, the hourglass's and the blocks draw."""
        from exporters.face_fusion.channels import decoder_group, drawn_group, encoder_group

        plan = cast("FusionGenerator", network).architecture
        hourglass = "dense_motion_network.hourglass"
        return {
            **{f"encoder.conv{n}": (Member(encoder_group(n), 1),) for n in range(1, len(plan.encoder) + 1)},
            **{f"encoder.deconv{n}": (Member(decoder_group(n), 1),) for n in range(1, len(plan.decoder) + 1)},
            **{f"generator.AADBlk{n}": (Member(drawn_group(plan, n + 1), 1),) for n in range(1, len(plan.blocks))},
            **{
                f"{hourglass}.encoder.down_blocks.{n}": (Member(f"motion_down_{n}", 1),)
                for n in range(len(plan.motion_down))
            },
            **{
                f"{hourglass}.decoder.up_blocks.{n}": (Member(f"motion_up_{n}", 1),) for n in range(len(plan.motion_up))
            },
        }
