"""How large the values of a tensor get, for INT8: histograms of magnitudes on photos, and where to cut them.

INT8 spends 127 steps on [0, threshold]. A high threshold makes steps coarse, a low one cuts off what lies above:

    minmax      the largest magnitude that was seen: nothing is cut off
    percentile  99.99 % of all magnitudes
    entropy     the cut whose distribution in steps tells least apart from the whole (Kullback-Leibler divergence;
                S. Migacz, 8-bit inference with TensorRT, GTC 2017)

No method is the best for every network, so `convert_to_int8` tries them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BINS = 2048
_STEPS = 128
"""Steps of INT8 on one side of zero, the zero included."""

_PERCENTILE = 0.9999
_NOTHING = 1e-9
"""Stands for the probability of an empty bin, whose logarithm there is none of."""

_SAMPLE = 2**20
"""Values of a tensor that are counted, evenly spread; its largest is looked for among all."""


class Histogram:
    """Magnitudes of one tensor in equal bins from 0 to `top`, which doubles when something larger comes."""

    def __init__(self) -> None:
        self.counts: NDArray[np.float64] = np.zeros(_BINS)
        self.top = 0.0
        self.largest = 0.0

    def observe(self, tensor: NDArray[Any]) -> None:
        """Count the values of one float32 array of any shape, which must be finite."""
        largest = max(float(tensor.max()), -float(tensor.min()))
        if not largest:
            return  # an all-black photo's zeros say nothing about the range
        self.largest = max(self.largest, largest)
        self.top = self.top or largest
        while self.top < largest:
            self.counts = np.concatenate([self.counts.reshape(-1, 2).sum(1), np.zeros(_BINS // 2)])
            self.top *= 2
        values = np.abs(tensor.reshape(-1)[:: -(-tensor.size // _SAMPLE) | 1])
        self.counts += np.bincount((values * (_BINS / self.top)).astype(np.int32).clip(0, _BINS - 1), minlength=_BINS)

    def threshold(self, method: str) -> float:
        """Where `method` (of `METHODS`) cuts; 0 where only zeros were seen."""
        return min(METHODS[method](self.counts) * self.top / _BINS, self.largest) if self.largest else 0.0


def _minmax(counts: NDArray[np.float64]) -> int:
    return _BINS


def _percentile(counts: NDArray[np.float64]) -> int:
    return int(np.searchsorted(np.cumsum(counts), _PERCENTILE * counts.sum())) + 1


def _entropy(counts: NDArray[np.float64]) -> int:
    return min(range(_STEPS, _BINS + 1, _STEPS // 8), key=lambda cut: _divergence(counts, cut))


def _divergence(counts: NDArray[np.float64], cut: int) -> float:
    """How far the bins below `cut`, merged into 128 steps, are from all bins, those above counted into the last one."""
    whole = counts[:cut].copy()
    step = np.arange(cut) * _STEPS // cut
    filled = np.bincount(step, whole > 0, _STEPS)
    merged = np.where(whole > 0, (np.bincount(step, whole, _STEPS) / np.maximum(filled, 1))[step], 0)
    whole[-1] += counts[cut:].sum()
    p, q = (np.maximum(x / max(x.sum(), 1), _NOTHING) for x in (whole, merged))
    return float((p * np.log(p / q)).sum())


METHODS: Mapping[str, Callable[[NDArray[np.float64]], int]] = {
    "minmax": _minmax,
    "percentile": _percentile,
    "entropy": _entropy,
}
"""What each method makes of a histogram: the number of bins below its threshold."""
