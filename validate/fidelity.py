"""How far an engine's outputs are from the original's: uint8 pictures by every metric, other outputs by difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cameo.errors import EngineError
from cameo.session import Tensor
from cameo.tensors import TensorSpec
from metrics import Picture, metric, metric_names
from metrics.measurement import Measurement

OUTPUT_DIFFERENCE = "max_difference/"
"""Metric of an output that is no picture, before the output's name: the largest absolute difference, in its unit."""


@dataclass(frozen=True)
class Deviation:
    """One metric of one engine on one photo at one size."""

    metric: str
    value: float
    unit: str
    higher_is_better: bool


def deviations(
    outputs: Sequence[TensorSpec], original: Mapping[str, Tensor], candidate: Mapping[str, Tensor]
) -> list[Deviation]:
    """Every metric of one run.

    Raises:
        EngineError: an output is missing or has another shape or type than the original's.
    """
    found: list[Deviation] = []
    for spec in outputs:
        expected, got = original[spec.name], candidate.get(spec.name)
        if got is None or got.shape != expected.shape or got.dtype.kind != expected.dtype.kind:
            raise EngineError(
                f"output '{spec.name}': expected {expected.dtype} {expected.shape} as the original gives, "
                f"got {'nothing' if got is None else f'{got.dtype} {got.shape}'}; export the network again"
            )
        found += _picture(expected, got) if spec.dtype == "uint8" else [_values(spec.name, expected, got)]
    return found


def _picture(original: Tensor, candidate: Tensor) -> list[Deviation]:
    pairs = zip(original.astype(np.uint8), candidate.astype(np.uint8), strict=True)
    return worst(deviation for pair in pairs for deviation in deviations_of_pictures(*pair))


def deviations_of_pictures(original: Picture, candidate: Picture) -> list[Deviation]:
    """Every metric of two pictures, uint8 `(H, W, C)` of one shape."""
    modules = [metric(name) for name in metric_names()]
    return [Deviation(m.METRIC, m.measure(original, candidate), m.UNIT, m.HIGHER_IS_BETTER) for m in modules]


def _values(name: str, original: Tensor, candidate: Tensor) -> Deviation:
    difference = np.abs(original.astype(np.float64) - candidate.astype(np.float64))
    return Deviation(OUTPUT_DIFFERENCE + name, float(difference.max(initial=0.0)), "", False)


def worst(runs: Iterable[Deviation]) -> list[Deviation]:
    """The worst deviation of each metric over several runs; nan where any is nan."""
    by_metric: dict[str, list[Deviation]] = {}
    for deviation in runs:
        by_metric.setdefault(deviation.metric, []).append(deviation)
    return [
        replace(found[0], value=_worst((one.value for one in found), found[0].higher_is_better))
        for found in by_metric.values()
    ]


def _worst(values: Iterable[float], higher_is_better: bool) -> float:
    return float(np.min(list(values)) if higher_is_better else np.max(list(values)))


def measurements(subject: str, runs: Iterable[Deviation]) -> list[Measurement]:
    """The worst of all runs, as measurements of `subject`."""
    return [Measurement(subject, d.metric, d.value, d.unit, d.higher_is_better) for d in worst(runs)]
