"""ONNX → leaner ONNX: one file per pass, named verb_object.py, found by its name.

A pass that changes no result beyond rounding offers `graph_pass() -> GraphPass`, the stage with its default
configuration; one that finds nothing to do leaves the graph as it is and says so in its facts (`changed: false`).

A conversion to another precision is a file `convert_to_<precision>.py`, and offers instead

    PRECISION: str                                      what it converts to ("fp16")
    MODE: str                                           the mode of its engines: what it gives up (`cameo.modes`)
    RECORD: str                                         the file that it writes beside the graph: what it did, and why
    ENOUGH_PHOTOS: int                                  fewer make it worse, which a build says
    conversion(calibration, least_psnr, original) -> Stage
                                                        the stage that converts on these photos to this fidelity
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import cast

from cameo.discovery import module_in, names_in
from cameo.errors import RequestError
from optimize._graph_pass import GraphPass


def _modules() -> dict[str, ModuleType]:
    here = sys.modules[__name__]
    return {name: module for name in names_in(here) if (module := module_in(here, name))}


def pass_names() -> list[str]:
    """The names of all passes ("simplify-graph", ...), sorted; conversions are none."""
    return [name for name, module in _modules().items() if hasattr(module, "graph_pass")]


def conversions() -> Mapping[str, ModuleType]:
    """The modules that convert graphs, by the precision that they convert to ("fp16")."""
    return {module.PRECISION: module for module in _modules().values() if hasattr(module, "conversion")}


def conversion_to(precision: str) -> ModuleType:
    """The module that converts graphs to `precision`.

    Raises:
        RequestError: none does.
    """
    known = conversions()
    if precision not in known:
        raise RequestError(f"graphs cannot be converted to '{precision}': choose one of {', '.join(known)}")
    return known[precision]


def graph_pass(name: str) -> GraphPass:
    """The stage of the pass called `name`.

    Raises:
        RequestError: no pass of that name.
    """
    if name not in pass_names():
        raise RequestError(f"there is no pass '{name}': choose one of {', '.join(pass_names())}")
    return cast(GraphPass, _modules()[name].graph_pass())
