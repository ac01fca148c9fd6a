"""The curve of fidelity against cost."""

import math
import re

import pytest

from metrics.measurement import Measurement
from validate.page.environment import environment
from validate.page.tradeoff import tradeoffs
from validate.results import EngineResult, NetworkResult, Subject


def _subject(name: str, latency_ms: float, psnr: float | None) -> Subject:
    measured = [
        Measurement(name, "latency_p50", latency_ms, "ms", False),
        Measurement(name, "peak_rss", 9, "MiB", False),
    ]
    return Subject(name, (*measured, *([Measurement(name, "psnr", psnr, "dB", True)] if psnr is not None else ())))


def _network(*engines: tuple[str, str, float, float | None]) -> NetworkResult:
    results = tuple(
        EngineResult("openvino", precision, "", 1, _subject(precision, latency_ms, psnr), mode=mode)
        for precision, mode, latency_ms, psnr in engines
    )
    return NetworkResult("n", "", "", {}, (), (720, 960), _subject("original", 100, None), results)


def _page(network: NetworkResult) -> str:
    draw = environment().get_template("charts.html.jinja").module.tradeoff
    return "".join(map(draw, tradeoffs(network)))


def test_better_engines_are_higher_and_faster_ones_further_left() -> None:
    network = _network(("fp32", "quality", 80, math.inf), ("<bf16>", "quality", 20, 57), ("int8", "balanced", 10, 37))
    page = _page(network)
    points = re.findall(r'class="point (\w+)" cx="([\d.]+)" cy="([\d.]+)"', page.partition("peak RSS")[0])
    assert [mode for mode, _, _ in points] == ["quality", "quality", "balanced"]
    assert sorted(points, key=lambda point: -float(point[1])) == points, "from slow to fast"
    assert sorted(points, key=lambda point: float(point[2])) == points, "from faithful to less so"
    assert "<li>openvino &lt;bf16&gt;: 20.0 ms, 57.0 dB</li>" in page
    assert "the original" in page


def test_there_is_nothing_to_trade_with_one_engine_or_without_pictures() -> None:
    assert not _page(_network(("fp32", "quality", 80, math.inf)))
    assert not _page(_network(("fp32", "quality", 80, None), ("bf16", "quality", 9, None)))


@pytest.mark.parametrize("psnr", [(98.5, 31.0), (57.0, 12.5), (math.inf, 98.5), (math.inf, math.inf)])
def test_every_point_lies_at_its_value_between_the_lines_of_the_scale(psnr: tuple[float, float]) -> None:
    page = _page(_network(*(("fp32", "quality", 80, value) for value in psnr))).partition("peak RSS")[0]
    labels = re.findall(r'class="tick" x="[\d.]+" y="([\d.]+)" text-anchor="end">([\d∞]+)<', page)
    lines = {math.inf if label == "∞" else float(label): float(y) - 4 for y, label in labels}
    places = [float(y) for y in re.findall(r'cy="([\d.]+)"', page)]
    for value, place in zip(psnr, places, strict=True):
        if math.isinf(value):
            assert place == lines[math.inf] == min(lines.values())
        else:
            below, above = 10 * math.floor(value / 10), 10 * math.ceil(value / 10)
            share = (value - below) / 10
            assert place == pytest.approx(lines[below] + share * (lines[above] - lines[below]), abs=0.11)
