"""What a contender measured at one batch, kept as a line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One contender at one batch; `why_not` says why it was not measured, else "".

    `process_mib` is this process's GPU memory by NVML, `device_mib` what the whole GPU's rose by since the process
    started (NVML cannot tell processes apart in every container), `allocator_mib` the peak of PyTorch's allocator.
    Fidelity is against the original in strict FP32 on the same device. None is what could not be measured.
    """

    network: str
    contender: str
    batch: int
    why_not: str = ""
    latency_ms: float = 0.0
    latency_p95_ms: float = 0.0
    runs: int = 0
    process_mib: float | None = None
    device_mib: float | None = None
    allocator_mib: float | None = None
    max_difference: float | None = None
    psnr: float | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        return self.network, self.contender, self.batch


class ResultFile:
    """The results of a folder; a later line replaces an earlier one of the same contender and batch."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "results.jsonl"

    def add(self, result: Result) -> None:
        """Keep one result, on disk when this returns."""
        with self._path.open("a") as file:
            file.write("\n" + json.dumps(asdict(result)) + "\n")  # first ends a line that a crash cut short

    def all(self) -> list[Result]:
        """The latest result of each contender and batch; a line cut short does not count."""
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return list({result.key: result for result in _parsed(lines)}.values())

    def missing(self, network: str, contender: str, batches: Iterable[int]) -> list[int]:
        """The batches that were not yet measured; what could not be measured is tried again."""
        done = {result.key for result in self.all() if not result.why_not}
        return [batch for batch in batches if (network, contender, batch) not in done]


def _parsed(lines: Iterable[str]) -> Iterable[Result]:
    for line in lines:
        with suppress(ValueError, TypeError):
            yield Result(**json.loads(line))
