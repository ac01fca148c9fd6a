"""What families say of how their networks become engines, and how networks make up a model. Nothing is run here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engines import InputRange
from exporters.family import WeightFiles
from exporters.published import Figures, Source
from metrics.measurement import Gate
from metrics.sizes import Sizes

STANDARD_PASSES = (
    "simplify-graph",
    "fuse-box-filter",
    "fix-resize-scales",
    "fuse-channel-shuffle",
    "clean-layout",
    "stack-moments",
)
"""Passes that change no result beyond rounding: what every graph gets first."""

GENERATOR_ENGINES = ("onnxruntime", "openvino", "tensorrt-rtx", "tensorrt")
GENERATOR_PRECISIONS = ("fp32", "bf16", "fp16")
ON_REQUEST = ("int8",)
"""Takes minutes, shows, and is not faster everywhere: the build measures (docs/decisions/058)."""

LIGHTER_GATES = (
    Gate("psnr", 36, precision="int8", mode="balanced"),
    Gate("psnr", 34, mode="balanced"),
    Gate("psnr", 30, mode="fast"),
)
"""What a picture that INT8, pruned networks and students draw must reach, of a network or of the whole flow."""


def picture_gates(fp16_psnr: float) -> tuple[Gate, ...]:
    """What a network that draws must reach against its original, which is in FP32.

    An FP32 engine may differ by one level where rounding lands on the other side of an integer.
    """
    return (
        Gate("max_difference", 1, precision="fp32"),
        Gate("changed_share", 0.1, precision="fp32"),
        Gate("psnr", 45, precision="bf16"),
        Gate("psnr", fp16_psnr, precision="fp16"),
        Gate("ssim", 0.97, precision="int8", mode="balanced"),
        *LIGHTER_GATES,
    )


@dataclass(frozen=True)
class Recipe:
    """How one network goes from checkpoint to engines: passes, engines, what they are built for, gates.

    `sizes` are where a network that takes any size is compared with its original. `on_request` are precisions that are
    built only when they are asked for, `withheld` those that are not even then, with what the user is told about it.
    """

    network: str
    passes: tuple[str, ...]
    engines: tuple[str, ...]
    ranges: tuple[InputRange, ...]
    gates: tuple[Gate, ...] = ()
    precisions: tuple[str, ...] = ("fp32", "bf16")
    sizes: Sizes = field(default_factory=Sizes)
    on_request: tuple[str, ...] = ()
    withheld: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Model:
    """A bundle's worth of networks, of any family, with the flow that uses them.

    `files` says of a network how its files are called in this model's folder, where its family's names are not enough
    or are another network's. `assets` names pictures of that folder that the flow needs besides networks; each may be
    missing. `stand_ins` says of every asset, and every network that may be missing, what the flow does without it.
    `flow_gates` are about the whole flow's result, which is compared with the original's under `declaring`. `source` is
    where the authors' files can be fetched, `figures` what others published of the whole model.
    """

    name: str
    flow: str
    networks: tuple[str, ...]
    files: Mapping[str, WeightFiles] = field(default_factory=dict)
    assets: Mapping[str, str] = field(default_factory=dict)
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    flow_gates: tuple[Gate, ...] = ()
    declaring: Mapping[str, object] = field(default_factory=dict)
    source: Source | None = None
    figures: Figures | None = None
