"""Builds one network: its graph in every precision, the engines of those, and the same of its lighter variants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import engines
from cameo.artifact import Artifact
from cameo.bundle import MODES
from cameo.errors import CheckpointError, EngineError, EngineUnavailable, PhotoError
from exporters.learn_int8 import LearnInt8
from exporters.prune_channels import MakeStudent, PruneChannels
from exporters.teaching import Photos, Teaching
from exporters.trainable import trainable_networks
from optimize.quantize_int8 import QuantizeInt8
from pipeline.calibration import calibration_photos
from pipeline.prune import fidelity
from pipeline.recipe import Model, Recipe
from pipeline.recommend import FEW_PHOTOS, INT8, with_recommendations
from pipeline.stage import Stage
from pipeline.store import Result, Store

Say = Callable[[str], None]


@dataclass(frozen=True)
class BuildOptions:
    """What a user may ask of a build. Without `engines`, every engine of the recipe that can be built here is.

    Without `precisions`, all of the recipe. `calibration` is the folder of photos for conversions, None the demo's.
    With `prune`, a share of channels, the bundle also gets the networks without them, in the mode "balanced"; with
    `fast`, depthwise-separable students (without those channels as well), in the mode "fast". In `recover_steps` steps
    each learns from the photos of `calibration` to draw what the original draws, and so does what becomes INT8. `parts`
    says by network which of the weights in its file are meant.
    """

    engines: tuple[str, ...] = ()
    targets: tuple[str, ...] = ("sm_86", "sm_89", "sm_120")
    precisions: tuple[str, ...] = ()
    calibration: Path | None = None
    prune: float = 0.0
    fast: bool = False
    recover_steps: int = 0
    parts: Mapping[str, str] = field(default_factory=dict)

    @property
    def learns_int8(self) -> bool:
        """Whether the weights of INT8 engines learn to live with it."""
        return INT8 in self.precisions and self.recover_steps > 0


@dataclass(frozen=True)
class Variant:
    """A form of a network: what it is called, and its mode."""

    name: str
    mode: str


ITSELF = Variant("", MODES[0])
"""The network as its authors ship it."""


@dataclass(frozen=True)
class Part:
    """One network, or a variant of it, built: its graphs in FP32 and in the precisions converted to, their engines."""

    recipe: Recipe
    weights: Artifact
    part: str
    variant: Variant
    precisions: tuple[str, ...]
    graphs: Mapping[str, Result]
    engines: Mapping[tuple[str, str], Result]


def check(model: Model, options: BuildOptions) -> None:
    """Raises CameoError if the model cannot be built like that."""
    networks = {recipe.network: recipe for recipe in model.recipes}
    for network, part in options.parts.items():
        if network not in networks:
            raise CheckpointError(f"{model.name} has no network '{network}': --part names one of {', '.join(networks)}")
        networks[network].exporter_of(part)
    known = dict.fromkeys(name for recipe in model.recipes for name in (*recipe.precisions, *recipe.on_request))
    for name in options.precisions:
        if name not in known:
            raise EngineError(f"{model.name} is not built in '{name}': choose from {', '.join(known)}")
    lighter = options.prune or options.fast
    if lighter and not any(recipe.network in trainable_networks() for recipe in model.recipes):
        raise CheckpointError(f"{model.name} cannot be pruned: choose a model of {', '.join(trainable_networks())}")
    if options.fast and not options.recover_steps:
        raise EngineError("a student that has not learned draws nothing: name the steps, --recover-steps 1500")
    if options.recover_steps and not (lighter or options.learns_int8):
        raise EngineError("there is nothing to recover: name --prune 0.3, --fast or --precision int8")
    if options.recover_steps and options.calibration is None:
        raise PhotoError("recovery learns from photos and got none: name a folder of them, --calibration")


def build_parts(
    recipe: Recipe, weights: Path, wanted: Iterable[str], options: BuildOptions, store: Store, say: Say
) -> Iterator[Part]:
    """The network as it is, and its variants if they are asked for and possible."""
    source = Artifact.of(weights) if weights.is_file() else Artifact(weights, "", "")
    builder = _Builder(recipe, tuple(wanted), options, store, say)
    itself = builder.part(ITSELF, source)
    yield itself
    for variant, stage in _lighter(recipe, options, store):
        made = store.run(stage, source)
        say(f"{recipe.network}, {variant.name}: {fidelity(made.facts)}")
        yield builder.part(variant, made.artifact, itself)


def _lighter(recipe: Recipe, options: BuildOptions, store: Store) -> Iterator[tuple[Variant, Stage]]:
    """The variants asked for, and the stage that makes the checkpoint of each."""
    if recipe.network not in trainable_networks():
        return
    photos = Photos() if options.calibration is None else Photos.of(options.calibration)
    network, part = recipe.network, options.parts.get(recipe.network, "")

    def teaching(variant: str, pace: float = Teaching.pace) -> Teaching:
        place = (store.folder / f"learning-{network}-{variant}").resolve()
        return Teaching(photos, options.recover_steps, pace, checkpoints=place)

    if options.prune:
        stage = PruneChannels(network, options.prune, teaching=teaching("pruned"), part=part)
        yield Variant("pruned", "balanced"), stage
    if options.learns_int8 and INT8 in recipe.on_request:
        yield Variant("qat", "balanced"), LearnInt8(network, teaching("qat", LearnInt8.PACE), part)
    if options.fast:
        yield Variant("student", "fast"), MakeStudent(network, options.prune, teaching=teaching("student"), part=part)


@dataclass(frozen=True)
class _Builder:
    """What the parts of one network have in common."""

    recipe: Recipe
    wanted: tuple[str, ...]
    options: BuildOptions
    store: Store
    say: Say

    def part(self, variant: Variant, source: Artifact, itself: Part | None = None) -> Part:
        """The variant whose checkpoint is `source`, with its graphs and engines; `itself` is the network as it is."""
        precisions, pairs = self._chosen(variant)
        of = self.options.parts.get(self.recipe.network, "") if itself is None else ""
        graphs = {"fp32": self._exported(source, of)}
        for precision in dict.fromkeys(wanted for _, wanted in pairs if wanted not in graphs):
            stage = self._converter(precision)
            if itself is not None and isinstance(stage, QuantizeInt8):
                stage = stage.against(itself.graphs["fp32"].artifact)
            graphs[precision] = self.store.run(stage, graphs["fp32"].artifact)

        def engine(name: str, precision: str) -> Result:
            return self.store.run(self.recipe.builder(name, self.options.targets), graphs[precision].artifact)

        built = {pair: engine(*pair) for pair in pairs}
        rivals = {**(itself.engines if itself else {}), **built}
        built = with_recommendations(self.recipe, built, rivals, engine, self.store, self.say)
        return Part(self.recipe, source, of, variant, precisions, graphs, built)

    def _exported(self, source: Artifact, part: str) -> Result:
        result = self.store.run(self.recipe.exporter_of(part), source)
        for stage in self.recipe.pass_stages():
            result = self.store.run(stage, result.artifact)
        return result

    def _converter(self, precision: str) -> Stage:
        photos = calibration_photos(self.options.calibration)
        if precision == INT8 and len(photos) < FEW_PHOTOS:
            few = f"{FEW_PHOTOS} photos or more make better INT8 than {len(photos)}"
            self.say(f"{self.recipe.network}: {few}: see --calibration")
        return self.recipe.converter(precision, photos)

    def _chosen(self, variant: Variant) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
        """The precisions to build, and each engine with the precision of a graph that it is built from.

        A companion that is built for none of the engines, or in none of the precisions asked for, still needs one: its
        first, which runs anywhere.
        """
        recipe = self.recipe
        names = [name for name in self.wanted if name in recipe.engines] or list(recipe.engines[:1])
        precisions = self._precisions(variant)
        if not precisions:
            names, precisions = list(recipe.engines[:1]), recipe.precisions[:1]
        pairs = [
            (name, graph)
            for name in names
            for graph, runs in engines.engine(name).PRECISIONS.items()
            if not set(runs).isdisjoint(precisions)
        ]
        if not pairs:
            raise EngineUnavailable(
                f"{recipe.network} has no engine in {', '.join(precisions)} among {', '.join(names)}: "
                "leave out --engines or --precision, or choose another"
            )
        return precisions, pairs

    def _precisions(self, variant: Variant) -> tuple[str, ...]:
        """INT8 is for one part of a network: what has learned to live with it, or else the network itself."""
        recipe, asked = self.recipe, self.options.precisions
        known = (*recipe.precisions, *recipe.on_request)
        chosen = tuple(p for p in known if p in asked) if asked else recipe.precisions
        learner = "qat" if self.options.learns_int8 and recipe.network in trainable_networks() else ITSELF.name
        if variant.name == "qat":
            return (INT8,)
        without = tuple(p for p in chosen if p != INT8)
        return chosen if variant.name == learner else (without or recipe.precisions)
