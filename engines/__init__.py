"""ONNX → engine: one file per engine kind, found by its name (`tensorrt-rtx` is `tensorrt_rtx.py`).

Each module offers

    builder(options) -> Stage            the stage that turns an ONNX graph into this engine
    why_not_buildable() -> str | None    None when this machine can build it, else one sentence that says why not
    PRECISIONS: Mapping[str, tuple[str, ...]]
                                         for each precision of a graph that it takes, those that it can be run at

A builder's `run` returns the facts that the bundle records: `targets` (list of str) and `profiles` (a list of the
fields of `cameo.bundle.Profile`), both empty for engines that plan nothing ahead of time.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType

from cameo.discovery import module_in, names_in
from cameo.errors import RequestError


@dataclass(frozen=True)
class InputRange:
    """Shapes (N, H, W, 3) of the input `image` that an engine is built for: one optimization profile."""

    name: str
    min: tuple[int, int, int, int]
    opt: tuple[int, int, int, int]
    max: tuple[int, int, int, int]


@dataclass(frozen=True)
class EngineOptions:
    """What builders are told: the input ranges, and the GPUs ("sm_86", ...) for engines built ahead of time."""

    ranges: tuple[InputRange, ...] = ()
    targets: tuple[str, ...] = ("sm_86", "sm_89", "sm_120")


def engine_names() -> list[str]:
    """The kinds of engine that can be asked for, sorted."""
    return names_in(sys.modules[__name__])


def engine(name: str) -> ModuleType:
    """The module that builds engines of kind `name`.

    Raises:
        RequestError: no engine of that name.
    """
    module = module_in(sys.modules[__name__], name)
    if module is None:
        raise RequestError(f"there is no engine '{name}': choose one of {', '.join(engine_names())}")
    return module
