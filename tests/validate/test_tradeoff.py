"""The curve of fidelity against cost."""

import math
import re

from metrics.measurement import Measurement
from validate.page.tradeoff import tradeoff
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


def test_better_engines_are_higher_and_faster_ones_further_left() -> None:
    network = _network(("fp32", "quality", 80, math.inf), ("bf16", "quality", 20, 57), ("int8", "balanced", 10, 37))
    page = tradeoff(network, lambda engine: f"<{engine.precision}>")
    points = re.findall(r'class="point (\w+)" cx="([\d.]+)" cy="([\d.]+)"', page.partition("peak RSS")[0])
    assert [mode for mode, _, _ in points] == ["quality", "quality", "balanced"]
    assert sorted(points, key=lambda point: -float(point[1])) == points, "from slow to fast"
    assert sorted(points, key=lambda point: float(point[2])) == points, "from faithful to less so"
    assert "<li>&lt;bf16&gt;: 20.0 ms, 57.0 dB</li>" in page
    assert "the original" in page


def test_there_is_nothing_to_trade_with_one_engine_or_without_pictures() -> None:
    assert not tradeoff(_network(("fp32", "quality", 80, math.inf)), lambda engine: "")
    assert not tradeoff(_network(("fp32", "quality", 80, None), ("bf16", "quality", 9, None)), lambda engine: "")
