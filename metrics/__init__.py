"""What is measured, and how: one file per fidelity metric, found by its name; besides, measurements, timing and memory.

A metric says how far an engine's picture is from the original's. Its module offers

    METRIC: str                 its name in gates and reports: the file's own name
    TITLE: str                  its heading in the report
    UNIT: str                   "dB", "levels", "%" or "" for pure numbers
    HIGHER_IS_BETTER: bool      whether the worst of several values is the smallest
    NEEDS: str                  "picture", any two of one shape, or "face": crops of one aligned face
    measure(original, candidate) -> float

`original` and `candidate` are uint8 arrays of one shape, `(H, W, C)`.
The first line of its docstring says in the report what it is.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cameo.discovery import module_in, names_in
from cameo.errors import CameoError

Picture = NDArray[np.uint8]
PICTURE, FACE = "picture", "face"


class Metric(Protocol):
    """What a module of a metric offers."""

    METRIC: str
    TITLE: str
    UNIT: str
    HIGHER_IS_BETTER: bool
    NEEDS: str
    __doc__: str | None

    def measure(self, original: Picture, candidate: Picture) -> float: ...


@cache
def _metrics() -> dict[str, Metric]:
    here = sys.modules[__name__]
    modules: list[Any] = [module_in(here, name) for name in names_in(here)]
    return {module.METRIC: module for module in modules if hasattr(module, "METRIC")}


def metric_names(of: str = PICTURE) -> tuple[str, ...]:
    """The fidelity metrics of any two pictures, or, of a `FACE`, those that need one as well; sorted."""
    return tuple(sorted(name for name, module in _metrics().items() if module.NEEDS in (PICTURE, of)))


def metric(name: str) -> Metric:
    """The fidelity metric called `name`.

    Raises:
        CameoError: there is none.
    """
    if name not in _metrics():
        raise CameoError(f"there is no fidelity metric '{name}': choose one of {', '.join(metric_names(FACE))}")
    return _metrics()[name]


def meaning(name: str) -> str:
    """The sentence that says what the metric `name` is."""
    return (metric(name).__doc__ or "").strip().splitlines()[0]
