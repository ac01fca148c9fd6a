"""Builds one network: its graph in every precision, the engines of those, and the same of its lighter forms."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import engines
import exporters
from cameo.artifact import Artifact
from cameo.errors import CheckpointError, EngineUnavailable, RequestError
from cameo.modes import MODES
from compress.teaching import Photos
from compress.variants import Wish, variants
from exporters.recipe import Model, Recipe
from pipeline.calibration import calibration_photos
from pipeline.prune import fidelity
from pipeline.recommend import FEW_PHOTOS, INT8, with_recommendations
from pipeline.stage import Stage
from pipeline.stages import builder, converter, exporter_of, graph_of
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
class Form:
    """A form of a network: what it is called, its mode, and the precisions that it alone is built in, if any."""

    name: str
    mode: str
    precisions: tuple[str, ...] = ()


ITSELF = Form("", MODES[0])
"""The network as its authors ship it."""


@dataclass(frozen=True)
class Part:
    """One network, or a variant of it, built: its graphs in FP32 and in the precisions converted to, their engines."""

    recipe: Recipe
    weights: Artifact
    part: str
    form: Form
    precisions: tuple[str, ...]
    graphs: Mapping[str, Result]
    engines: Mapping[tuple[str, str], Result]


def check(model: Model, options: BuildOptions) -> None:
    """Raises CameoError if the model cannot be built like that."""
    for network, part in options.parts.items():
        if network not in model.networks:
            known_networks = ", ".join(model.networks)
            raise CheckpointError(f"{model.name} has no network '{network}': --part names one of {known_networks}")
        exporter_of(network, part)
    recipes = [exporters.recipe_of(network) for network in model.networks]
    known = dict.fromkeys(name for recipe in recipes for name in (*recipe.precisions, *recipe.on_request))
    for name in options.precisions:
        if name not in known:
            raise RequestError(f"{model.name} is not built in '{name}': choose from {', '.join(known)}")
    lighter = options.prune or options.fast
    trainable = exporters.trainable_networks()
    if lighter and not set(model.networks) & set(trainable):
        raise CheckpointError(f"{model.name} cannot be pruned: choose a model of {', '.join(trainable)}")
    if options.fast and not options.recover_steps:
        raise RequestError("a student that has not learned draws nothing: name the steps, --recover-steps 1500")
    if options.recover_steps and not (lighter or options.learns_int8):
        raise RequestError("there is nothing to recover: name --prune 0.3, --fast or --precision int8")
    if options.recover_steps and options.calibration is None:
        raise RequestError("recovery learns from photos and got none: name a folder of them, --calibration")


def build_parts(
    recipe: Recipe, source: Artifact, wanted: Iterable[str], options: BuildOptions, store: Store, say: Say
) -> Iterator[Part]:
    """The network as it is, and its variants if they are asked for and possible."""
    lighter = dict(_lighter(recipe, options, store))
    builder = _Builder(recipe, tuple(wanted), tuple(lighter), options, store, say)
    itself = builder.part(ITSELF, source)
    yield itself
    for form, stage in lighter.items():
        made = store.run(stage, source)
        say(f"{recipe.network}, {form.name}: {fidelity(made.facts)}")
        yield builder.part(form, made.artifact, itself)


def _lighter(recipe: Recipe, options: BuildOptions, store: Store) -> Iterator[tuple[Form, Stage]]:
    """The forms asked for, and the stage that makes the checkpoint of each."""
    if recipe.network not in exporters.trainable_networks():
        return
    photos = Photos() if options.calibration is None else Photos.of(options.calibration)
    learns = options.learns_int8 and INT8 in recipe.on_request
    part = options.parts.get(recipe.network, "")
    wish = Wish(options.prune, options.fast, learns, photos, options.recover_steps, store.folder, part)
    for variant in variants():
        stage = variant.stage(exporters.trainable(recipe.network), wish)
        if stage is not None:
            yield Form(variant.VARIANT, variant.MODE, variant.PRECISIONS), stage


@dataclass(frozen=True)
class _Builder:
    """What the parts of one network have in common."""

    recipe: Recipe
    wanted: tuple[str, ...]
    lighter: tuple[Form, ...]
    options: BuildOptions
    store: Store
    say: Say

    def part(self, form: Form, source: Artifact, itself: Part | None = None) -> Part:
        """The form whose checkpoint is `source`, with its graphs and engines; `itself` is the network as it is."""
        precisions, pairs = self._chosen(form)
        of = self.options.parts.get(self.recipe.network, "") if itself is None else ""
        graphs = {"fp32": graph_of(self.recipe.network, source, self.store, of)}
        original = itself.graphs["fp32"].artifact if itself else None
        for precision in dict.fromkeys(wanted for _, wanted in pairs if wanted not in graphs):
            graphs[precision] = self.store.run(self._converter(precision, original), graphs["fp32"].artifact)

        def engine(name: str, precision: str) -> Result:
            return self.store.run(builder(self.recipe, name, self.options.targets), graphs[precision].artifact)

        built = {pair: engine(*pair) for pair in pairs}
        rivals = {**(itself.engines if itself else {}), **built}
        built = with_recommendations(self.recipe, built, rivals, engine, self.store, self.say)
        return Part(self.recipe, source, of, form, precisions, graphs, built)

    def _converter(self, precision: str, original: Artifact | None) -> Stage:
        photos = calibration_photos(self.options.calibration)
        if precision == INT8 and len(photos) < FEW_PHOTOS:
            few = f"{FEW_PHOTOS} photos or more make better INT8 than {len(photos)}"
            self.say(f"{self.recipe.network}: {few}: see --calibration")
        return converter(self.recipe, precision, photos, original)

    def _chosen(self, form: Form) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
        """The precisions to build, and each engine with the precision of a graph that it is built from.

        A companion that is built for none of the engines, or in none of the precisions asked for, still needs one: its
        first, which runs anywhere.
        """
        recipe = self.recipe
        names = [name for name in self.wanted if name in recipe.engines] or list(recipe.engines[:1])
        precisions = self._precisions(form)
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

    def _precisions(self, form: Form) -> tuple[str, ...]:
        """INT8 is for one form of a network: what has learned to live with it, or else the network itself."""
        if form.precisions:
            return form.precisions
        recipe, asked = self.recipe, self.options.precisions
        known = (*recipe.precisions, *recipe.on_request)
        chosen = tuple(p for p in known if p in asked) if asked else recipe.precisions
        elsewhere = {p for other in self.lighter for p in other.precisions} if form is ITSELF else {INT8}
        without = tuple(p for p in chosen if p not in elsewhere)
        return without or (recipe.precisions if elsewhere else chosen)
