"""What is promised of GPEN, measured at full size on random weights of the published shapes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil

from bench import group_photo, random_weights, turns
from bench.levels import LEVELS, aligned_faces
from bench.rows import Row, Say, at_least, at_most
from bench.turns import Turns, throughput
from cameo.backends import backend
from cameo.bundle import Bundle
from cameo.errors import EngineError
from exporters import model
from exporters.gpen import original as gpen
from metrics import timing
from metrics.timing import Rounds
from pipeline.build import build
from pipeline.build_network import BuildOptions
from pipeline.recipe_stages import weights_in
from validate.remote import RemoteSession, Spec

TITLE = f"GPEN, {random_weights.SAID}"
LIBRARIES = gpen.LIBRARIES

SIZES, BATCHES = (256, 512, 1024, 2048), (1, 3)
"""What fidelity is measured at."""

LARGE_PIXELS, LARGE_GIB = 3 * 1024 * 1024, 16
"""From so many pixels in a batch, the original is given so much free memory or left out, which its row says."""

RANGE_SHARE = 1e-4
LEAST_SPEED = {("onnxruntime", "fp32"): 3.0, ("openvino", "fp32"): 4.0, ("openvino", "bf16"): 8.0}
LARGEST_RSS = 0.65
LARGEST_PLAN_MIB = {("fp16", 512): 320, ("fp16", 1024): 540}
TARGET, PLANNED_SIZES = "sm_86", (512, 1024)
PUBLISHED_GB = {("fp32", 512): 6.8, ("fp16", 512): 4.3, ("fp32", 1024): 11.2}
"""Peak GPU memory that a field article measured of the original in PyTorch, on an RTX 3060."""

COMPANIONS = ("retinaface-r50", "parsenet")
LEAST_FLOW_SPEED = 5.0
FACES, FIRST_BATCH = 12, 4
FLOW_ROUNDS = Rounds(least=2, most=2, seconds=0)


@dataclass(frozen=True)
class Case:
    """One size: where its checkpoints and its bundle are."""

    size: int
    weights: Path
    bundle: Path
    told: str = ""
    companions: tuple[str, ...] = ()
    planned: bool = False  # also for TensorRT-RTX, which is asked for memory only

    @property
    def network(self) -> str:
        return f"gpen-bfr-{self.size}"

    def checkpoint(self, network: str) -> Path:
        return random_weights.write_checkpoint(network, self.weights)


def measure(folder: Path, say: Say) -> list[Row]:
    """Every row of GPEN; checkpoints and bundles stay in `folder`.

    Raises:
        CameoError: whatever building and running raise.
    """
    cases = {
        size: Case(
            size,
            folder / f"weights-{size}",
            folder / f"gpen-{size}",
            companions=COMPANIONS if size == 512 else (),
            planned=size in PLANNED_SIZES,
        )
        for size in SIZES
    }
    compared = [*cases.values(), *_demo(folder)]
    for case in compared:
        _build(case, say)
    rows = [row for case in compared for row in _fidelity(case, say)]
    say("taking turns with the original at 512²")
    rows += _speed(cases[512])
    rows += [row for size in PLANNED_SIZES for row in _planned(cases[size])]
    say(f"taking turns with the original on a group photo of {FACES} faces (minutes)")
    return [*rows, *_group(cases[512])]


def _demo(folder: Path) -> list[Case]:
    """The demo's small GPEN, where its weights are."""
    case = Case(512, Path("demo") / "gpen", folder / "gpen-demo", ", the demo's weights")
    return [case] if weights_in(case.weights, case.network) else []


def _build(case: Case, say: Say) -> None:
    """The checkpoints that are not there yet, and the bundle."""
    for network in (case.network, *case.companions):
        case.checkpoint(network)
    engines = ("onnxruntime", "openvino", *(("tensorrt-rtx",) if case.planned else ()))
    options = BuildOptions(engines, (TARGET,), () if case.planned else ("fp32", "bf16"))
    build(model(case.network), case.weights, case.bundle, options, say)


def _fidelity(case: Case, say: Say) -> Iterator[Row]:
    """The FP32 engines against the faithful network, on a real face."""
    for batch in BATCHES:
        free_gib = psutil.virtual_memory().available / 2**30
        if case.size**2 * batch >= LARGE_PIXELS and free_gib < LARGE_GIB:
            told = f"not measured: {free_gib:.0f} GiB of memory are free, {LARGE_GIB} wanted for the original"
            yield Row(f"FP32 engines, {case.size}², batch {batch}", "", told, None)
            continue
        say(f"comparing {case.network} with the original, batch {batch}")
        worker = [sys.executable, "-m", "bench.levels", case.network, str(batch)]
        worker += [str(case.checkpoint(case.network)), str(case.bundle)]
        done = subprocess.run(worker, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1][:300]
            raise EngineError(f"comparing {case.network} failed: {last}; free memory (12 GiB) and run again")
        for engine, found in json.loads(done.stdout).items():
            what = f"{engine} fp32, {case.size}²{case.told}, batch {batch}"
            share, levels = found[LEVELS] / 255, found["result"]
            yield at_most(f"{what}: largest error", RANGE_SHARE, share, f"{share:.1e} of range", "of range")
            yield at_most(f"{what}: largest difference", 1, levels, f"{levels}", "level")


def taking_turns(case: Case, engines: Sequence[tuple[str, str]]) -> list[Turns]:
    """PyTorch eager and these engines (name, precision) of one size, one face at a time."""
    feeds = {"image": aligned_faces(case.size, 1)}
    return turns.taking_turns(case.network, case.checkpoint(case.network), case.bundle, feeds, engines)


def _speed(case: Case) -> Iterator[Row]:
    """Throughput and peak memory of one face at a time against PyTorch eager, in turns with it."""
    runnable = [pair for pair in LEAST_SPEED if not backend(pair[0]).why_unavailable(pair[1])]
    original, *contenders = taking_turns(case, runnable)
    for pair, ours in zip(runnable, contenders, strict=True):
        what = f"{' '.join(pair)}, {case.size}²"
        ratio, told = throughput(original.times, ours.times)
        yield at_least(f"{what}: throughput", LEAST_SPEED[pair], ratio, told, "× PyTorch's")
        share = ours.peak_rss / original.peak_rss
        told = f"{share:.2f} × ({ours.peak_rss:.0f} MiB against {original.peak_rss:.0f} MiB)"
        yield at_most(f"{what}: peak RSS", LARGEST_RSS, share, told, "× PyTorch's")
    for pair in LEAST_SPEED.keys() - runnable:
        why = backend(pair[0]).why_unavailable(pair[1])
        yield Row(f"{' '.join(pair)}, {case.size}²: throughput", f"≥ {LEAST_SPEED[pair]:g} ×", f"not run: {why}", None)


def _planned(case: Case) -> Iterator[Row]:
    """What the RTX builder plans for one face: weights and activations."""
    for entry in Bundle(case.bundle).network(case.network).engines:
        for profile in entry.profiles:
            if profile.target == TARGET and profile.max[0] == 1 and (mib := profile.planned_mib):
                key = (entry.precision, case.size)
                published = f" (published, other hardware: {PUBLISHED_GB[key]} GB)" if key in PUBLISHED_GB else ""
                what = f"{entry.engine} {entry.precision}: planned for one face of {case.size}², {TARGET}{published}"
                limit = LARGEST_PLAN_MIB.get(key)
                told = f"{mib:.0f} MiB"
                yield at_most(what, limit, mib, told, "MiB") if limit else Row(what, "", told, None)


def _group(case: Case) -> Iterator[Row]:
    """The whole flow on a group photo, and its memory from four faces to twelve."""
    what = f"whole flow, {FACES} faces, 1920×1080, faces known (the finder runs, random weights find none)"
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cameo-bench-")))
        few, all_ = (_save_group(scratch, count) for count in (FIRST_BATCH, FACES))
        originals = {name: str(case.checkpoint(name)) for name in (case.network, *COMPANIONS)}
        ours = Spec("engines", case.network, bundle=str(case.bundle), engine="", precision="", flow=True)
        theirs = replace(ours, subject="original", originals=originals)
        sessions = [
            stack.enter_context(RemoteSession(spec, scratch, timeout_s=900, worker="bench.group_flow"))
            for spec in (theirs, ours)
        ]
        for session in sessions:
            session.wait()
        sessions[1].time(few)
        early = sessions[1].memory()["peak_rss_mib"] or 0.0
        runs, warm_up = ([session.timed(feeds) for session in sessions] for feeds in (all_, few))
        times = timing.interleaved(runs, FLOW_ROUNDS, warm_up)
        peaks = [session.memory()["peak_rss_mib"] or 0.0 for session in sessions]
    ratio, told = throughput(times[0], times[1])
    yield at_least(f"{what}: throughput", LEAST_FLOW_SPEED, ratio, told, "× PyTorch's, one face at a time")
    told = f"{peaks[1]:.0f} MiB, {early:.0f} after {FIRST_BATCH}; the original {peaks[0]:.0f}"
    yield Row(f"{what}: peak RSS", f"as after {FIRST_BATCH} faces (± 5 %)", told, peaks[1] <= early * 1.05)


def _save_group(scratch: Path, faces: int) -> Path:
    """The feeds of `group_flow` for a photo of so many faces."""
    group, path = group_photo.compose(faces), scratch / f"group-{faces}.npz"
    boxes, points = (np.stack([getattr(face, name) for face in group.faces]) for name in ("box", "five_points"))
    np.savez(path, image=group.image[None], boxes=boxes, points=points)
    return path
