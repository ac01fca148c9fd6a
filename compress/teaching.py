"""How stages teach a lighter network to draw what the original draws, from photos without labels.

The loop is `compress/recovery`; here are its photos, its parameters, and what it reports.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from cameo.artifact import sha256_of
from cameo.images import photos_in
from compress.trainable import Handed, Trainable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compress.recovery.feeds import Feeds
    from compress.recovery.photos import Crops, PhotoSet

log = logging.getLogger(__name__)

RECORD = "recovery.json"
"""Written beside a checkpoint: the facts that its stage returns."""
_BATCH_PIXELS = 8 * 96 * 96  # what a step costs, whatever the size of the network's image
_OTHER_STEPS = 10**9  # batches that training never sees


@dataclass(frozen=True)
class Photos:
    """Photos without labels, with the hashes of their files."""

    files: tuple[Path, ...] = ()
    hashes: tuple[str, ...] = ()

    @classmethod
    def of(cls, folder: Path) -> Photos:
        """The photos in a folder, as they are now."""
        files = photos_in(folder)
        return cls(tuple(file.resolve() for file in files), tuple(map(sha256_of, files)))


@dataclass(frozen=True)
class Teaching:
    """Photos, and how long and how fast a network learns from them; 0 steps only measure.

    `pace` is the share of the family's learning rate, `checkpoints` where a run that was killed finds its state again.
    Networks that take any size see crops of `patch` pixels.
    """

    photos: Photos = Photos()
    steps: int = 0
    pace: float = 1.0
    patch: int = 96
    seed: int = 0
    checkpoints: Path = Path(".")

    def read(self, network: Handed) -> PhotoSet:
        """The photos that can be used, some of them held out.

        Raises:
            PhotoError: there are too few.
        """
        from compress.recovery.photos import read_photos

        found = read_photos(self.photos.files, self._side(network.form))
        for name, reason in found.skipped.items():
            log.warning("left out %s: %s", name, reason)
        return found

    def examples(self, network: Handed, photos: PhotoSet, count: int) -> Iterator[Feeds]:
        """Batches to measure on, which training does not see."""
        from compress.recovery.feeds import feeds_of

        crops = self._crops(network.form, photos)
        return (feeds_of(network, list(crops.batch(_OTHER_STEPS + index))) for index in range(count))

    def teach(
        self,
        network: Handed,
        original: nn.Module,
        student: nn.Module,
        photos: PhotoSet,
        identity: str,
        channels: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Any]:
        """Teach `student` in place; return what it was worth before and after, on photos that it did not learn from.

        `identity` names all that the run rests on, `channels` the original's channels that the student's inner pictures
        have to resemble, by module name.
        """
        from compress.recovery.feeds import device_of_choice, feeds_of
        from compress.recovery.losses import Lesson, held_out_psnr
        from compress.recovery.photos import held_out_views
        from compress.recovery.training import Plan, train

        form, device = network.form, device_of_choice()
        original.requires_grad_(False).to(device)
        student.to(device)
        views = held_out_views(photos.held_out, self._side(form), form.multiple, form.side is not None)
        held_out = [feeds_of(network, [view], device) for view in views]
        fidelity = held_out_psnr(original, student, form.run, held_out)
        facts: dict[str, Any] = {
            "photos": {"training": len(photos.training), "held_out": len(held_out), "skipped": photos.skipped},
            "held_out_psnr_before": round(fidelity(), 3),
        }
        if self.steps:
            lesson, crops = Lesson(original, student, form.run, channels or {}), self._crops(form, photos)
            plan = Plan(self.steps, self.pace * form.learning_rate, identity=identity)
            done = train(
                student,
                lambda step: lesson.loss(feeds_of(network, list(crops.batch(step)), device), step / plan.steps),
                fidelity,
                plan,
                self.checkpoints,
            )
            facts |= {"held_out_psnr_after": round(done.best, 3), "steps": done.step, "best_step": done.best_step}
        student.to("cpu")
        original.to("cpu")
        return facts

    def _side(self, form: Trainable) -> int:
        return form.side or max(form.multiple, self.patch // form.multiple * form.multiple)

    def _crops(self, form: Trainable, photos: PhotoSet) -> Crops:
        from compress.recovery.photos import Crops

        side = self._side(form)
        batch_size = max(1, _BATCH_PIXELS // side**2)
        return Crops(photos.training, side, batch_size, whole=form.side is not None, seed=self.seed)


def identity_of(stage: object, source: Path) -> str:
    """A hash of a stage's parameters and of what it starts from."""
    parameters = TypeAdapter(type(stage)).dump_json(stage)
    return hashlib.sha256(parameters + sha256_of(source).encode()).hexdigest()


def write_record(facts: Mapping[str, Any], checkpoint: Path) -> None:
    """Write the facts beside a checkpoint."""
    checkpoint.with_name(RECORD).write_text(json.dumps(facts, indent=2) + "\n")
