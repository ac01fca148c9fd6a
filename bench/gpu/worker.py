"""One contender in a process of its own.

    python -m bench.gpu.worker JOB.json

`JOB.json` holds the fields of `Job`. Every batch is a line of JSON on standard output, as soon as it is measured.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.gpu.contenders import CONTENDERS, REFERENCE, Bound, Contender, load
from bench.gpu.instruments import CudaInstruments, DryInstruments, Instruments
from bench.gpu.results import Result
from bench.levels import aligned_faces
from cameo.errors import EngineUnavailable
from metrics import max_difference, psnr

WARM_UP_RUNS = 3


@dataclass(frozen=True)
class Job:
    """What a worker measures; `bundle` is "" where there is none."""

    contender: str
    network: str
    checkpoint: str
    bundle: str
    batches: tuple[int, ...]
    runs: int
    folder: str
    dry: bool


def measure(job: Job, say: Any) -> None:
    """Measure every batch and give each `Result` to `say`; memory grows, so the first batch that fails is the last."""
    contender = next(one for one in CONTENDERS if one.name == job.contender)
    instruments: Instruments = DryInstruments() if job.dry else CudaInstruments()
    size = int(job.network.rpartition("-")[2])
    batch = job.batches[0]
    try:
        opened = load(contender, job.network, Path(job.checkpoint), Path(job.bundle) if job.bundle else None, job.dry)
        for batch in job.batches:
            bound = opened(aligned_faces(size, batch))
            say(_measured(job, contender, batch, bound, instruments))
            del bound
    except Exception as error:  # whatever a library raises is this contender's result, and the others still run
        if not isinstance(error, EngineUnavailable):
            traceback.print_exc()
        for failed in job.batches[job.batches.index(batch) :]:
            say(Result(job.network, job.contender, failed, why_not=_reason(error)))


def _measured(job: Job, contender: Contender, batch: int, bound: Bound, instruments: Instruments) -> Result:
    _forget_peak()
    for _ in range(WARM_UP_RUNS):
        bound.run()
    times = [instruments.time_ms(bound.run) for _ in range(job.runs)]
    process_mib, device_mib = instruments.memory_mib()
    largest, noise = _fidelity(job, contender, batch, np.asarray(bound.results()["result"], np.uint8))
    return Result(
        job.network,
        job.contender,
        batch,
        latency_ms=float(np.median(times)),
        latency_p95_ms=float(np.percentile(times, 95)),
        runs=len(times),
        process_mib=process_mib,
        device_mib=device_mib,
        allocator_mib=_peak_mib(),
        max_difference=largest,
        psnr=noise,
    )


def _fidelity(
    job: Job, contender: Contender, batch: int, result: NDArray[np.uint8]
) -> tuple[float | None, float | None]:
    """Largest difference and PSNR of the worst face against the reference, which keeps its result; None without it."""
    path = Path(job.folder) / f"{job.network}-reference-{batch}.npy"
    if contender is REFERENCE:
        np.save(path, result)
    if not path.exists():
        return None, None
    pairs = list(zip(np.load(path), result, strict=True))
    return max(max_difference.measure(*pair) for pair in pairs), min(psnr.measure(*pair) for pair in pairs)


def _forget_peak() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _peak_mib() -> float | None:
    """The most that PyTorch's allocator held for tensors, or None where PyTorch or CUDA has no part."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    return float(torch.cuda.max_memory_allocated()) / 2**20


def _reason(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0][:300]
    return first if isinstance(error, EngineUnavailable) else f"{type(error).__name__}: {first}"


def main(job_file: str) -> int:
    """Measure the job; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    fields = json.loads(Path(job_file).read_text())
    job = Job(**{**fields, "batches": tuple(fields["batches"])})
    measure(job, lambda result: answers.write(json.dumps(asdict(result)) + "\n"))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
