"""The part of a report's page about a conversion to another precision: what stayed in FP32, and why."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from validate.page.markup import count, number, table

_KIB = 2**10
_HOW = {"fp16": "computed in half arithmetic", "int8": "computed in INT8"}


def conversion(record: Mapping[str, Any]) -> str:
    """What the record of one conversion says (`precision.json`)."""
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
    return f"<h3>Conversion to {escape(precision)}</h3><p>{escape(text)}</p>{details}"


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
