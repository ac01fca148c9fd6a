"""Checkpoint → checkpoint whose convolutions bear INT8: quantisation-aware recovery.

The weights learn, from photos without labels, to draw what the original draws although every convolution rounds
(`compress/recovery/fake_quant.py`). The result is a checkpoint like any other, which is exported and quantised as any
other; its thresholds are chosen then.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from compress.teaching import Teaching, identity_of, write_record
from compress.trainable import Handed
from compress.variants import Wish

VARIANT, MODE, PRECISIONS = "qat", "balanced", ("int8",)
THRESHOLD_BATCHES = 8


@dataclass(frozen=True)
class LearnInt8:
    """A network that has learned to live with INT8, taught by itself before it had to; `part` as in PruneChannels."""

    network: Handed
    teaching: Teaching
    part: str = ""

    PACE: ClassVar[float] = 0.1  # it only has to move weights by parts of a step
    name: ClassVar[str] = "learn-int8"
    output: ClassVar[str] = "checkpoint"
    tools: ClassVar[tuple[str, ...]] = ("torch", "tensorflow-cpu")

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The family's modules."""
        return self.network.rests_on

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the checkpoint; return the fidelity in fake INT8 before and after, on held-out photos.

        Raises:
            CheckpointError: `source` is not a checkpoint of this network, or the network cannot be taught.
            PhotoError: there are too few photos.
        """
        from compress.recovery.fake_quant import FakeQuantized

        form = self.network.form
        original = form.load(source, self.part)
        learner = deepcopy(original)
        photos = self.teaching.read(self.network)
        student = FakeQuantized(learner, form.run, self.teaching.examples(self.network, photos, THRESHOLD_BATCHES))
        facts: dict[str, Any] = {"quantized": "int8", "convolutions": student.thresholds.numel()}
        facts |= self.teaching.teach(self.network, original, student, photos, identity_of(self, source))
        form.save(learner, out)
        write_record(facts, out)
        return facts


def stage(network: Handed, wish: Wish) -> LearnInt8 | None:
    """The stage of this variant, if INT8 is to be learned."""
    if set(PRECISIONS).isdisjoint(wish.precisions):
        return None
    return LearnInt8(network, wish.teaching(network, VARIANT, LearnInt8.PACE), wish.part)
