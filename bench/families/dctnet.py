"""What is promised of DCT-Net, measured on the demo's weights."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench.rows import Row, Say, at_least, at_most
from cameo.artifact import Artifact
from cameo.bundle import Bundle
from cameo.errors import CameoError
from exporters import model, recipe_of
from exporters.dctnet import original as dctnet
from metrics.measurement import find
from metrics.timing import Rounds
from pipeline.build import build
from pipeline.build_network import BuildOptions
from pipeline.recipe_stages import builder, graph_of
from pipeline.store import Store
from pipeline.validation import validate_bundle
from validate.bundle import ValidationOptions
from validate.results import NetworkResult, Report, Subject

TITLE = "DCT-Net, the demo's weights"
LIBRARIES = dctnet.LIBRARIES

DEMO = Path("demo")
TIMED = (720, 960)
SIZES = ((256, 256), (360, 480), (512, 512), (604, 1000), (720, 960), (1024, 1024))
MIXED = 100


def measure(folder: Path, say: Say) -> list[Row]:
    """Every row of DCT-Net; the bundle and the report of its comparison with TensorFlow stay in `folder`.

    Raises:
        CameoError: whatever building and comparing raise.
    """
    build(model("dctnet"), DEMO, folder, BuildOptions(), say)
    # Two comparisons, because peak memory is a process's: the largest size of the first would be in the second.
    faithful = validate_bundle(folder, DEMO, None, say, ValidationOptions(SIZES, TIMED, Rounds(3, 3, 0)))
    rounds = Rounds(least=15, most=60, seconds=60)
    report = validate_bundle(folder, DEMO, None, say, ValidationOptions((TIMED,), TIMED, rounds))
    rows = [*_fidelity(faithful), *_speed(report), *_planned(folder), *_build_time(), *_import_time()]
    return [*rows, *_steady_memory(folder)]


def _subjects(report: Report) -> Iterator[tuple[str, str, NetworkResult, Subject]]:
    """Name, precision, network and measurements of each engine of the large generator that ran."""
    network = next(network for network in report.networks if network.name == "dctnet-background")
    for engine in network.engines:
        if not engine.subject.why_not_run:
            yield f"{engine.engine} {engine.precision}", engine.precision, network, engine.subject


def _fidelity(report: Report) -> Iterator[Row]:
    """The worst over all sizes against the TensorFlow original."""
    for name, precision, network, subject in _subjects(report):
        sizes = f"{len(network.fidelity_sizes)} sizes, 256² to 1024²"
        largest, share, psnr = (_value(subject, metric) for metric in ("max_difference", "changed_share", "psnr"))
        if precision == "fp32":
            yield at_most(f"{name}: largest difference, {sizes}", 1, largest, f"{largest:.0f}", "level")
            yield at_most(f"{name}: values that differ", 0.1, share, f"{share:.4f} %", "%")
        else:
            yield at_least(f"{name}: PSNR, {sizes}", 45, psnr, f"{psnr:.1f} dB", "dB")


def _speed(report: Report) -> Iterator[Row]:
    """Throughput and peak memory at 960×720 against the TensorFlow original, in turns with it."""
    for name, precision, network, subject in _subjects(report):
        least = 1.0 if precision == "fp32" else 1.6
        ratio, ms, peak = (_value(subject, metric) for metric in ("throughput_ratio", "latency_p50", "peak_rss"))
        theirs, their_peak = (
            find(network.original.measurements, metric) or 0 for metric in ("latency_p50", "peak_rss")
        )
        speed = f"{ratio:.2f} × ({ms:.0f} ms against {theirs:.0f} ms)"
        memory = f"{peak / their_peak:.2f} × ({peak:.0f} MiB against {their_peak:.0f} MiB)"
        yield at_least(f"{name}: throughput at 960×720", least, ratio, speed, "× TensorFlow's")
        yield at_most(f"{name}: peak RSS at 960×720", 0.5, peak / their_peak, memory, "× TensorFlow's")


def _value(subject: Subject, metric: str) -> float:
    found = find(subject.measurements, metric)
    if found is None:
        raise CameoError(f"{metric} of {subject.name} was not measured: expected it in the comparison; run again")
    return found


def _planned(bundle: Path) -> Iterator[Row]:
    """What the RTX builder plans for 1024²."""
    for entry in Bundle(bundle).network("dctnet-background").engines:
        for profile in entry.profiles:
            if profile.max[:3] == (1, 1024, 1024) and (mib := profile.planned_mib):
                what = f"{entry.engine} {entry.precision}: planned for 1024², {profile.target}"
                yield at_most(what, 420, mib, f"{mib:.0f} MiB", "MiB")


def _build_time() -> Iterator[Row]:
    """Export and all engines of one network, from nothing."""
    chosen = recipe_of("dctnet-background")
    with tempfile.TemporaryDirectory(prefix="cameo-bench-") as folder:
        store, started = Store(Path(folder)), time.monotonic()
        graph = graph_of(chosen.network, Artifact.of(DEMO / "cartoon_bg.pb"), store)
        for engine in ("onnxruntime", "openvino", "tensorrt-rtx"):
            store.run(builder(chosen, engine, BuildOptions().targets), graph.artifact)
        seconds = time.monotonic() - started
    yield Row("export and build one network, three engines", "< 30 s", f"{seconds:.1f} s", seconds < 30)


def _import_time() -> Iterator[Row]:
    def seconds(program: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True)
        return time.perf_counter() - started

    bare = statistics.median(seconds("pass") for _ in range(7))
    taken = statistics.median(seconds("import cameo") for _ in range(7)) - bare
    yield Row("import cameo", "< 0.5 s", f"{taken:.3f} s", taken < 0.5)


_MIXED_SIZES = """
import sys, numpy as np, cameo
from metrics.memory import peak_rss_mib
with cameo.load(sys.argv[1], engine=sys.argv[2], precision=sys.argv[3]) as cartoonize:
    for _ in range(2):
        rng = np.random.default_rng(0)
        for height, width in rng.integers(64, 720, (int(sys.argv[4]), 2)):
            cartoonize(rng.integers(0, 256, (height, width, 3), np.uint8))
        print(peak_rss_mib())
"""


def _steady_memory(bundle: Path) -> Iterator[Row]:
    """Peak memory after photos of random sizes, and after the same once more.

    Within the first round it rises by chance (which of a process's heaps a size meets: docs/decisions/171, 194).
    """
    for engine, precision in (("onnxruntime", "fp32"), ("openvino", "bf16")):
        command = [sys.executable, "-c", _MIXED_SIZES, str(bundle), engine, precision, str(MIXED)]
        first, second = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        what = f"{engine} {precision}: peak RSS after {2 * MIXED} photos of {MIXED} mixed sizes"
        target = f"as after {MIXED} (± 5 %)"
        yield Row(what, target, f"{second:.0f} MiB, {first:.0f} after {MIXED}", second <= first * 1.05)
