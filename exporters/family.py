"""A family by the name of its folder: what its modules say, each loaded when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from cameo.discovery import module_path

if TYPE_CHECKING:
    from torch import nn

    from cameo.session import Session
    from exporters.recipe import Model, Recipe


@dataclass(frozen=True)
class WeightFiles:
    """The files of one network: all of `needed`, each under one of its names, and what there is of `optional`.

    Names may have folders before them ("BFM/BFM_model_front.mat").
    """

    needed: tuple[tuple[str, ...], ...]
    optional: tuple[str, ...] = ()

    @classmethod
    def one(cls, *names: str) -> WeightFiles:
        """One file, under one of `names`."""
        return cls((names,))

    def found(self, folder: Path) -> tuple[str, ...] | None:
        """The names in `folder` of the files to use, or None where one that is needed is missing."""
        present = [next((name for name in names if (folder / name).exists()), None) for names in self.needed]
        if None in present:
            return None
        return (*filter(None, present), *(name for name in self.optional if (folder / name).exists()))

    def missing(self, folder: Path) -> list[str]:
        """What `folder` lacks, in words ("cartoon_h.pb or cartoon_anime_h.pb")."""
        return [" or ".join(names) for names in self.needed if not any((folder / name).exists() for name in names)]

    @property
    def usual(self) -> tuple[str, ...]:
        """The first name of each needed file."""
        return tuple(names[0] for names in self.needed)


@dataclass(frozen=True)
class Family:
    """The package `exporters.<name>`; what its modules offer is listed in `exporters`."""

    name: str

    def path(self, module: str) -> str:
        """The dotted path of one of its modules."""
        return f"{module_path('exporters', self.name)}.{module}"

    def has(self, module: str) -> bool:
        """Whether it has a module of that name."""
        try:
            return find_spec(self.path(module)) is not None
        except ModuleNotFoundError:  # a file beside the families, not a folder
            return False

    def module(self, name: str) -> ModuleType:
        """One of its modules."""
        return importlib.import_module(self.path(name))

    @property
    def networks(self) -> Mapping[str, WeightFiles]:
        """Its networks, and the files of each."""
        return cast(Mapping[str, WeightFiles], self.module("export").NETWORKS)

    def exporter(self, network: str) -> Any:
        """The stage that turns the network's files into its ONNX graph."""
        return self.module("export").exporter(network)

    def recognise(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """A few words for a state dict with these shapes by key if it is of this family, else ""."""
        return str(self.module("export").recognise(shapes))

    @property
    def libraries(self) -> tuple[str, ...]:
        """The distributions that run its originals."""
        return cast(tuple[str, ...], self.module("original").LIBRARIES)

    def open_original(self, network: str, weights: Path, part: str = "") -> Session:
        """The network as its authors run it, from the `part` of a file that has several."""
        return cast("Session", self.module("original").open_original(network, weights, *filter(None, [part])))

    def recipe(self, network: str) -> Recipe:
        """How one of its networks becomes engines."""
        recipes: Iterable[Recipe] = self.module("recipe").RECIPES
        return next(recipe for recipe in recipes if recipe.network == network)

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that it brings."""
        return cast("tuple[Model, ...]", getattr(self.module("recipe"), "MODELS", ()))

    def untrained(self, network: str, narrow: float | None = None) -> nn.Module:
        """A module of the published shapes, or `narrow` times as wide, with the weights that training starts from."""
        return cast("nn.Module", self.module("untrained").untrained(network, narrow))

    @property
    def untrained_files(self) -> Mapping[str, Callable[[Path], None]]:
        """Who writes, to a path, those files of its networks that no module holds, by name."""
        return cast(Mapping[str, Callable[[Path], None]], getattr(self.module("untrained"), "FILES", {}))
