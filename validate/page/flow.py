"""The part of a report's page that is about the whole flow, photo in and photo out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape

from cameo.bundle import engine_label
from metrics import metric_names
from metrics.measurement import find
from validate.flow import FACE, METRICS
from validate.page.charts import Bar, Kind, bar_chart
from validate.page.markup import count, figure, number, pixels
from validate.page.network import figures_of, trio
from validate.pictures import Comparison, FacePair
from validate.results import FlowEngineResult, FlowResult, Subject

_OF_FACES = {*METRICS, *(name + FACE for name in metric_names())}


def flow_section(flow: FlowResult, pictures: Iterable[Comparison], faces: Iterable[FacePair]) -> str:
    """Everything about the flow."""
    subjects = [("original", flow.original), *((_name(e), e.subject) for e in _ran(flow))]
    engines = subjects[1:]
    return (
        '<section class="network"><h2>The whole flow against the original</h2>'
        "<p>The same flow, once on the authors' own networks and once on each engine; networks that an engine is not "
        f"built for run on their best. {_with(flow)}</p>"
        + "".join(map(trio, pictures))
        + "<h3>The photo</h3>"
        + figures_of(engines, lambda name: name in metric_names())
        + _about_faces(flow, engines, list(faces))
        + "<h3>Speed and memory</h3>"
        + figures_of(subjects, lambda name: name not in metric_names() and name not in _OF_FACES)
        + f"<p class='small'>{count(len(flow.original.latencies_ms), 'round')} on the first photo, "
        f"{pixels(flow.latency_size)}, original and engines in turns, after a run to warm up.</p>"
        + _charts(flow, subjects)
        + "</section>"
    )


def _with(flow: FlowResult) -> str:
    """The options that are not the usual ones."""
    options = ", ".join(escape(f"{name} {value}") for name, value in flow.options.items())
    return f"With {options}." if options else ""


def _ran(flow: FlowResult) -> list[FlowEngineResult]:
    return [engine for engine in flow.engines if not engine.subject.why_not_run]


def _name(engine: FlowEngineResult) -> str:
    return engine_label(engine.engine, engine.precision, engine.mode)


def _about_faces(flow: FlowResult, engines: list[tuple[str, Subject]], pairs: list[FacePair]) -> str:
    faces = max((len(engine.faces) for engine in _ran(flow)), default=0)
    if not faces:
        return "<h3>Faces</h3><p>The flow worked on no face in these photos.</p>"
    is_of_faces: Callable[[str], bool] = _OF_FACES.__contains__
    return (
        "<h3>Faces</h3>"
        + figures_of(engines, is_of_faces)
        + f"<p class='small'>The worst of {count(faces, 'face')}, each cut out of both results by its five points. "
        + (
            f"{escape(flow.finder)} found the points again in both: the largest shift of any is given, "
            if flow.finder
            else "The flow has no face finder: points were not looked for, "
        )
        + "in pixels and as a share of the distance of the eyes.</p>"
        + f"<div class='faces'>{''.join(map(_pair, pairs))}</div>"
    )


def _pair(pair: FacePair) -> str:
    _, _, engine = pair.subject.partition("/")
    photo = pair.photo.rpartition("/")[2]
    both = figure(pair.original, "original") + figure(pair.candidate, engine)
    return f"<div><div class='twins'>{both}</div><small>{escape(photo)}: {_verdict(pair)}</small></div>"


def _verdict(pair: FacePair) -> str:
    """Both figures of a pair in words."""
    if math.isnan(pair.shift_share):
        points = "its points are not found in the original's result"
    elif math.isinf(pair.shift_share):
        points = "its points are lost"
    else:
        points = f"its points moved by {number(pair.shift_share, '%')} of the eyes' distance"
    return f"{number(pair.psnr, 'dB')}, {points}"


def _charts(flow: FlowResult, subjects: list[tuple[str, Subject]]) -> str:
    def bars(metric: str, note: str, whisker: str = "") -> list[Bar]:
        return [
            Bar(
                name,
                note,
                Kind.ENGINE if subject is not flow.original else Kind.ORIGINAL,
                find(subject.measurements, metric) or 0.0,
                (find(subject.measurements, whisker) or 0.0) if whisker else 0.0,
            )
            for name, subject in subjects
        ]

    memory = bar_chart("Peak memory", bars("peak_rss", "peak RSS of the whole flow"), "MiB", "")
    note = f"here, {pixels(flow.latency_size)}"
    latency = bar_chart("Latency p50 (whisker: up to p95)", bars("latency_p50", note, "latency_p95"), "ms", "")
    return f'<div class="pair">{memory}{latency}</div>'
