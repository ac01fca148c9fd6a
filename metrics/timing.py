"""Latency of an original and its engines, measured in turns.

On a machine with other work, speed drifts over seconds. So every round times the original and then every engine (every
second round in the opposite order), and an engine's throughput ratio is the median over rounds of the original's time
over the engine's in the same round: what slows a round down slows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from metrics.measurement import Measurement, Metric

WARM_UP_RUNS = 2
_PERCENTILES = {
    50: Metric("latency_p50", "Latency p50", "ms", False, "The time of one run that half of the runs keep within."),
    95: Metric("latency_p95", "Latency p95", "ms", False, "The time that 95 of 100 runs keep within."),
    99: Metric("latency_p99", "Latency p99", "ms", False, "The time that 99 of 100 runs keep within."),
}
_THROUGHPUT = Metric(
    "throughput_ratio",
    "Throughput against the original",
    "×",
    True,
    "The median over rounds of the original's time over the engine's.",
)
METRICS = (*_PERCENTILES.values(), _THROUGHPUT)


@dataclass(frozen=True)
class Rounds:
    """How often to measure: until `seconds` have passed, but at least `least` and at most `most` rounds."""

    least: int = 5
    most: int = 50
    seconds: float = 4.0


def interleaved(
    runs: Sequence[Callable[[], float]],
    rounds: Rounds,
    warm_up: Sequence[Callable[[], float]] | None = None,
    warm_up_runs: int = WARM_UP_RUNS,
) -> list[tuple[float, ...]]:
    """The latencies in ms that each of `runs` returns, one a round, after warm-up (by others where those take long)."""
    for run in warm_up or runs:
        for _ in range(warm_up_runs):
            run()
    latencies: list[list[float]] = [[] for _ in runs]
    turns = list(zip(runs, latencies, strict=True))
    started = time.monotonic()
    while (done := len(latencies[0])) < rounds.least or (
        done < rounds.most and time.monotonic() - started < rounds.seconds
    ):
        for run, found in turns if done % 2 == 0 else reversed(turns):
            found.append(run())
    return [tuple(found) for found in latencies]


def milliseconds(run: Callable[[], object]) -> float:
    """How long one run takes."""
    started = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - started)


def measurements(subject: str, latencies_ms: Sequence[float], original_ms: Sequence[float]) -> list[Measurement]:
    """Percentiles of `latencies_ms`, and the throughput against the original's latencies in the same rounds."""
    percentiles = [
        metric.of(subject, float(np.percentile(latencies_ms, percent))) for percent, metric in _PERCENTILES.items()
    ]
    ratio = median(original / ours for original, ours in zip(original_ms, latencies_ms, strict=True))
    return [*percentiles, _THROUGHPUT.of(subject, ratio)]
