"""The part of a report's page about graphs made of others: what stayed in FP32 and why, which channels went."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from validate.page.markup import count, number, table

_KIB = 2**10
_HOW = {"fp16": "computed in half arithmetic", "int8": "computed in INT8"}


def conversion(made: str, record: Mapping[str, Any]) -> str:
    """What the record of a graph made of another says; `made` is what was done ("fp16", "pruned", "qat.int8")."""
    if "widths" in record:
        return _lighter(record)
    return _taught_int8(record) if "convolutions" in record else _precision(made, record)


def _lighter(record: Mapping[str, Any]) -> str:
    """The record of a pruned network or of a student (`recovery.json`)."""
    left = [f"{name} {100 * after / before:.0f} %" for name, (before, after) in _sizes(record)]
    gone = f"{100 * record['pruned']:.0f} % of the channels are gone" if record["pruned"] else "All channels stay"
    how = ", convolutions are depthwise-separable" if record["separable"] else ""
    text = f"{gone}{how}; what is left: {', '.join(left)}.{_learned(record)}"
    widths = table(["channels", "before", "after"], [[escape(k), *map(str, v)] for k, v in record["widths"].items()])
    title = "Student" if record["separable"] else "Pruned"
    return f"<h3>{title}</h3><p>{escape(text)}</p><details><summary>Widths</summary>{widths}</details>"


def _taught_int8(record: Mapping[str, Any]) -> str:
    """The record of quantisation-aware recovery (`recovery.json`)."""
    text = f"The weights learned to live with {record['convolutions']} convolutions in INT8.{_learned(record)}"
    return f"<h3>Recovered for INT8</h3><p>{escape(text)}</p>"


def _learned(record: Mapping[str, Any]) -> str:
    """What learning brought, if there were photos."""
    if "held_out_psnr_before" not in record:
        return ""
    text = f" Against the original on held-out photos: {number(record['held_out_psnr_before'], 'dB')}"
    after = record.get("held_out_psnr_after")
    return f"{text}, {number(after, 'dB')} after {record['steps']} steps of recovery." if after else f"{text}."


def _sizes(record: Mapping[str, Any]) -> list[tuple[str, tuple[float, float]]]:
    return [("parameters", record["parameters"]), ("multiplications", record["macs"])]


def _precision(made: str, record: Mapping[str, Any]) -> str:
    """The record of one conversion (`precision.json`)."""
    kept, photos, gate = record["kept_fp32"], record["photos"], record["gate"]
    skipped = f", {count(len(photos['skipped']), 'photo')} could not be read" if photos["skipped"] else ""
    precision, cost = record["precision"], sum(node["bytes"] for node in kept) / _KIB
    text = (
        f"{len(kept)} of {count(record['nodes'], 'node')} stay in FP32 ({cost:,.0f} KiB more than in "
        f"{precision.upper()}). Against the FP32 graph, {_HOW[precision]} on "
        f"{count(len(photos['used']), 'photo')}{skipped}: {number(float(gate['value']), 'dB')} or better "
        f"(limit {number(gate['limit'], 'dB')}){_further(record)}."
    )
    heads = ["node", "operator", "why", "range", "KiB"]
    nodes = table(heads, [_row(node) for node in kept], "figures") if kept else ""
    details = f"<details><summary>Nodes in FP32</summary>{nodes}</details>" if kept else ""
    return f"<h3>Conversion to {escape(made)}</h3><p>{escape(text)}</p>{details}"


def _further(record: Mapping[str, Any]) -> str:
    """What else was looked at: values that are not finite, or SSIM and the methods of calibration."""
    if "methods" not in record:
        return ", and no value that is not finite, at double contrast either"
    methods = (f"{name} {number(float(found['psnr']), 'dB')}" for name, found in record["methods"].items())
    ssim = f"SSIM {record['ssim']['value']:.4f} (limit {record['ssim']['limit']:g})"
    return f", {ssim}; thresholds by {record['method']}, best of {', '.join(methods)}"


def _row(node: Mapping[str, Any]) -> list[str]:
    values = " to ".join(f"{value:.3g}" for value in node["range"] or ())
    return [*map(escape, (node["node"], node["op"], node["reason"], values)), f"{node['bytes'] / _KIB:,.1f}"]
