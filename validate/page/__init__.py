"""A report as one HTML page that needs nothing else: styles, pictures and charts are inside it.

The HTML is in `templates/`; what is here prepares what they show (docs/decisions/125).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cameo.modes import MODES
from metrics.measurement import Measurement, find
from validate.page.environment import environment
from validate.page.sections import parts, tightest
from validate.page.words import shown, subject
from validate.pictures import FlowPicture
from validate.results import Report

# Metric, heading, what the value is of, which to show, and of engines of which precision ("" for all), in usual mode.
_HIGHLIGHTS: tuple[tuple[str, str, str, Callable[..., Measurement], str], ...] = (
    ("throughput_ratio", "Fastest engine", "the original's throughput", max, ""),
    ("peak_rss_ratio", "Leanest engine", "the original's peak RSS", min, ""),
    ("max_difference", "Least faithful fp32 engine", "the largest difference from the original", max, "fp32"),
)


@dataclass(frozen=True)
class Tile:
    """A figure that a reader wants first."""

    heading: str
    value: str
    about: str


def render(report: Report, flow: FlowPicture | None = None) -> str:
    """The page of `report`."""
    page = environment().get_template("page.html.jinja")
    return page.render(report=report, tiles=list(_tiles(report)), parts=list(parts(report, flow)))


def _tiles(report: Report) -> Iterator[Tile]:
    """What the gates say, and the extremes of the networks that make pictures."""
    gates = tightest(report.gates)
    yield Tile("Gates that hold", f"{sum(gate.passed for gate in gates)} of {len(gates)}", f"{report.judged} judged")
    engines = [e for e in report.engines if e.mode == MODES[0] and find(e.subject.measurements, "psnr") is not None]
    for name, heading, of, best, precision in _HIGHLIGHTS:
        covered = [e.subject for e in engines if precision in ("", e.precision)]
        found = [m for one in covered for m in one.measurements if m.metric == name]
        if found:
            chosen = best(found, key=lambda m: m.value)
            yield Tile(heading, shown(chosen), f"{of}: {subject(chosen.subject)}")
