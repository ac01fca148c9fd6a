"""The parts of a report's page that say what did not run, what everything is, and how it was measured."""

from __future__ import annotations

import json
from html import escape

from metrics import meaning, metric, metric_names
from validate.page.markup import badge, facts, short_hash, table
from validate.page.network import engine_name
from validate.results import NetworkResult, Report


def not_run(report: Report) -> str:
    """The engines that could not run on this machine, and the memory that builders planned; nothing if all ran."""
    absent = [(n, e) for n in report.networks for e in n.engines if e.subject.why_not_run]
    planned = [(n, e, plan) for n in report.networks for e in n.engines for plan in e.planned]
    parts = []
    if absent:
        rows = [[escape(f"{n.name}/{engine_name(e)}"), escape(e.subject.why_not_run)] for n, e in absent]
        parts.append("<h2>Engines that did not run here</h2>" + table(["engine", "why"], rows))
    if planned:
        rows = [
            [
                escape(f"{n.name}/{engine_name(e)}"),
                escape(plan.target),
                escape(plan.profile),
                "×".join(map(str, plan.max_shape[:3])),
                *(f"{mib:,.1f}" for mib in (plan.weight_mib, plan.activation_mib, plan.total_mib)),
            ]
            for n, e, plan in planned
        ]
        heads = ["engine", "GPU", "profile", "up to N×H×W", "weights MiB", "activations MiB", "together MiB"]
        parts.append("<h3>GPU memory as planned by the builders</h3>" + table(heads, rows, "figures"))
    return f"<section>{''.join(parts)}</section>" if parts else ""


def provenance(report: Report) -> str:
    """Hashes, versions, device and date."""
    files = [row for network in report.networks for row in _files(network)]
    photos = [[escape(p.name), f"{p.width}×{p.height}", short_hash(p.sha256)] for p in report.photos]
    made_by = json.dumps(report.bundle, indent=2, ensure_ascii=False)
    return (
        "<section><h2>Provenance</h2><div class='pair'><div><h3>Device</h3>"
        + facts([*report.device.items(), ("date", report.created)])
        + "</div><div><h3>Versions</h3>"
        + facts(report.versions.items())
        + "</div></div><h3>Files</h3>"
        + table(["file", "bytes", "sha256"], files)
        + "<h3>Photos</h3>"
        + table(["photo", "size", "sha256"], photos)
        + f"<details><summary>What the bundle says of its build</summary><pre>{escape(made_by)}</pre></details>"
        + "</section>"
    )


def _files(network: NetworkResult) -> list[list[str]]:
    built_from = str(network.source.get("sha256", network.original_sha256))
    same = badge(built_from == network.original_sha256, "the bundle's own", "not the one the bundle was built from")
    name = escape(network.name)
    return [
        [f"{name}: original {same}", "", short_hash(network.original_sha256)],
        [f"{name}: ONNX", "", short_hash(network.onnx_sha256)],
        *(
            [f"{name}: {escape(engine_name(engine))}", f"{engine.file_bytes:,}", short_hash(engine.sha256)]
            for engine in network.engines
        ),
    ]


def method() -> str:
    """What the figures mean."""
    metrics = [(metric(name).TITLE, meaning(name)) for name in metric_names()]
    return (
        "<section><h2>How it was measured</h2><p>The original and every engine run in processes of their own, on the "
        "same photos, cut and resized to each size. Every round of the latency measurement times the original and then "
        "each engine, so that other work on the machine slows both; the throughput is the median over rounds of the "
        "original's time over the engine's. Peak RSS is the process's own high-water mark, libraries and loading "
        "included. Planned memory is what an engine's builder reports for weights and activations, before any GPU is "
        "there. Published figures are from articles about the originals on other hardware: they give a sense of scale, "
        "and nothing of them was measured here.</p>" + facts(metrics) + "</section>"
    )
