"""Checkpoint → narrower checkpoint: channels pruned, and what that cost in fidelity learned again from the original.

The result is a checkpoint like any other of its family: a frozen `.pb` for DCT-Net, a state dict for GPEN. A student's
convolutions are depthwise-separable as well. Pruning is `compress/pruning`, learning `compress/teaching.py`; what a
family says about itself is handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compress.teaching import Teaching, identity_of, write_record
from compress.trainable import Handed, Trainable
from compress.variants import Wish

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compress.recovery.photos import PhotoSet

VARIANT, MODE, PRECISIONS = "pruned", "balanced", ()
COUNTED_SIZE = (720, 960)
TAYLOR_BATCHES = 4


@dataclass(frozen=True)
class PruneChannels:
    """A network without the least important `ratio` of its channels, taught by the one that has them all.

    `stages` are ratios for groups by name or pattern, `multiple` what widths are rounded down to. Importance "auto" is
    "taylor" where there are photos, else "l2". `part` names the weights in a file that has several.
    """

    network: Handed
    ratio: float
    stages: Mapping[str, float] = field(default_factory=dict)
    multiple: int = 8
    importance: Literal["auto", "l2", "taylor"] = "auto"
    teaching: Teaching = field(default_factory=Teaching)
    part: str = ""

    separable: ClassVar[bool] = False
    name: ClassVar[str] = "prune-channels"
    output: ClassVar[str] = "checkpoint"
    tools: ClassVar[tuple[str, ...]] = ("torch", "tensorflow-cpu")

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the checkpoint; return widths, parameters, multiplications, and held-out fidelity where photos are.

        Raises:
            CheckpointError: `source` is not a checkpoint of this network, or the network cannot be pruned.
            PhotoError: photos are needed, and there are too few.
            CameoError: a ratio would leave a layer empty.
        """
        from compress.pruning.channels import Ratios, choose, prune
        from compress.pruning.cost import macs, parameters
        from compress.recovery.feeds import in_torch
        from compress.recovery.losses import kept_channels

        form = self.network.form
        original = form.load(source, self.part)
        photos = self.teaching.read(self.network) if self._needs_photos else None
        groups = form.groups(original)
        kept = choose(groups, Ratios(self.ratio, self.stages, self.multiple), self._importance(form, original, photos))
        light = form.rebuild(prune(original.state_dict(), groups, kept))
        if self.separable:
            light = form.separated(light)
        feeds = in_torch([self.network.examples.of_noise(form.inputs, self.size)])
        facts: dict[str, Any] = {
            "pruned": self.ratio,
            "separable": self.separable,
            "widths": {group.name: [group.channels, len(kept[group.name])] for group in groups},
            "parameters": [parameters(original), parameters(light)],
            "macs": [macs(network, form.run, feeds) for network in (original, light)],
            "size": self.size,
        }
        if photos is not None:
            channels = kept_channels(form.features(original), kept)
            facts |= self.teaching.teach(self.network, original, light, photos, identity_of(self, source), channels)
        form.save(light, out)
        write_record(facts, out)
        return facts

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The family's modules."""
        return self.network.rests_on

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image that costs are counted for."""
        side = self.network.form.side
        return (side, side) if side else COUNTED_SIZE

    @property
    def _needs_photos(self) -> bool:
        return bool(self.teaching.photos.files or self.teaching.steps or self.importance == "taylor")

    def _importance(self, form: Trainable, original: nn.Module, photos: PhotoSet | None) -> dict[str, Tensor]:
        from compress.pruning.importance import group_l2, taylor

        groups = form.groups(original)
        if photos is None or self.importance == "l2":
            return group_l2(original, groups)
        batches = self.teaching.examples(self.network, photos, TAYLOR_BATCHES)
        return taylor(original, lambda feeds: form.run(original, feeds), groups, batches, self.teaching.seed)


def stage(network: Handed, wish: Wish) -> PruneChannels | None:
    """The stage of this variant, if channels are to be pruned."""
    if not wish.prune:
        return None
    return PruneChannels(network, wish.prune, teaching=wish.teaching(network, VARIANT), part=wish.part)
