"""Original checkpoint → ONNX: one file per model family, found by its name.

Each family's module offers

    NETWORKS: Mapping[str, tuple[str, ...]]    its networks, and the file names that their authors gave the weights
    exporter(network) -> Stage                 the stage that turns a weight file into `network`'s ONNX graph

Modules that several families share (`frozen_graph`, `edges`) have no `NETWORKS`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from types import ModuleType

from cameo.errors import CheckpointError


def families() -> Mapping[str, ModuleType]:
    """Every family's module by its name."""
    modules = {
        m.name.replace("_", "-"): importlib.import_module(f"{__name__}.{m.name}")
        for m in pkgutil.iter_modules(__path__)
        if not m.ispkg
    }
    return {name: module for name, module in modules.items() if hasattr(module, "NETWORKS")}


def family_of(network: str) -> ModuleType:
    """The module that exports `network`.

    Raises:
        CheckpointError: no family has a network of that name.
    """
    for module in families().values():
        if network in module.NETWORKS:
            return module
    known = ", ".join(name for module in families().values() for name in module.NETWORKS)
    raise CheckpointError(f"there is no network '{network}': choose one of {known}")
