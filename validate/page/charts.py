"""What the bar charts of the page show; `charts.html.jinja` draws them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import exporters
from metrics.measurement import find
from metrics.sizes import Size
from validate.page.tables import Subjects
from validate.page.words import pixels
from validate.results import FlowResult, NetworkResult

if TYPE_CHECKING:
    from exporters.published import Figures

_FULL_WIDTH = 70.0  # per cent; the rest is for the value of the longest bar


class Kind(StrEnum):
    """What a bar is, which its colour says."""

    ORIGINAL = "original"
    ENGINE = "engine"
    PLANNED = "planned"
    PUBLISHED = "published"


_MEANING = {
    Kind.ORIGINAL: "the original, measured here",
    Kind.ENGINE: "an engine, measured here",
    Kind.PLANNED: "planned by the engine's builder, not measured",
    Kind.PUBLISHED: "published, other hardware, never measured here",
}


@dataclass(frozen=True)
class Bar:
    """One bar: its label, what it is, its value, and where a whisker ends (0: none); `said` instead of a value."""

    label: str
    note: str
    kind: Kind
    value: float
    whisker: float = 0.0
    said: str = ""

    @property
    def end(self) -> float:
        """Where bar and whisker end."""
        return max(self.value, self.whisker)


@dataclass(frozen=True)
class BarChart:
    """Bars that start at zero and share one scale. `hardware` is that of published figures."""

    name: str
    unit: str
    bars: list[Bar]
    hardware: str = ""

    @property
    def per_unit(self) -> float:
        """How many per cent of the chart's width stand for one unit."""
        return _FULL_WIDTH / (max(bar.end for bar in self.bars) or 1.0)

    @property
    def legend(self) -> dict[Kind, str]:
        """What the kinds of bars in this chart mean."""
        about = {**_MEANING, Kind.PUBLISHED: f"{_MEANING[Kind.PUBLISHED]} ({self.hardware})"}
        return {kind: about[kind] for kind in Kind if any(bar.kind is kind for bar in self.bars)}


def flow_charts(model: str, flow: FlowResult, subjects: Subjects) -> tuple[BarChart, BarChart]:
    """Memory and latency of a model's whole flow, with what others published of it."""
    memory = BarChart("Peak memory, whole flow", "MiB", _bars(subjects, "peak RSS of the whole flow", "peak_rss"))
    latency = _latency("whole flow", subjects, flow.latency_size)
    known = exporters.models().get(model)
    figures = known.figures if known else None
    of_flow = figures if figures and not figures.networks else None
    return _with_published(of_flow, flow.latency_size, memory, latency)


def network_charts(network: NetworkResult, subjects: Subjects) -> tuple[BarChart, BarChart]:
    """Memory and latency of a network, with what was planned and what others published of it."""
    memory = BarChart(f"Peak memory, {network.name}", "MiB", _memory_bars(network))
    latency = _latency(network.name, subjects, network.latency_size)
    return _with_published(exporters.figures_of(network.name), _largest(network), memory, latency)


def _with_published(
    known: Figures | None, size: Size, memory: BarChart, latency: BarChart
) -> tuple[BarChart, BarChart]:
    """Both charts, with bars for those figures whose photos had no more pixels than ours, `size`."""
    if known is None:
        return memory, latency
    for one in (told for told in known.figures if told.size[0] * told.size[1] <= size[0] * size[1]):
        note = f"published, {pixels(one.size)}"
        said = "out of memory" if one.vram_mib is None else ""
        memory.bars.append(Bar(one.what, note, Kind.PUBLISHED, one.vram_mib or 0.0, said=said))
        latency.bars.append(Bar(one.what, note, Kind.PUBLISHED, one.latency_ms))
    return replace(memory, hardware=known.hardware), replace(latency, hardware=known.hardware)


def _largest(network: NetworkResult) -> Size:
    return max(network.fidelity_sizes, key=lambda size: size[0] * size[1])


def _latency(name: str, subjects: Subjects, size: Size) -> BarChart:
    bars = _bars(subjects, f"here, {pixels(size)}", "latency_p50", "latency_p95")
    return BarChart(f"Latency p50 (whisker: up to p95), {name}", "ms", bars)


def _bars(subjects: Subjects, note: str, metric: str, whisker: str = "") -> list[Bar]:
    """A bar for each of the subjects that were measured, the first of which is the original."""
    kinds = [Kind.ORIGINAL, *[Kind.ENGINE] * (len(subjects) - 1)]
    return [
        Bar(label, note, kind, value, find(s.measurements, whisker) or 0.0)
        for kind, (label, s) in zip(kinds, subjects, strict=True)
        if (value := find(s.measurements, metric)) is not None
    ]


def _memory_bars(network: NetworkResult) -> list[Bar]:
    largest = _largest(network)
    note = f"peak RSS, {pixels(largest)}"
    bars = _bars([("original", network.original)], note, "peak_rss")
    for engine in network.engines:
        if peak := find(engine.subject.measurements, "peak_rss"):
            bars.append(Bar(engine.label, note, Kind.ENGINE, peak))
        if vram := find(engine.subject.measurements, "vram"):
            bars.append(Bar(engine.label, "GPU memory by NVML after the runs", Kind.ENGINE, vram))
        one_each = {plan.profile: plan for plan in reversed(engine.planned) if plan.max_shape[0] == 1}
        for plan in reversed(one_each.values()):
            size = (plan.max_shape[1], plan.max_shape[2])
            if size[0] * size[1] <= largest[0] * largest[1]:
                about = f"planned for {plan.target}, up to {pixels(size)}"
                bars.append(Bar(engine.label, about, Kind.PLANNED, plan.total_mib))
    return bars
