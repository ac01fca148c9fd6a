"""How far an engine's outputs are from the original's: uint8 pictures by every metric, other outputs by difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cameo.errors import EngineError
from cameo.session import Tensor
from cameo.tensors import TensorSpec
from metrics import PICTURE, Picture, described, metric, metric_names
from metrics.measurement import Measurement

OUTPUT_DIFFERENCE = "max_difference/"
"""Metric of an output that is no picture, before the output's name: the largest absolute difference, in its unit."""


def measurements(
    subject: str, outputs: Sequence[TensorSpec], original: Mapping[str, Tensor], candidate: Mapping[str, Tensor]
) -> list[Measurement]:
    """Every metric of one run.

    Raises:
        EngineError: an output is missing or has another shape or type than the original's.
    """
    found: list[Measurement] = []
    for spec in outputs:
        expected, got = original[spec.name], candidate.get(spec.name)
        if got is None or got.shape != expected.shape or got.dtype.kind != expected.dtype.kind:
            raise EngineError(
                f"output '{spec.name}': expected {expected.dtype} {expected.shape} as the original gives, "
                f"got {'nothing' if got is None else f'{got.dtype} {got.shape}'}; export the network again"
            )
        if spec.dtype == "uint8":
            pairs = zip(expected.astype(np.uint8), got.astype(np.uint8), strict=True)
            found += worst(measurement for pair in pairs for measurement in of_pictures(subject, *pair))
        else:
            difference = np.abs(expected.astype(np.float64) - got.astype(np.float64)).max(initial=0.0)
            found.append(Measurement(subject, OUTPUT_DIFFERENCE + spec.name, float(difference), "", False))
    return found


def of_pictures(subject: str, original: Picture, candidate: Picture, of: str = PICTURE) -> list[Measurement]:
    """Every metric of two pictures, uint8 `(H, W, C)` of one shape, or of two crops of one aligned `FACE`."""
    return [described(name).of(subject, metric(name).measure(original, candidate)) for name in metric_names(of)]


def worst(runs: Iterable[Measurement]) -> list[Measurement]:
    """The worst of each metric over several runs of one subject; nan where any is nan."""
    by_metric: dict[str, list[Measurement]] = {}
    for measurement in runs:
        by_metric.setdefault(measurement.metric, []).append(measurement)
    return [
        replace(found[0], value=_worst((one.value for one in found), found[0].higher_is_better))
        for found in by_metric.values()
    ]


def _worst(values: Iterable[float], higher_is_better: bool) -> float:
    return float(np.min(list(values)) if higher_is_better else np.max(list(values)))
