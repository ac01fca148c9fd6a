"""The part of a report's page that is about one network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

import exporters
from cameo.bundle import engine_label
from metrics import metric, metric_names
from metrics.measurement import Measurement, find
from validate.page.charts import Bar, Kind, bar_chart
from validate.page.conversion import conversion
from validate.page.markup import data_uri, figure, number, pixels, shown, table, title
from validate.page.tradeoff import tradeoff
from validate.pictures import Comparison, scale_bar
from validate.results import EngineResult, NetworkResult, Subject

_HIDDEN = "planned_memory/"  # has a table of its own


def section(network: NetworkResult, pictures: Iterable[Comparison]) -> str:
    """Everything about one network."""
    return (
        f'<section class="network"><h2>{escape(network.name)}</h2>'
        + "".join(map(trio, pictures))
        + _measurements(network)
        + _charts(network)
        + tradeoff(network, engine_name)
        + _by_size(network)
        + "".join(conversion(*made) for made in network.conversions.items())
        + "</section>"
    )


def _ran(network: NetworkResult) -> list[EngineResult]:
    return [engine for engine in network.engines if not engine.subject.why_not_run]


def engine_name(engine: EngineResult) -> str:
    """An engine as the page calls it ("openvino bf16")."""
    return engine_label(engine.engine, engine.precision, engine.mode)


def trio(picture: Comparison) -> str:
    """The original's picture, an engine's, and where they differ."""
    _, _, engine = picture.subject.partition("/")
    legend = (
        f'<span class="scale">0<img src="{data_uri(scale_bar())}" alt="">{picture.full_scale} levels of 255</span>'
        f"<small>{'every pixel that differs is drawn three pixels wide' if picture.sparse else ''}</small>"
    )
    return (
        '<div class="trio">'
        + figure(picture.original, "original")
        + figure(picture.candidate, engine)
        + figure(picture.difference, "difference, amplified", legend)
        + "</div>"
    )


def _measurements(network: NetworkResult) -> str:
    subjects = [("original", network.original), *((engine_name(e), e.subject) for e in _ran(network))]
    runs = len(network.original.latencies_ms)
    fidelity = ", ".join(map(pixels, network.fidelity_sizes))
    return (
        "<h3>Measurements</h3>"
        + figures_of(subjects, lambda name: not name.startswith(_HIDDEN))
        + f"<p class='small'>Fidelity: the worst over all photos at {fidelity}. Latency: {runs} rounds at "
        f"{pixels(network.latency_size)}, batch 1, original and engines in turns, after warm-up. "
        f"Peak RSS: of each whole process, loading and all these runs included.</p>"
    )


def figures_of(subjects: Sequence[tuple[str, Subject]], wanted: Callable[[str], bool]) -> str:
    """A table of named subjects and those of their metrics that are wanted, fidelity first."""
    found = list(dict.fromkeys(m.metric for _, subject in subjects for m in subject.measurements if wanted(m.metric)))
    columns = sorted(found, key=lambda name: name.partition("/")[0] not in metric_names())
    rows = [
        [escape(name), *(shown(_measured(subject.measurements, column)) for column in columns)]
        for name, subject in subjects
    ]
    return table(["", *map(title, columns)], rows, "figures")


def _measured(measurements: Sequence[Measurement], name: str) -> Measurement | None:
    return next((m for m in measurements if m.metric == name), None)


def _charts(network: NetworkResult) -> str:
    known = exporters.figures_of(network.name)
    largest = min(max(network.fidelity_sizes, key=min))
    memory_bars, latency_bars = _memory_bars(network), _latency_bars(network)
    for one in (told for told in (known.figures if known else ()) if told.size <= largest):
        note = f"published, {one.size}×{one.size}"
        memory_bars.append(Bar(one.what, note, Kind.PUBLISHED, one.vram_mib))
        latency_bars.append(Bar(one.what, note, Kind.PUBLISHED, one.latency_ms))
    memory = bar_chart("Peak memory", memory_bars, "MiB", known.hardware if known else "")
    latency = bar_chart("Latency p50 (whisker: up to p95)", latency_bars, "ms", known.hardware if known else "")
    return f'<div class="pair">{memory}{latency}</div>'


def _latency_bars(network: NetworkResult) -> list[Bar]:
    note = f"here, {pixels(network.latency_size)}"
    subjects = [("original", Kind.ORIGINAL, network.original)]
    subjects += [(engine_name(engine), Kind.ENGINE, engine.subject) for engine in _ran(network)]
    return [
        Bar(name, note, kind, find(s.measurements, "latency_p50") or 0.0, find(s.measurements, "latency_p95") or 0.0)
        for name, kind, s in subjects
    ]


def _memory_bars(network: NetworkResult) -> list[Bar]:
    largest = max(network.fidelity_sizes, key=lambda size: size[0] * size[1])
    note = f"peak RSS, {pixels(largest)}"
    bars = [Bar("original", note, Kind.ORIGINAL, find(network.original.measurements, "peak_rss") or 0.0)]
    for engine in network.engines:
        if peak := find(engine.subject.measurements, "peak_rss"):
            bars.append(Bar(engine_name(engine), note, Kind.ENGINE, peak))
        if vram := find(engine.subject.measurements, "vram"):
            bars.append(Bar(engine_name(engine), "GPU memory by NVML after the runs", Kind.ENGINE, vram))
        one_each = {plan.profile: plan for plan in reversed(engine.planned) if plan.max_shape[0] == 1}
        for plan in reversed(one_each.values()):
            size = (plan.max_shape[1], plan.max_shape[2])
            if size[0] * size[1] <= largest[0] * largest[1]:
                about = f"planned for {plan.target}, up to {pixels(size)}"
                bars.append(Bar(engine_name(engine), about, Kind.PLANNED, plan.total_mib))
    return bars


def _by_size(network: NetworkResult) -> str:
    """Fidelity at every size; nothing where there is only one."""
    rows = [
        [escape(engine_name(engine)), f"{size.width}×{size.height}"]
        + [number(value, metric(name).UNIT if name in metric_names() else "") for name, value in size.worst.items()]
        for engine in _ran(network)
        for size in engine.by_size
    ]
    if len(network.fidelity_sizes) < 2 or not rows:
        return ""
    names = next(size.worst for engine in _ran(network) for size in engine.by_size)
    heads = ["", "size", *map(title, names)]
    return f"<details open><summary>Fidelity by size</summary>{table(heads, rows, 'figures')}</details>"
