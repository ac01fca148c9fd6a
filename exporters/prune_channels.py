"""Checkpoint → narrower checkpoint: channels pruned, and what that cost in fidelity learned again from the original.

The result is a checkpoint like any other of its family: a frozen `.pb` for DCT-Net, a state dict for GPEN. Pruning is
`optimize/pruning`, recovery `optimize/recovery`; what a family says about itself is in `exporters/trainable`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import TypeAdapter

from cameo.artifact import sha256_of
from exporters.trainable import Trainable, trainable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from optimize.pruning.groups import Kept
    from optimize.recovery.photos import PhotoSet
    from optimize.recovery.training import Plan

log = logging.getLogger(__name__)

RECORD = "pruning.json"
"""Written beside the checkpoint: the facts that the stage returns."""
COUNTED_SIZE = (720, 960)
TAYLOR_BATCHES = 4
_TAYLOR_STEP = 10**9  # batches that training never sees
_BATCH_PIXELS = 8 * 96 * 96  # what a step costs, whatever the size of the network's image


@dataclass(frozen=True)
class Photos:
    """Photos without labels, with the hashes of their files."""

    files: tuple[Path, ...] = ()
    hashes: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: Path) -> Photos:
        """The photos in a folder, as they are now."""
        from optimize.recovery.photos import photo_files

        files = photo_files(folder)
        return cls(tuple(file.resolve() for file in files), tuple(map(sha256_of, files)))


@dataclass(frozen=True)
class PruneChannels:
    """A network without the least important `ratio` of its channels; `recover_steps` of distillation behind it.

    `stages` are ratios for groups by name or pattern, `multiple` what widths are rounded down to. Importance "auto" is
    "taylor" where there are photos, else "l2".
    `checkpoints` is where a recovery that was killed finds its state again.
    """

    network: str
    ratio: float
    stages: Mapping[str, float] = field(default_factory=dict)
    multiple: int = 8
    importance: Literal["auto", "l2", "taylor"] = "auto"
    photos: Photos = Photos()
    recover_steps: int = 0
    learning_rate: float = 1e-3
    patch: int = 96
    seed: int = 0
    checkpoints: Path = Path(".")

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
        from optimize.pruning.channels import Ratios, choose, prune
        from optimize.pruning.cost import macs, parameters

        form = trainable(self.network)
        original = form.load(source)
        photos = self._photos(form)
        groups = form.groups(original)
        kept = choose(groups, Ratios(self.ratio, self.stages, self.multiple), self._importance(form, original, photos))
        narrow = form.rebuild(prune(original.state_dict(), groups, kept))
        facts = {
            "pruned": self.ratio,
            "widths": {group.name: [group.channels, len(kept[group.name])] for group in groups},
            "parameters": [parameters(original), parameters(narrow)],
            "macs": [macs(network, form.run, self.size) for network in (original, narrow)],
            "size": self.size,
            **self._taught(form, original, narrow, kept, photos, source),
        }
        form.save(narrow, out)
        out.with_name(RECORD).write_text(json.dumps(facts, indent=2) + "\n")
        return facts

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image that costs are counted for."""
        side = trainable(self.network).side
        return (side, side) if side else COUNTED_SIZE

    def _photos(self, form: Trainable) -> PhotoSet | None:
        from optimize.recovery.photos import read_photos

        if not self.photos.files and not self.recover_steps and self.importance != "taylor":
            return None
        found = read_photos(self.photos.files, self._side(form))
        for name, reason in found.skipped.items():
            log.warning("left out %s: %s", name, reason)
        return found

    def _side(self, form: Trainable) -> int:
        return form.side or max(form.multiple, self.patch // form.multiple * form.multiple)

    def _importance(self, form: Trainable, original: nn.Module, photos: PhotoSet | None) -> dict[str, Tensor]:
        from optimize.pruning.importance import group_l2, taylor
        from optimize.recovery.distil import to_levels

        groups = form.groups(original)
        if photos is None or self.importance == "l2":
            return group_l2(original, groups)
        crops = self._crops(form, photos)
        batches = (to_levels(crops.batch(_TAYLOR_STEP + index)) for index in range(TAYLOR_BATCHES))
        return taylor(original, lambda levels: form.run(original, levels), groups, batches, self.seed)

    def _crops(self, form: Trainable, photos: PhotoSet) -> Any:
        from optimize.recovery.photos import Crops

        side = self._side(form)
        batch_size = max(1, _BATCH_PIXELS // side**2)
        return Crops(photos.training, side, batch_size, whole=form.side is not None, seed=self.seed)

    def _taught(
        self, form: Trainable, original: nn.Module, narrow: nn.Module, kept: Kept, photos: PhotoSet | None, source: Path
    ) -> dict[str, Any]:
        """Teach `narrow` in place; return what it was worth before and after, on photos that it did not learn from."""
        if photos is None:
            return {}
        from optimize.recovery.distil import Lesson, device_of_choice, held_out_psnr, kept_channels, to_levels
        from optimize.recovery.photos import held_out_views
        from optimize.recovery.training import train

        device = device_of_choice()
        original.requires_grad_(False).to(device)
        narrow.to(device)
        views = held_out_views(photos.held_out, self._side(form), form.multiple, form.side is not None)
        held_out = [to_levels(view[None], device) for view in views]
        fidelity = held_out_psnr(original, narrow, form.run, held_out)
        facts: dict[str, Any] = {
            "photos": {"training": len(photos.training), "held_out": len(held_out), "skipped": photos.skipped},
            "held_out_psnr_pruned": round(fidelity(), 3),
        }
        if self.recover_steps:
            lesson = Lesson(original, narrow, form.run, kept_channels(form.features(original), kept))
            crops, plan = self._crops(form, photos), self._plan(source)
            done = train(
                narrow,
                lambda step: lesson.loss(to_levels(crops.batch(step), device), step / plan.steps),
                fidelity,
                plan,
                self.checkpoints,
            )
            facts |= {"held_out_psnr_recovered": round(done.best, 3), "steps": done.step, "best_step": done.best_step}
        narrow.to("cpu")
        return facts

    def _plan(self, source: Path) -> Plan:
        from optimize.recovery.training import Plan

        parameters = TypeAdapter(type(self)).dump_json(self)
        identity = hashlib.sha256(parameters + sha256_of(source).encode()).hexdigest()
        return Plan(self.recover_steps, self.learning_rate, identity=identity)
