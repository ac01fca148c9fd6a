"""Fidelity against what it costs: every engine of a network as a point; `charts.html.jinja` draws it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from metrics.measurement import find
from validate.results import NetworkResult

_STEP_DB = 10
_LEAST_SPAN_DB = (30, 60)
"""What the scale holds at least, for charts of several networks to look alike."""


@dataclass(frozen=True)
class Point:
    """One engine: what it costs and how near it is to the original (PSNR in dB, infinite where they are equal)."""

    label: str
    mode: str
    cost: float
    psnr: float


@dataclass(frozen=True)
class Tradeoff:
    """PSNR in dB against one cost, where the original's is known too; its scales hold all of its points.

    `x` and `y` give places in a picture of `width` × `height`. Where an engine equals its original, the scale goes on
    by one step to infinity.
    """

    width: ClassVar[int] = 460
    height: ClassVar[int] = 260
    left: ClassVar[int] = 44
    right: ClassVar[int] = 444
    top: ClassVar[int] = 12
    bottom: ClassVar[int] = 220

    network: str
    title: str
    unit: str
    points: Sequence[Point]
    original: float

    @property
    def widest(self) -> float:
        """The cost at the right end of the scale."""
        return 1.05 * max(self.original, *(point.cost for point in self.points))

    @property
    def ticks(self) -> dict[float, str]:
        """The PSNR of each line of the grid, from the lowest, and its label."""
        finite = [*_LEAST_SPAN_DB, *(point.psnr for point in self.points if math.isfinite(point.psnr))]
        lowest, highest = math.floor(min(finite) / _STEP_DB), math.ceil(max(finite) / _STEP_DB)
        lines: dict[float, str] = {_STEP_DB * step: str(_STEP_DB * step) for step in range(lowest, highest + 1)}
        return lines | ({math.inf: "∞"} if any(math.isinf(point.psnr) for point in self.points) else {})

    def x(self, cost: float) -> float:
        """Where a cost is."""
        return self.left + (self.right - self.left) * cost / self.widest

    def y(self, psnr: float) -> float:
        """Where a PSNR is."""
        lowest, *_, highest = self.ticks
        steps = len(self.ticks) - 1
        step = steps if psnr == highest else (psnr - lowest) / _STEP_DB
        return self.bottom - (self.bottom - self.top) * step / steps


def tradeoffs(network: NetworkResult) -> Iterator[Tradeoff]:
    """PSNR against latency and against peak memory; none for networks that make no pictures, or of one engine."""
    for title, unit, metric in (("latency p50", "ms", "latency_p50"), ("peak RSS", "MiB", "peak_rss")):
        original, points = find(network.original.measurements, metric), _points(network, metric)
        if original is not None and len(points) > 1:
            yield Tradeoff(network.name, title, unit, points, original)


def _points(network: NetworkResult, metric: str) -> list[Point]:
    found = []
    for engine in network.engines:
        cost, psnr = (find(engine.subject.measurements, one) for one in (metric, "psnr"))
        if cost is not None and psnr is not None:
            found.append(Point(engine.label, engine.mode, cost, psnr))
    return sorted(found, key=lambda point: -point.psnr)
