"""Fidelity against what it costs: every engine of a network as a point, in an inline SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from metrics.measurement import find
from validate.page.markup import number
from validate.results import EngineResult, NetworkResult

_WIDTH, _HEIGHT = 460, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 16, 12, 40
_HIGHEST_DB = 70.0
"""A PSNR beyond it means a few values that differ by one level; drawn at the top."""


@dataclass(frozen=True)
class Point:
    """One engine: what it costs and how near it is to the original (PSNR in dB)."""

    label: str
    mode: str
    cost: float
    psnr: float


def tradeoff(network: NetworkResult, name_of: Callable[[EngineResult], str]) -> str:
    """PSNR against latency and against peak memory; nothing for networks that make no pictures, or of one engine."""
    charts = [
        _chart(title, unit, _points(network, metric, name_of), original)
        for title, unit, metric in (("latency p50", "ms", "latency_p50"), ("peak RSS", "MiB", "peak_rss"))
        if (original := find(network.original.measurements, metric)) is not None
    ]
    drawn = "".join(charts)
    return f'<h3>Fidelity against cost</h3><div class="pair tradeoff">{drawn}</div>' if drawn else ""


def _points(network: NetworkResult, metric: str, name_of: Callable[[EngineResult], str]) -> list[Point]:
    found = []
    for engine in network.engines:
        cost, psnr = (find(engine.subject.measurements, one) for one in (metric, "psnr"))
        if cost is not None and psnr is not None:
            found.append(Point(name_of(engine), engine.mode, cost, psnr))
    return sorted(found, key=lambda point: -point.psnr)


def _chart(title: str, unit: str, points: Sequence[Point], original: float) -> str:
    if len(points) < 2:
        return ""
    widest = 1.05 * max(original, *(point.cost for point in points))
    lowest = 10 * math.floor(min(*(point.psnr for point in points), 30) / 10)

    def x(cost: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * cost / widest

    def y(psnr: float) -> float:
        share = (min(psnr, _HIGHEST_DB) - lowest) / (_HIGHEST_DB - lowest)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(db):.1f}" y2="{y(db):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{y(db) + 4:.1f}" text-anchor="end">{db}</text>'
        for db in range(lowest, int(_HIGHEST_DB) + 1, 10)
    )
    marks, legend = "", ""
    for place, point in enumerate(points, start=1):
        marks += (
            f'<circle class="point {escape(point.mode)}" cx="{x(point.cost):.1f}" cy="{y(point.psnr):.1f}" r="8"/>'
            f'<text class="place" x="{x(point.cost):.1f}" y="{y(point.psnr) + 4:.1f}">{place}</text>'
        )
        legend += f"<li>{escape(point.label)}: {number(point.cost, unit)}, {number(point.psnr, 'dB')}</li>"
    at = x(original)
    return (
        f'<figure class="chart"><figcaption>PSNR in dB against {escape(title)} in {escape(unit)}</figcaption>'
        f'<svg role="img" aria-label="PSNR against {escape(title)}" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="100%">'
        f'{grid}<line class="whisker" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        f'<text class="tick" x="{at - 5:.1f}" y="{_HEIGHT - _BOTTOM - 5}" text-anchor="end">the original</text>'
        f'{marks}<text class="tick" x="{_LEFT}" y="{_HEIGHT - 18}">0</text>'
        f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 18}" text-anchor="end">{number(widest, unit)}</text>'
        f'</svg><ol class="small">{legend}</ol></figure>'
    )
