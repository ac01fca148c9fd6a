"""Bar charts as inline SVG. Widths are per cent and text is not scaled, so they are readable at every width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape

from validate.page.markup import number


class Kind(StrEnum):
    """What a bar is, which its colour says."""

    ORIGINAL = "original"
    ENGINE = "engine"
    PLANNED = "planned"
    PUBLISHED = "published"


MEANING = {
    Kind.ORIGINAL: "the original, measured here",
    Kind.ENGINE: "an engine, measured here",
    Kind.PLANNED: "planned by the engine's builder, not measured",
    Kind.PUBLISHED: "published, other hardware, never measured here",
}


@dataclass(frozen=True)
class Bar:
    """One bar: its label, what it is, its value, and where a whisker ends (0: none)."""

    label: str
    note: str
    kind: Kind
    value: float
    whisker: float = 0.0


_ROW = 46
_BAR_TOP = 20
_BAR_HEIGHT = 15
_FULL_WIDTH = 74.0  # per cent; the rest is for the value of the longest bar


def bar_chart(name: str, bars: Sequence[Bar], unit: str, hardware: str = "") -> str:
    """The chart with its legend; bars start at zero and share one scale. `hardware` is that of published figures."""
    largest = max(max(bar.value, bar.whisker) for bar in bars)
    rows = "".join(_row(bar, index * _ROW, _FULL_WIDTH / largest, unit) for index, bar in enumerate(bars))
    about = {**MEANING, Kind.PUBLISHED: f"{MEANING[Kind.PUBLISHED]} ({hardware})"}
    kinds = [kind for kind in Kind if any(bar.kind is kind for bar in bars)]
    legend = "".join(f'<li><span class="key {kind}"></span>{escape(about[kind])}</li>' for kind in kinds)
    height = len(bars) * _ROW
    return (
        f'<figure class="chart"><figcaption>{escape(name)}</figcaption>'
        f'<svg role="img" aria-label="{escape(name)}" width="100%" height="{height}">{rows}</svg>'
        f'<ul class="legend">{legend}</ul></figure>'
    )


def _row(bar: Bar, top: int, per_unit: float, unit: str) -> str:
    width, end = bar.value * per_unit, max(bar.value, bar.whisker) * per_unit
    middle = top + _BAR_TOP + _BAR_HEIGHT / 2
    whisker = (
        f'<line class="whisker" x1="{width:.2f}%" x2="{end:.2f}%" y1="{middle}" y2="{middle}"/>' if end > width else ""
    )
    return (
        f'<text x="0" y="{top + 14}">{escape(bar.label)}<tspan class="note" dx="8">{escape(bar.note)}</tspan></text>'
        f'<rect class="bar {bar.kind}" x="0" y="{top + _BAR_TOP}" width="{width:.2f}%" height="{_BAR_HEIGHT}" rx="2"/>'
        f'{whisker}<text class="value" x="{end:.2f}%" dx="7" y="{top + _BAR_TOP + 12}">'
        f"{escape(number(bar.value, unit))}</text>"
    )
