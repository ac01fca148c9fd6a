"""Small pieces of HTML; whatever is not HTML yet is escaped here."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from html import escape

from metrics import metric, metric_names
from metrics.measurement import Measurement
from metrics.sizes import Size

_PLURALS = ("levels", "faces")
_TITLES = {
    "latency_p50": "Latency p50",
    "latency_p95": "Latency p95",
    "latency_p99": "Latency p99",
    "throughput_ratio": "Throughput against the original",
    "peak_rss": "Peak RSS",
    "peak_rss_ratio": "Peak RSS against the original",
    "vram": "GPU memory",
    "planned_memory": "Planned GPU memory",
    "max_difference": "Largest difference",
    "landmark_shift": "Largest shift of a face's points",
    "landmark_shift_share": "That shift, of the eyes' distance",
    "faces_lost": "Faces lost",
}


def title(name: str) -> str:
    """The heading of a metric ("max_difference/boxes" is "Largest difference, boxes")."""
    base, _, about = name.partition("/")
    heading = metric(base).TITLE if base in metric_names() else _TITLES[base]
    return f"{heading}, {about}" if about else heading


def number(value: float, unit: str) -> str:
    """`value` as text with its unit, as precise as the unit asks for."""
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    digits = {"ms": f"{value:,.0f}" if value >= 100 else f"{value:.1f}", "MiB": f"{value:,.0f}", "levels": f"{value:g}"}
    digits |= {"dB": f"{value:.1f}", "×": f"{value:.2f}", "%": f"{value:.3g}", "px": f"{value:.2f}"}
    digits |= {"faces": f"{value:g}"}
    # Similarity is cut, not rounded: 1.000000 is for identical pictures alone.
    text = digits.get(unit) or (f"{math.floor(value * 1e6) / 1e6:.6f}" if 0.1 < value <= 1 else f"{value:.2g}")
    return f"{text} {unit.removesuffix('s') if value == 1 and unit in _PLURALS else unit}".rstrip()


def shown(measurement: Measurement | None) -> str:
    """A measurement as text; a dash where there is none."""
    return "–" if measurement is None else number(measurement.value, measurement.unit)


def count(things: int, name: str) -> str:
    """How many there are of what: one photo is "1 photo", two are "2 photos"."""
    return f"{things} {name}{'' if things == 1 else 's'}"


def pixels(size: Size) -> str:
    """A size (height, width) as people write it: width×height."""
    return f"{size[1]}×{size[0]}"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """A table that scrolls sideways on narrow screens; cells are HTML."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in heads)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in rows)
    whole = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f'<div class="scroll">{whole}</div>'


def _cells(row: Sequence[str]) -> str:
    first, *rest = row
    return f'<th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of names and values, both text."""
    return "<dl>" + "".join(f"<div><dt>{escape(n)}</dt><dd>{escape(v)}</dd></div>" for n, v in pairs) + "</dl>"


def figure(picture: bytes, caption: str, extra: str = "") -> str:
    """An encoded picture with its caption (text) and what stands below that (HTML)."""
    return (
        f'<figure><img src="{data_uri(picture)}" alt="{escape(caption)}">'
        f"<figcaption>{escape(caption)}{extra}</figcaption></figure>"
    )


def data_uri(picture: bytes) -> str:
    """A PNG or JPEG as an address that needs no file."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"


def badge(passed: bool, good: str = "passed", bad: str = "failed") -> str:
    """A coloured word."""
    return f'<span class="badge {"good" if passed else "bad"}">{good if passed else bad}</span>'


def short_hash(sha256: str) -> str:
    """The first digits of a hash, the whole of it on pointing."""
    return f'<code title="{escape(sha256)}">{escape(sha256[:16])}…</code>' if sha256 else "–"
