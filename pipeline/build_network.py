"""Builds one network: its graph in every precision, the engines of those, and the same of its lighter forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import engines
import exporters
from cameo.artifact import Artifact
from cameo.errors import EngineUnavailable
from cameo.modes import MODES
from compress.teaching import Photos
from compress.variants import Wish, learnable, variants
from exporters.recipe import Recipe
from optimize import conversion_to
from pipeline.calibration import calibration_photos
from pipeline.prune import fidelity
from pipeline.recipe_stages import builder, converter, graph_of
from pipeline.recommend import with_recommendations
from pipeline.stage import Stage, check_fields
from pipeline.store import Result, Store

Say = Callable[[str], None]


@dataclass(frozen=True)
class BuildOptions:
    """What a user may ask of a build. Without `engines`, every engine of the recipe that can be built here is.

    Without `precisions`, all of the recipe. `calibration` is the folder of photos for conversions, None the demo's.
    With `prune`, a share of channels, the bundle also gets the networks without them, in the mode "balanced"; with
    `fast`, depthwise-separable students (without those channels as well), in the mode "fast". In `recover_steps` steps
    each learns from the photos of `calibration` to draw what the original draws, and so do weights for a precision that
    can be learned. `parts` says by network which of the weights in its file are meant.
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
    def learned(self) -> tuple[str, ...]:
        """The precisions that weights learn to live with."""
        return tuple(p for p in self.precisions if p in learnable()) if self.recover_steps else ()


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


@dataclass(frozen=True)
class NetworkBuild:
    """What a build does for one network: for itself, and for the lighter forms that are asked for and possible.

    All networks are checked, and all checkpoints read, before the first engine is built: what cannot work is said soon.
    """

    recipe: Recipe
    source: Artifact
    wanted: tuple[str, ...]
    options: BuildOptions
    store: Store
    say: Say

    def check(self) -> None:
        """Raises CameoError if an engine that is wanted cannot be built like that."""
        for form in (ITSELF, *self._lighter):
            for name, _ in self._chosen(form)[1]:
                check_fields(builder(self.recipe, name, self.options.targets))

    def graph(self) -> Result:
        """The clean FP32 graph of the network as it is."""
        self._begin()
        return graph_of(self.recipe.network, self.source, self.store, self._part_of_file)

    def parts(self, graph: Result) -> Iterator[Part]:
        """The network as it is, whose `graph` this is, and its lighter forms."""
        self._begin()
        for precision in self.options.precisions:
            if precision in self.recipe.withheld:
                self.say(f"{self.recipe.network}: not built in {precision}: {self.recipe.withheld[precision]}")
        checkpoints = {form: self._checkpoint(form, stage) for form, stage in self._lighter.items()}
        itself = self._part(ITSELF, self.source, graph)
        yield itself
        for form, checkpoint in checkpoints.items():
            self._begin(form)
            yield self._part(form, checkpoint, graph_of(self.recipe.network, checkpoint, self.store), itself)

    def _begin(self, form: Form = ITSELF, precision: str = "") -> None:
        """Say from now on that stages are for this."""
        self.store.about = " ".join(filter(None, (self.recipe.network, form.name, precision)))

    def _checkpoint(self, form: Form, stage: Stage) -> Artifact:
        made = self.store.run(stage, self.source)
        self.say(f"{self.recipe.network}, {form.name}: {fidelity(made.facts)}")
        return made.artifact

    @cached_property
    def _lighter(self) -> dict[Form, Stage]:
        """The forms asked for, and the stage that makes the checkpoint of each."""
        recipe, options = self.recipe, self.options
        nothing_wished = not (options.prune or options.fast or options.learned)  # without importing torch
        if nothing_wished or recipe.network not in exporters.trainable_networks():
            return {}
        trainable = exporters.trainable(recipe.network)
        photos = Photos() if options.calibration is None else Photos.of(options.calibration)
        learns = tuple(precision for precision in options.learned if precision in recipe.on_request)
        wish = Wish(
            options.prune, options.fast, learns, photos, options.recover_steps, self.store.folder, self._part_of_file
        )
        made = {
            Form(variant.VARIANT, variant.MODE, variant.PRECISIONS): variant.stage(trainable, wish)
            for variant in variants()
        }
        return {form: stage for form, stage in made.items() if stage is not None}

    @property
    def _part_of_file(self) -> str:
        return self.options.parts.get(self.recipe.network, "")

    def _part(self, form: Form, source: Artifact, graph: Result, itself: Part | None = None) -> Part:
        """The form whose checkpoint is `source`, with its graphs and engines; `itself` is the network as it is."""
        precisions, pairs = self._chosen(form)
        graphs = {"fp32": graph}
        original = itself.graphs["fp32"].artifact if itself else None
        for precision in dict.fromkeys(wanted for _, wanted in pairs if wanted not in graphs):
            graphs[precision] = self.store.run(self._converter(precision, original), graph.artifact)

        def engine(name: str, precision: str) -> Result:
            self._begin(form, precision)
            built = self.store.run(builder(self.recipe, name, self.options.targets), graphs[precision].artifact)
            self._begin(form)
            return built

        built = {pair: engine(*pair) for pair in pairs}
        rivals = {**(itself.engines if itself else {}), **built}
        built = with_recommendations(self.recipe, built, rivals, engine, self.store, self.say)
        of = self._part_of_file if itself is None else ""
        return Part(self.recipe, source, of, form, precisions, graphs, built)

    def _converter(self, precision: str, original: Artifact | None) -> Stage:
        photos = calibration_photos(self.options.calibration)
        if len(photos) < (enough := conversion_to(precision).ENOUGH_PHOTOS):
            few = f"{enough} photos or more make better {precision.upper()} than {len(photos)}"
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
        """What can be learned is for one form of a network: that which learned it, or else the network itself."""
        if form.precisions:
            return form.precisions
        recipe, asked = self.recipe, self.options.precisions
        known = (*recipe.precisions, *recipe.on_request)
        chosen = tuple(p for p in known if p in asked) if asked else recipe.precisions
        elsewhere = {p for other in self._lighter for p in other.precisions} if form is ITSELF else learnable()
        without = tuple(p for p in chosen if p not in elsewhere)
        return without or (recipe.precisions if elsewhere else chosen)
