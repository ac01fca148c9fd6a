"""ONNX → leaner ONNX: one file per pass, named verb_object.py, found by its name.

Each module offers `graph_pass() -> GraphPass`, the stage with its default configuration. A pass that finds nothing to
do leaves the graph as it is and says so in its facts (`changed: false`).
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import cast

from cameo.errors import EngineError
from optimize._graph_pass import GraphPass


def pass_names() -> list[str]:
    """The names of all passes ("simplify-graph", ...), sorted."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def graph_pass(name: str) -> GraphPass:
    """The stage of the pass called `name`.

    Raises:
        EngineError: no pass of that name.
    """
    if name not in pass_names():
        raise EngineError(f"there is no pass '{name}': choose one of {', '.join(pass_names())}")
    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    return cast(GraphPass, module.graph_pass())
