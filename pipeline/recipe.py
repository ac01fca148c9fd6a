"""How networks go from checkpoint to engines, and how networks make up a model."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import engines
import exporters
import optimize
from cameo.errors import CameoError
from engines import EngineOptions, InputRange
from exporters.checkpoint_parts import no_parts
from optimize.precision.calibration import Calibration
from pipeline.stage import Stage
from validate.inputs import Sizes
from validate.measurement import Gate

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
    """How one network goes from checkpoint to engines: exporter, passes, builders, gates.

    `sizes` are where a network that takes any size is compared with its original. `on_request` are precisions that are
    built only when they are asked for.
    """

    network: str
    passes: tuple[str, ...]
    engines: tuple[str, ...]
    ranges: tuple[InputRange, ...]
    gates: tuple[Gate, ...] = ()
    precisions: tuple[str, ...] = ("fp32", "bf16")
    optional: bool = False
    sizes: Sizes = field(default_factory=Sizes)
    on_request: tuple[str, ...] = ()

    @property
    def exporter(self) -> Stage:
        """The stage that turns the checkpoint into ONNX."""
        return cast(Stage, exporters.family_of(self.network).exporter(self.network))

    def exporter_of(self, part: str) -> Stage:
        """The exporter that reads one part of a checkpoint; "" is the one to be read if nobody says.

        Raises:
            CheckpointError: checkpoints of this network have no parts.
        """
        stage: Any = self.exporter
        if part and not hasattr(stage, "part"):
            raise no_parts(self.network, part)
        return cast(Stage, replace(stage, part=part) if part else stage)

    @property
    def weight_files(self) -> tuple[str, ...]:
        """The file names under which the authors publish this network's weights."""
        return cast(tuple[str, ...], exporters.family_of(self.network).NETWORKS[self.network])

    def pass_stages(self) -> list[Stage]:
        """The passes, in order."""
        return [optimize.graph_pass(name) for name in self.passes]

    def converter(self, precision: str, photos: Sequence[Path]) -> Stage:
        """The stage that converts the FP32 graph to `precision`, as faithful on these photos as the gates want it.

        Networks that take any size are calibrated at the one that their first input range is made for.
        """
        size = self.ranges[0].opt[1:3] if self.ranges else Calibration.size
        limits = [gate.limit for gate in self.gates if gate.metric == "psnr" and gate.precision == precision]
        module = optimize.conversion_to(precision)
        return cast(Stage, module.conversion(Calibration.of(photos, size), *limits))

    def builder(self, engine: str, targets: tuple[str, ...]) -> Stage:
        """The stage that builds one engine of this network."""
        return cast(Stage, engines.engine(engine).builder(EngineOptions(self.ranges, targets)))


@dataclass(frozen=True)
class Model:
    """A bundle's worth of networks with the photo-in-photo-out flow that uses them.

    `assets` names files of the weights folder that the flow needs besides networks; a missing one is left out.
    `stand_ins` says in one sentence what the flow does without an optional network. `flow_gates` are about the whole
    flow's result, photo in and photo out, which is compared with the original's under `flow_options`.
    """

    name: str
    flow: str
    recipes: tuple[Recipe, ...]
    assets: Mapping[str, str] = field(default_factory=dict)
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    flow_gates: tuple[Gate, ...] = ()
    flow_options: Mapping[str, object] = field(default_factory=dict)


def models() -> Mapping[str, Model]:
    """Every model by name: one per file of `pipeline/recipes/`."""
    from pipeline import recipes

    found = (importlib.import_module(f"{recipes.__name__}.{m.name}") for m in pkgutil.iter_modules(recipes.__path__))
    return {model.name: model for module in found for model in module.MODELS}


def recipe(network: str) -> Recipe:
    """The recipe of the network called `network`.

    Raises:
        CameoError: no model has such a network.
    """
    known = {recipe.network: recipe for model in models().values() for recipe in model.recipes}
    if network not in known:
        raise CameoError(f"there is no network '{network}': choose one of {', '.join(known)}")
    return known[network]


def model(name: str) -> Model:
    """The model called `name`.

    Raises:
        CameoError: there is none.
    """
    known = models()
    if name not in known:
        raise CameoError(f"there is no model '{name}': choose one of {', '.join(known)}")
    return known[name]
