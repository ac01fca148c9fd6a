"""What is measured, and how: found by file name, and every metric says everything about itself in its own file.

A fidelity metric says how far an engine's picture is from the original's. It is a file of its own, which offers

    METRIC: str                 its name in gates and reports: the file's own name
    TITLE: str                  its heading in the report
    UNIT: str                   "dB", "levels", "%" or "" for pure numbers
    HIGHER_IS_BETTER: bool      whether the worst of several values is the smallest
    NEEDS: str                  "picture", any two of one shape, or "face": crops of one aligned face
    measure(original, candidate) -> float

`original` and `candidate` are uint8 arrays of one shape, `(H, W, C)`.
The first line of its docstring says in the report what it is.

What else a file measures (time, memory, points of faces), it lists as `METRICS: tuple[Metric, ...]`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cameo.discovery import module_path, names_in
from cameo.errors import RequestError
from metrics.measurement import Metric

Picture = NDArray[np.uint8]
PICTURE, FACE = "picture", "face"


class FidelityMetric(Protocol):
    """What the module of a fidelity metric offers."""

    METRIC: str
    TITLE: str
    UNIT: str
    HIGHER_IS_BETTER: bool
    NEEDS: str
    __doc__: str | None

    def measure(self, original: Picture, candidate: Picture) -> float: ...


@cache
def _modules() -> tuple[ModuleType, ...]:
    return tuple(importlib.import_module(module_path(__name__, name)) for name in names_in(sys.modules[__name__]))


@cache
def _fidelity_metrics() -> dict[str, FidelityMetric]:
    return {module.METRIC: cast(FidelityMetric, module) for module in _modules() if hasattr(module, "METRIC")}


def metric_names(of: str = PICTURE) -> tuple[str, ...]:
    """The fidelity metrics of any two pictures, or, of a `FACE`, those that need one as well; sorted."""
    return tuple(sorted(name for name, module in _fidelity_metrics().items() if module.NEEDS in (PICTURE, of)))


def metric(name: str) -> FidelityMetric:
    """The fidelity metric called `name`.

    Raises:
        RequestError: there is none.
    """
    if name not in _fidelity_metrics():
        raise RequestError(f"there is no fidelity metric '{name}': choose one of {', '.join(metric_names(FACE))}")
    return _fidelity_metrics()[name]


@cache
def known() -> Mapping[str, Metric]:
    """All that can be measured, by name: fidelity metrics first."""
    others = (one for module in _modules() for one in getattr(module, "METRICS", ()))
    return {one.name: one for one in (*map(described, metric_names(FACE)), *others)}


def described(name: str) -> Metric:
    """What the module of the fidelity metric `name` says of it."""
    module = metric(name)
    meaning = (module.__doc__ or "").strip().splitlines()[0]
    return Metric(module.METRIC, module.TITLE, module.UNIT, module.HIGHER_IS_BETTER, meaning)
