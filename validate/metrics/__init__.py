"""Fidelity metrics: how far an engine's picture is from the original's. One file per metric, found by its name.

Each module offers

    METRIC: str                 its name in gates and reports: the file's own name
    TITLE: str                  its heading in the report
    UNIT: str                   "dB", "levels", "%" or "" for pure numbers
    HIGHER_IS_BETTER: bool      whether the worst of several values is the smallest
    measure(original, candidate) -> float

`original` and `candidate` are uint8 arrays of one shape, `(H, W, C)`.
The first line of its docstring says in the report what it is.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from cameo.errors import CameoError

Picture = NDArray[np.uint8]


class Metric(Protocol):
    """What a module of this package offers."""

    METRIC: str
    TITLE: str
    UNIT: str
    HIGHER_IS_BETTER: bool
    __doc__: str | None

    def measure(self, original: Picture, candidate: Picture) -> float: ...


@cache
def metric_names() -> tuple[str, ...]:
    """The fidelity metrics there are, sorted."""
    return tuple(sorted(m.name for m in pkgutil.iter_modules(__path__)))


def metric(name: str) -> Metric:
    """The fidelity metric called `name`.

    Raises:
        CameoError: there is none.
    """
    if name not in metric_names():
        raise CameoError(f"there is no fidelity metric '{name}': choose one of {', '.join(metric_names())}")
    return cast(Metric, importlib.import_module(f"{__name__}.{name}"))


def meaning(name: str) -> str:
    """The sentence that says what the metric `name` is."""
    return (metric(name).__doc__ or "").strip().splitlines()[0]
