"""The results of a folder as a page of Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from bench.gpu.contenders import CONTENDERS, REFERENCE
from bench.gpu.results import Result

_HEAD = (
    "| contender | ms a batch, p50 | p95 | faces / s | × original FP32 | process MiB (NVML) | GPU rose by MiB (NVML) "
    "| PyTorch allocator MiB | largest difference | PSNR dB |"
)
_NOTES = (
    "Latency by CUDA events around one batch on an idle device, photo to photo in uint8. Memory by NVML is held "
    "after the runs, with the CUDA context; PyTorch's allocator is the peak of tensors alone. Fidelity is the worst "
    "face against the original in strict FP32 on the same device."
)
DRY = "**DRY RUN on a CPU with a narrow network: these numbers mean nothing.**"


def page(network: str, results: Sequence[Result], machine: Mapping[str, str], dry: bool) -> str:
    """The page of one network."""
    title = f"# {'DRY RUN: ' if dry else ''}{network} on {machine.get('GPU', 'no GPU')}"
    facts = "; ".join(f"{name}: {value}" for name, value in machine.items())
    found = {result.key: result for result in results if result.network == network}
    lines = [title, "", *([DRY, ""] if dry else []), f"{facts}.", "", _NOTES, ""]
    for batch in sorted({result.batch for result in found.values()}):
        lines += _table(network, batch, found)
    return "\n".join([*lines, *_not_run(list(found.values()))]) + "\n"


def _table(network: str, batch: int, found: Mapping[tuple[str, str, int], Result]) -> list[str]:
    reference = found.get((network, REFERENCE.name, batch))
    base = reference.latency_ms if reference and not reference.why_not else math.nan
    rows = []
    for contender in CONTENDERS:
        result = found.get((network, contender.name, batch))
        if result is not None and not result.why_not:
            rows.append(f"| {contender.title} | {_cells(result, base)} |")
    columns = _HEAD.count("|") - 1
    return [f"## Batch {batch}", "", _HEAD, "|" + "---|" * columns, *rows, ""] if rows else []


def _cells(result: Result, base: float) -> str:
    numbers = (
        (result.latency_ms, ".2f"),
        (result.latency_p95_ms, ".2f"),
        (result.batch * 1000 / result.latency_ms, ".1f"),
        (base / result.latency_ms, ".2f"),
        (result.process_mib, ".0f"),
        (result.device_mib, ".0f"),
        (result.allocator_mib, ".0f"),
        (result.max_difference, ".0f"),
        (result.psnr, ".1f"),
    )
    return " | ".join("n/a" if value is None or math.isnan(value) else format(value, style) for value, style in numbers)


def _not_run(results: Sequence[Result]) -> list[str]:
    """What was not measured and why, a line for each contender and reason."""
    reasons: dict[tuple[str, str], list[int]] = {}
    for result in results:
        if result.why_not:
            reasons.setdefault((result.contender, result.why_not), []).append(result.batch)
    lines = [f"* {name}, batch {', '.join(map(str, batches))}: {why}" for (name, why), batches in reasons.items()]
    return ["## Not measured", "", *lines] if lines else []
