"""Latency of an original and its engines, measured in turns.

On a machine with other work, speed drifts over seconds. So every round times the original and then every engine (every
second round in the opposite order), and an engine's throughput ratio is the median over rounds of the original's time
over the engine's in the same round: what slows a round down slows both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

from validate.measurement import Measurement
from validate.remote import RemoteSession

WARM_UP_RUNS = 2
METRICS = ("latency_p50", "latency_p95", "latency_p99", "throughput_ratio")


@dataclass(frozen=True)
class Rounds:
    """How often to measure: until `seconds` have passed, but at least `least` and at most `most` rounds."""

    least: int = 5
    most: int = 50
    seconds: float = 4.0


def interleaved(
    sessions: Sequence[RemoteSession],
    feeds: Path,
    rounds: Rounds,
    warm_up: Path | None = None,
    warm_up_runs: int = WARM_UP_RUNS,
) -> list[tuple[float, ...]]:
    """The latencies in ms of every session, one a round, after warm-up (on other feeds where those would take long)."""
    for session in sessions:
        for _ in range(warm_up_runs):
            session.time(warm_up or feeds)
    latencies: list[list[float]] = [[] for _ in sessions]
    turns = list(zip(sessions, latencies, strict=True))
    started = time.monotonic()
    while (done := len(latencies[0])) < rounds.least or (
        done < rounds.most and time.monotonic() - started < rounds.seconds
    ):
        for session, found in turns if done % 2 == 0 else reversed(turns):
            found.append(session.time(feeds))
    return [tuple(found) for found in latencies]


def measurements(subject: str, latencies_ms: Sequence[float], original_ms: Sequence[float]) -> list[Measurement]:
    """Percentiles of `latencies_ms`, and the throughput against the original's latencies in the same rounds."""
    percentiles = [
        Measurement(subject, f"latency_p{percent}", float(np.percentile(latencies_ms, percent)), "ms", False)
        for percent in (50, 95, 99)
    ]
    ratio = median(original / ours for original, ours in zip(original_ms, latencies_ms, strict=True))
    return [*percentiles, Measurement(subject, "throughput_ratio", ratio, "×", True)]
