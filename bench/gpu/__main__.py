"""The command line of `make bench-gpu`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from rich.console import Console

import engines
from bench import random_weights
from bench.gpu import instruments
from bench.gpu.contenders import CONTENDERS
from bench.gpu.page import page
from bench.gpu.results import Result, ResultFile
from bench.gpu.worker import Job
from cameo import cuda_driver
from cameo.bundle import Bundle
from cameo.errors import CameoError, EngineUnavailable
from exporters import family_of, model
from pipeline.build import build
from pipeline.build_network import BuildOptions
from pipeline.recipe_stages import weights_in
from validate import provenance

MEASUREMENTS = Path(__file__).resolve().parents[2] / "docs" / "measurements"
ENGINES = ("onnxruntime", "tensorrt", "tensorrt-rtx")
LIBRARIES = ("torch", "onnxruntime-gpu", "cuda-bindings")
BATCHES, RUNS = (1, 4, 8), 30
DRY_NETWORK, DRY_BATCHES, DRY_RUNS = "gpen-bfr-256", (1, 2), 2
DRY_NARROW = 1 / 16  # of the published width

console = Console(highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    network: str
    out: Path
    weights: Path | None
    bundle: Path | None
    batches: tuple[int, ...]
    only: tuple[str, ...]
    dry: bool

    @property
    def said_of_weights(self) -> str:
        if self.dry:
            return "random weights, narrower than published"
        return f"from {self.weights.name}" if self.weights else random_weights.SAID


def main(arguments: list[str] | None = None) -> int:
    """Measure what is missing, write the page, and return 0; 1 where there is no GPU or nothing could be prepared."""
    options = _parser().parse_args(arguments)
    asked = _asked(options)
    try:
        if not options.render:
            run(asked)
        print(f"wrote {write_page(asked)}")
    except CameoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def run(asked: Asked) -> None:
    """Measure every contender that is not in the results yet.

    Raises:
        EngineUnavailable: there is no GPU, or nothing to measure it with.
        CameoError: no weights or no such network.
    """
    reason = cuda_driver.why_no_gpu()
    if reason and not asked.dry:
        raise EngineUnavailable(
            f"bench-gpu needs an NVIDIA GPU, and {reason}: run it where there is one, or try its code with --dry-run"
        )
    if (reason := instruments.why_unavailable()) and not asked.dry:
        raise EngineUnavailable(f"bench-gpu cannot run: {reason}")
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "machine.json").write_text(json.dumps(_machine(asked), indent=2) + "\n")
    folder = asked.weights or asked.out / "weights"
    checkpoint = _checkpoint(asked, folder)
    bundle = asked.bundle or _built(asked, folder)
    results = ResultFile(asked.out)
    for contender in CONTENDERS:
        missing = tuple(results.missing(asked.network, contender.name, asked.batches))
        if missing and (not asked.only or contender.name in asked.only):
            console.print(f"{contender.name}: batch {', '.join(map(str, missing))}")
            runs = DRY_RUNS if asked.dry else RUNS
            job = Job(
                contender.name,
                asked.network,
                str(checkpoint),
                str(bundle or ""),
                missing,
                runs,
                str(asked.out),
                asked.dry,
            )
            _measure(job, asked.out, results)


def _measure(job: Job, out: Path, results: ResultFile) -> None:
    """Run one contender in a child process and keep each line that it gives."""
    job_file = out / "job.json"
    job_file.write_text(json.dumps(asdict(job)))
    command = [sys.executable, "-m", "bench.gpu.worker", str(job_file)]
    given: set[int] = set()
    with (
        (out / f"{job.contender}.log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as child,
    ):
        for line in child.stdout or ():
            result = Result(**json.loads(line))
            results.add(result)
            given.add(result.batch)
            console.print(f"  {result.why_not or f'batch {result.batch}: {result.latency_ms:.2f} ms'}")
    for batch in job.batches:
        if batch not in given:
            why = f"its process ended with exit code {child.returncode} (see {job.contender}.log)"
            results.add(Result(job.network, job.contender, batch, why_not=why))


def write_page(asked: Asked) -> Path:
    """Write the page of the results in `out`, and in docs/measurements unless the run was dry; return where it lies.

    Raises:
        CameoError: `out` holds no results.
    """
    results = ResultFile(asked.out).all()
    machine_file = asked.out / "machine.json"
    if not results or not machine_file.exists():
        raise CameoError(f"{asked.out} holds no results: run bench-gpu first, or name its folder with --out")
    machine: Mapping[str, str] = json.loads(machine_file.read_text())
    dry = bool(machine.get("dry run"))
    text = page(asked.network, results, machine, dry)
    path = asked.out / f"{asked.network}.md"
    path.write_text(text)
    if dry:
        console.print(text)
        return path
    device = machine["GPU"].lower().replace("nvidia ", "").replace(" ", "-")
    recorded = MEASUREMENTS / f"{machine['date']}-gpu-{device}-{asked.network}.md"
    recorded.write_text(text)
    return recorded


def _machine(asked: Asked) -> dict[str, str]:
    """The day, the machine and the versions; the GPU by its driver."""
    gpu = next(iter(cuda_driver.devices()), None)
    facts = {"date": date.today().isoformat(), "weights": asked.said_of_weights}
    facts |= {**provenance.device(), **provenance.versions(LIBRARIES)}
    facts["GPU"] = f"{gpu.name}" if gpu else "none"
    if gpu:
        facts |= {"capability": gpu.capability, "GPU memory": f"{gpu.vram_mib} MiB"}
        facts["driver's CUDA"] = cuda_driver.driver_version() or "unknown"
    return {**facts, "dry run": "yes"} if asked.dry else facts


def _checkpoint(asked: Asked, folder: Path) -> Path:
    """The checkpoint of the network: the user's, or one with random weights."""
    if asked.weights is None:
        return random_weights.write_checkpoint(asked.network, folder, DRY_NARROW if asked.dry else None)
    found = weights_in(folder, asked.network)
    if found is None:
        files = family_of(asked.network).networks[asked.network]
        raise CameoError(f"{folder} has no {files.usual[0]}: name the folder that holds it with --weights")
    return found.path


def _built(asked: Asked, weights: Path) -> Path | None:
    """The bundle, built for every engine that can be built here; None, said, where it cannot."""
    here = tuple(sorted({gpu.capability for gpu in cuda_driver.devices()} & set(BuildOptions().targets)))
    buildable = tuple(name for name in ENGINES if engines.engine(name).why_not_buildable() is None)
    wanted = tuple(name for name in buildable if name != "tensorrt-rtx" or here)  # it knows RTX GPUs only
    options = BuildOptions(wanted, here, ("fp32",)) if asked.dry else BuildOptions(wanted, here)
    try:
        build(model(asked.network), weights, asked.out / "bundle", options, console.print)
    except CameoError as error:
        console.print(f"engines are left out, as the bundle cannot be built here: {error}")
        return None
    return Bundle(asked.out / "bundle").folder


def _asked(options: argparse.Namespace) -> Asked:
    network = options.network or (DRY_NETWORK if options.dry_run else "gpen-bfr-512")
    batches = tuple(int(batch) for batch in options.batches.split(",")) if options.batches else ()
    usual = DRY_BATCHES if options.dry_run else BATCHES
    only = tuple(options.only.split(",")) if options.only else ()
    return Asked(network, options.out, options.weights, options.bundle, batches or usual, only, options.dry_run)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.gpu",
        description="Measure GPEN on this machine's NVIDIA GPU, the original beside our engines.",
    )
    parser.add_argument("--network", default="", help="a gpen-bfr network, usually gpen-bfr-512")
    parser.add_argument("--weights", type=Path, help="folder of the checkpoint; random weights, if none is named")
    parser.add_argument("--bundle", type=Path, help="a bundle of that checkpoint; one is built, if none is named")
    parser.add_argument("--batches", default="", help="faces at a time, usually 1,4,8")
    parser.add_argument(
        "--only", default="", help=f"of {', '.join(one.name for one in CONTENDERS)}; all, if none is named"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench-gpu"))
    parser.add_argument("--dry-run", action="store_true", help="the same code with a narrow network, without a GPU")
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page of what is in --out")
    return parser


if __name__ == "__main__":
    sys.exit(main())
