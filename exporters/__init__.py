"""Original checkpoint → ONNX: one folder per model family, found by its name, which says everything about the family.

    export.py       NETWORKS: Mapping[str, WeightFiles]          its networks, and the files that their authors ship
                    exporter(network) -> Stage                   the stage that turns those into the network's graph
                    recognise(shapes) -> str                     a few words for a state dict of the family's, else ""
    original.py     open_original(network, weights) -> Session   the network as its authors run it, behind our edges
                    LIBRARIES: tuple[str, ...]                   the distributions that run it, which reports name
    recipe.py       RECIPES: tuple[Recipe, ...]                  how its networks become engines
                    MODELS: tuple[Model, ...]                    where it has some: photo in, photo out
    trainable.py    where it can be pruned and taught: NETWORKS, and trainable(network) -> compress.trainable.Trainable
    examples.py     where a network takes something else than one photo: examples(network, inputs, photos) -> feeds
    untrained.py    where its weights are too large to ship: untrained(network, narrow) -> a module of those shapes,
                    and FILES: Mapping[name, write(path)] of what no module holds

What families share is beside them: `checkpoints/` on the way in, `layers/` of their networks, `graphs/` on the way out.
Why a family says all that itself: docs/decisions/133. CONTRIBUTING.md has a whole one of a few lines, which a test
executes (docs/decisions/130).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cameo.discovery import names_in
from cameo.errors import CameoError, CheckpointError, RequestError
from exporters.family import Family

if TYPE_CHECKING:
    from cameo.session import Session
    from compress.trainable import Handed
    from exporters.family import WeightFiles
    from exporters.published import Figures
    from exporters.recipe import Model, Recipe
    from metrics.examples import Examples


@cache
def families() -> tuple[Family, ...]:
    """Every family, sorted by name.

    Raises:
        CameoError: two of them claim one network.
    """
    found = tuple(Family(name) for name in names_in(sys.modules[__name__]) if Family(name).has("export"))
    owners: dict[str, Family] = {}
    for family in found:
        for network in family.networks:
            if network in owners:
                raise CameoError(
                    f"the families {owners[network].name} and {family.name} both have a network '{network}': rename one"
                )
            owners[network] = family
    return found


def network_names() -> list[str]:
    """The networks of all families."""
    return [network for family in families() for network in family.networks]


def family_of(network: str) -> Family:
    """The family that `network` belongs to.

    Raises:
        CheckpointError: no family has a network of that name.
    """
    for family in families():
        if network in family.networks:
            return family
    raise CheckpointError(f"there is no network '{network}': choose one of {', '.join(network_names())}")


def open_original(network: str, weights: Path, part: str = "") -> Session:
    """The original of `network`, loaded from the file (or the folder of several) that its authors publish.

    `part` names the weights in a file that has several.

    Raises:
        CheckpointError: no such network, or `weights` is not its checkpoint.
    """
    return family_of(network).open_original(network, weights, part)


def recipe_of(network: str) -> Recipe:
    """How the network called `network` becomes engines.

    Raises:
        CheckpointError: no family has such a network.
    """
    return family_of(network).recipe(network)


@cache
def models() -> Mapping[str, Model]:
    """Every model by name."""
    return {model.name: model for family in families() for model in family.models}


def model(name: str) -> Model:
    """The model called `name`.

    Raises:
        RequestError: there is none.
    """
    if name not in models():
        raise RequestError(f"there is no model '{name}': choose one of {', '.join(models())}")
    return models()[name]


def files_of(network: str, of: Model | None = None) -> WeightFiles:
    """The files of `network`; in the folder of a model, as the model calls them.

    Raises:
        CheckpointError: no family has such a network.
    """
    families_own = family_of(network).networks[network]
    return families_own if of is None else of.files.get(network, families_own)


def examples_of(network: str) -> Examples:
    """How photos become the feeds of `network`: as its one image, or as its family says."""
    from metrics.examples import Examples

    family = family_of(network)
    return Examples(network, family.path("examples") if family.has("examples") else "")


def figures_of(network: str) -> Figures | None:
    """What others published to stand beside this network, if anything: bars to stand beside ours."""
    known = (one.figures for one in models().values())
    return next((figures for figures in known if figures and network in figures.networks), None)


def trainable_networks() -> list[str]:
    """The networks that can be pruned and taught."""
    return [name for family in families() if family.has("trainable") for name in family.module("trainable").NETWORKS]


def trainable(network: str) -> Handed:
    """The torch form of `network`, as stages of `compress` take it.

    Raises:
        CheckpointError: there is no such network, or it cannot be pruned.
    """
    from compress.trainable import Handed

    family = family_of(network)
    if network not in trainable_networks():
        raise CheckpointError(f"{network} cannot be pruned: choose one of {', '.join(trainable_networks())}")
    return Handed(network, family.path("trainable"), examples_of(network))
