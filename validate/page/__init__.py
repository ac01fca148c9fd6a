"""A report as one HTML page that needs nothing else: styles, pictures and charts are inside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path

from cameo.bundle import MODES
from metrics.measurement import GateResult, Measurement, find
from validate.flow import NAME as FLOW
from validate.page.flow import flow_section
from validate.page.markup import badge, count, figure, number, shown, table, title
from validate.page.network import section
from validate.page.provenance import method, not_run, provenance
from validate.pictures import FlowPicture
from validate.results import Report

# Metric, heading, which value to show, and of engines of which precision ("" for all), in the usual mode.
_HIGHLIGHTS: tuple[tuple[str, str, Callable[..., Measurement], str], ...] = (
    ("throughput_ratio", "Fastest engine", max, ""),
    ("peak_rss_ratio", "Leanest engine", min, ""),
    ("max_difference", "Fidelity of fp32 engines", max, "fp32"),
)
_STYLE = Path(__file__).with_name("style.css")


def render(report: Report, flow: FlowPicture | None = None) -> str:
    """The page of `report`."""
    parts = [
        _header(report),
        _gates(report),
        _flow(flow) if flow else "",
        _flow_against_original(report),
        *(section(n, (p for p in report.pictures if p.subject.startswith(f"{n.name}/"))) for n in report.networks),
        not_run(report),
        method(),
        provenance(report),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{escape(report.model)}: validation report</title><style>{_STYLE.read_text()}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>\n"
    )


def _header(report: Report) -> str:
    ran = sum(not engine.subject.why_not_run for network in report.networks for engine in network.engines)
    where = f"{report.device['processor']}, {report.device['cores']} cores"
    return (
        f'<header class="{"good" if report.passed else "bad"}"><p class="eyebrow">Validation report</p>'
        f"<h1>{escape(report.model)} {badge(report.passed)}</h1>"
        f"<p>{count(ran, 'engine')} of {count(len(report.networks), 'network')} against the originals, on "
        f"{count(len(report.photos), 'photo')}. {escape(where)}. {escape(report.created.replace('T', ' '))}.</p>"
        f'<ul class="tiles">{"".join(_tiles(report))}</ul></header>'
    )


def _tiles(report: Report) -> Iterable[str]:
    """The figures that a reader wants first, of the networks that make pictures."""
    yield _tile("Gates that hold", f"{sum(gate.passed for gate in report.gates)} of {len(report.gates)}", "")
    engines = [e for n in report.networks for e in n.engines if find(e.subject.measurements, "psnr") is not None]
    for name, heading, best, precision in _HIGHLIGHTS:
        covered = [e.subject for e in engines if precision in ("", e.precision) and e.mode == MODES[0]]
        found = [m for subject in covered for m in subject.measurements if m.metric == name]
        if found:
            chosen = best(found, key=lambda m: m.value)
            yield _tile(heading, shown(chosen), f"{title(name)}, {chosen.subject}")


def _tile(heading: str, value: str, about: str) -> str:
    return f"<li><span>{escape(heading)}</span><strong>{escape(value)}</strong><small>{escape(about)}</small></li>"


def _gates(report: Report) -> str:
    rows = [_gate_row(gate) for gate in sorted(report.gates, key=lambda gate: gate.passed)]
    unchecked = "".join(
        f"<li>{escape(str(gate))} (limit {gate.limit:g}): no engine that ran here is measured by it</li>"
        for gate in report.unchecked_gates
    )
    heading = f"{count(len(report.skipped_photos), 'photo')} skipped, not to be read"
    skipped = "".join(f"<li>{escape(one.name)}: {escape(one.why)}</li>" for one in report.skipped_photos)
    return (
        "<section><h2>Gates</h2>"
        + (table(["", "engine", "metric", "measured", "limit"], rows) if rows else "<p>No gate was asked for.</p>")
        + (f"<h3>Not checked here</h3><ul>{unchecked}</ul>" if unchecked else "")
        + (f"<h3>{heading}</h3><ul>{skipped}</ul>" if skipped else "")
        + "</section>"
    )


def _flow_against_original(report: Report) -> str:
    if report.flow is None:
        return ""
    pictures = (picture for picture in report.pictures if picture.subject.startswith(f"{FLOW}/"))
    return flow_section(report.flow, pictures, report.faces)


def _gate_row(gate: GateResult) -> list[str]:
    found = gate.measurement
    bound = "≥" if found.higher_is_better else "≤"
    return [
        badge(gate.passed),
        escape(found.subject),
        escape(title(found.metric)),
        number(found.value, found.unit),
        escape(f"{bound} {number(gate.limit, found.unit)}"),
    ]


def _flow(flow: FlowPicture) -> str:
    return (
        f"<section><h2>The whole model on a photo</h2><p>{escape(flow.caption)}</p><div class='pair'>"
        + figure(flow.before, "photo")
        + figure(flow.after, "result")
        + "</div></section>"
    )
