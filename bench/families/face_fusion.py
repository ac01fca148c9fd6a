"""What is promised of face fusion, measured at full size on random weights of the published shapes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench import group_photo, random_weights
from bench.fusion_levels import GENERATOR, IDENTITY, PSNR, RESULT, RMS, checkpoint_in, feeds_of
from bench.levels import LEVELS
from bench.rows import Row, Say, at_least, at_most
from bench.turns import Turns, taking_turns, throughput
from cameo.backends import backend
from cameo.bundle import Bundle, Profile
from cameo.errors import EngineError
from cameo.images import read_photo
from exporters import model
from exporters.face_fusion import original as face_fusion
from metrics import timing
from metrics.timing import Rounds
from pipeline.build import build
from pipeline.build_network import BuildOptions
from validate.remote import RemoteSession, Spec

TITLE = f"Face fusion, {random_weights.SAID}"
LIBRARIES = face_fusion.LIBRARIES

MODEL = "face-fusion"
NETWORKS = (GENERATOR, "curricularface", "face-recon-3d", "gpen-bfr-1024", "parsenet")
"""All but those that find faces: with random weights they would find none, so OpenCV's cascades do."""

OWN = NETWORKS[:3]
ENGINES, TARGET = ("onnxruntime", "openvino", "tensorrt-rtx"), "sm_86"
BATCHES = (1, 3)
RANGE_SHARE = 1e-4
RMS_SHARE = 3e-4  # of the generator, in which `grid_sample` magnifies the rounding of coordinates
LEAST_SPEED = {("onnxruntime", "fp32"): 3.0, ("openvino", "fp32"): 3.5, ("openvino", "bf16"): 6.0}
LARGEST_GENERATOR_MIB, LARGEST_FLOW_MIB, LARGEST_IN_TURN_MIB = 530, 1.3 * 1024, 700
LEAST_FLOW_SPEED = 5.0
LEVELS_APART, LEAST_ALIKE = 2, 99.9
FLOW_ROUNDS = Rounds(least=3, most=3, seconds=0)
USUAL, LARGE = (720, 1280), (2000, 3000)
FUSIONS, FIRST = 10, 2
FLAT = 1.03
FLOWS = (("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"))
GENERATOR_SPEED = "throughput, one face"


@dataclass(frozen=True)
class Case:
    """Where the checkpoints and the bundle are."""

    weights: Path
    bundle: Path

    def checkpoint(self, network: str) -> Path:
        return checkpoint_in(self.weights, network, model(MODEL))


def measure(folder: Path, say: Say) -> list[Row]:
    """Every row of face fusion, each said when it is measured; checkpoints and the bundle stay in `folder`.

    Raises:
        CameoError: whatever building and running raise.
    """
    case = Case(folder / "weights", folder / "bundle")
    for network in NETWORKS:
        random_weights.write_checkpoint(network, case.weights, model=model(MODEL))
    build(model(MODEL), case.weights, case.bundle, BuildOptions(ENGINES, (TARGET,)), say)
    rows = []
    for row in _rows(case, say):
        say(f"{row.what}: {row.measured}")
        rows.append(row)
    return rows


def _rows(case: Case, say: Say) -> Iterator[Row]:
    """What takes no time first."""
    yield from _planned(case)
    yield from published_rows()
    for network in OWN:
        yield from _fidelity(case, network, say)
    for network in NETWORKS:
        say(f"{network}: taking turns with the original")
        yield from _speed(case, network)
    say("the whole flow: taking turns with the original (minutes)")
    yield from _flow(case)
    yield from _steady_memory(case, say)


def _fidelity(case: Case, network: str, say: Say) -> Iterator[Row]:
    """Every engine against the faithful network, on a real face."""
    for batch in BATCHES:
        say(f"comparing {network} with the original, batch {batch}")
        worker = [sys.executable, "-m", "bench.fusion_levels", network, str(batch), str(case.weights), str(case.bundle)]
        done = subprocess.run(worker, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1][:300]
            raise EngineError(f"comparing {network} failed: {last}; free memory (8 GiB) and run again")
        for engine, found in json.loads(done.stdout).items():
            yield from fidelity_rows(f"{network} on {engine}, batch {batch}", found, engine.endswith(" fp32"))


def fidelity_rows(what: str, found: Mapping[str, float], promised: bool) -> Iterator[Row]:
    """A row for each output; of other precisions than FP32, nothing but the face is judged, and that is told only."""
    for name, value in found.items():
        if name == LEVELS:
            share = value / 255
            yield Row(f"{what}: largest error", "", f"{share:.1e} of range", None)
        elif name == RMS:
            yield at_most(f"{what}: root mean square of the error", RMS_SHARE, value, f"{value:.1e}", "of the face's")
        elif name == RESULT and promised:
            yield at_most(f"{what}: largest difference", 1, value, f"{value:.0f}", "level")
        elif name == PSNR:
            told = f"PSNR {value:.1f} dB, identity (cosine to the original's face) {found[IDENTITY]:.6f}"
            yield Row(f"{what}: the face", "", told, None)
        elif name not in (RESULT, IDENTITY):
            told = f"{value:.1e} of range"
            full = f"{what}: largest error of {name}"
            yield at_most(full, RANGE_SHARE, value, told, "of range") if promised else Row(full, "", told, None)


def _speed(case: Case, network: str) -> Iterator[Row]:
    """Throughput and peak memory of one face at a time against PyTorch eager, in turns with it."""
    entry = Bundle(case.bundle).network(network)
    pairs = [(engine.engine, engine.precision) for engine in entry.engines]
    runnable = [pair for pair in pairs if not backend(pair[0]).why_unavailable(pair[1])]
    original, *contenders = taking_turns(network, case.checkpoint(network), case.bundle, feeds_of(entry, 1), runnable)
    for pair, ours in zip(runnable, contenders, strict=True):
        yield speed_row(network, pair, original, ours)
    if network == GENERATOR:
        for pair in LEAST_SPEED.keys() - runnable:
            why = backend(pair[0]).why_unavailable(pair[1])
            what = f"{network} on {' '.join(pair)}: {GENERATOR_SPEED}"
            yield Row(what, f"≥ {LEAST_SPEED[pair]:g} ×", f"not run: {why}", None)


def speed_row(network: str, pair: tuple[str, str], original: Turns, ours: Turns) -> Row:
    """Throughput, with peak memory beside it; targets are the generator's."""
    ratio, told = throughput(original.times, ours.times)
    told += f", peak RSS {ours.peak_rss:.0f} MiB against {original.peak_rss:.0f}"
    what = f"{network} on {' '.join(pair)}: {GENERATOR_SPEED}"
    least = LEAST_SPEED.get(pair) if network == GENERATOR else None
    return Row(what, "", told, None) if least is None else at_least(what, least, ratio, told, "× PyTorch's")


def _planned(case: Case) -> Iterator[Row]:
    """What the RTX builder plans for one face: of each network, and of all that the default flow keeps on a GPU."""
    planned = planned_profiles(Bundle(case.bundle))
    for (network, precision), profile in planned.items():
        mib = profile.planned_mib or 0.0
        what = f"{network} on tensorrt-rtx {precision}: planned, {TARGET}"
        if (network, precision) == (GENERATOR, "fp16"):
            yield at_most(what, LARGEST_GENERATOR_MIB, mib, f"{mib:.0f} MiB", "MiB")
        else:
            yield Row(what, "", f"{mib:.0f} MiB", None)
    for precision in dict.fromkeys(precision for _, precision in planned):
        yield from resident_rows(precision, [profile for (_, of), profile in planned.items() if of == precision])


def resident_rows(precision: str, profiles: Sequence[Profile]) -> Iterator[Row]:
    """The whole flow: all weights and the largest activations (docs/decisions/023), or one network after the other."""
    weights = [(profile.weight_bytes or 0) / 2**20 for profile in profiles]
    activations = [(profile.activation_bytes or 0) / 2**20 for profile in profiles]
    resident = sum(weights) + max(activations)
    in_turn = max(one + other for one, other in zip(weights, activations, strict=True))
    what = f"whole flow on tensorrt-rtx {precision}: planned, {TARGET}"
    told = f"{resident:.0f} MiB ({sum(weights):.0f} of weights, one arena of {max(activations):.0f})"
    in_turn_told = f"{in_turn:.0f} MiB"
    if precision == "fp16":
        yield at_most(what, LARGEST_FLOW_MIB, resident, told, "MiB")
        yield at_most(f"{what}, networks in turn", LARGEST_IN_TURN_MIB, in_turn, in_turn_told, "MiB")
    else:
        yield Row(what, "", told, None)
        yield Row(f"{what}, networks in turn", "", in_turn_told, None)


def published_rows() -> Iterator[Row]:
    """What others measured of the whole flow, to stand beside what is planned and measured here."""
    published = model(MODEL).figures
    for one in published.figures if published else ():
        memory = "out of memory" if one.vram_mib is None else f"{one.vram_mib:.0f} MiB"
        height, width = one.size
        what = f"published, never measured here ({published.hardware}): whole flow, {width}×{height}, {one.what}"
        yield Row(what, "", f"{memory}, {one.latency_ms / 1000:.1f} s", None)


def planned_profiles(bundle: Bundle) -> dict[tuple[str, str], Profile]:
    """The plan for one face of every network and precision that has one."""
    return {
        (name, engine.precision): profile
        for name, entry in bundle.networks.items()
        for engine in entry.engines
        for profile in engine.profiles
        if profile.target == TARGET and profile.max[0] == 1 and profile.planned_mib
    }


def _flow(case: Case) -> Iterator[Row]:
    """The whole flow with the enhancer against the same on the originals, in turns, and how alike the pictures are."""
    height, width = USUAL
    what = f"whole flow, {width}×{height}, one face (OpenCV's cascades find it)"
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cameo-bench-")))
        feeds = save_photos(scratch, USUAL)
        originals = {name: str(case.checkpoint(name)) for name in Bundle(case.bundle).networks}
        theirs = Spec("original", MODEL, bundle=str(case.bundle), flow=True, originals=originals)
        best = Spec("engines", MODEL, bundle=str(case.bundle), engine="", precision="", flow=True)
        sessions = [stack.enter_context(RemoteSession(spec, scratch, timeout_s=900)) for spec in (theirs, best)]
        for session in sessions:
            session.wait()
        times = timing.interleaved([session.timed(feeds) for session in sessions], FLOW_ROUNDS, warm_up_runs=1)
        peaks = [session.memory()["peak_rss_mib"] or 0.0 for session in sessions]
        ratio, told = throughput(times[0], times[1])
        told += f", peak RSS {peaks[1]:.0f} MiB against {peaks[0]:.0f}"
        yield at_least(f"{what}: throughput", LEAST_FLOW_SPEED, ratio, told, "× PyTorch's")
        expected = sessions[0].run(feeds)
        for session in sessions:
            session.close()
        for engine, precision in _runnable_flows():
            spec = Spec(f"{engine}-{precision}", MODEL, "", str(case.bundle), engine, precision, flow=True)
            with RemoteSession(spec, scratch, timeout_s=900) as session:
                session.wait()
                found = session.run(feeds)
            yield alike_row(f"{what} on {engine} {precision}", expected, found, precision == "fp32")


def _runnable_flows() -> list[tuple[str, str]]:
    return [pair for pair in FLOWS if not backend(pair[0]).why_unavailable(pair[1])]


def alike_row(what: str, expected: Mapping[str, NDArray], found: Mapping[str, NDArray], promised: bool) -> Row:
    """How many values are at most two levels off; it fails if other faces were found."""
    apart = np.abs(found[RESULT].astype(np.int16) - expected[RESULT])
    alike = 100 * float((apart <= LEVELS_APART).mean())
    same_faces = np.array_equal(found["points"], expected["points"])
    told = f"{alike:.3f} % of values, at most {apart.max()} levels, {'the same' if same_faces else 'other'} faces"
    target = f"≥ {LEAST_ALIKE} % of values ≤ {LEVELS_APART} levels off"
    holds = alike >= LEAST_ALIKE and same_faces
    return Row(f"{what}: alike", target if promised else "", told, holds if promised else None)


def _steady_memory(case: Case, say: Say) -> Iterator[Row]:
    """Peak memory after two fusions, after ten, and after a larger template."""
    for engine, precision in _runnable_flows():
        say(f"the whole flow on {engine} {precision}: {FUSIONS} fusions in a row, and a larger one")
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cameo-bench-")))
            usual, large = (save_photos(scratch, size) for size in (USUAL, LARGE))
            spec = Spec("flow", MODEL, bundle=str(case.bundle), engine=engine, precision=precision, flow=True)
            session = stack.enter_context(RemoteSession(spec, scratch, timeout_s=900))
            session.wait()
            peaks = []
            for feeds, runs in ((usual, FIRST), (usual, FUSIONS - FIRST), (large, 1)):
                for _ in range(runs):
                    session.time(feeds)
                peaks.append(session.memory()["peak_rss_mib"] or 0.0)
        first, *others = peaks
        sizes = [f"{width}×{height}" for height, width in (USUAL, LARGE)]
        for described, peak in zip((f"{FUSIONS} fusions of {sizes[0]}", f"{sizes[1]} after that"), others, strict=True):
            what = f"whole flow on {engine} {precision}: peak RSS, {described}"
            told = f"{peak:.0f} MiB, {first:.0f} after {FIRST} fusions ({peak / first - 1:+.1%})"
            yield Row(what, "flat within 3 %", told, peak <= first * FLAT)


def save_photos(folder: Path, size: tuple[int, int]) -> Path:
    """The feeds of the flow: a template of (height, width) with one face on a quiet ground, and a portrait."""
    height, width = size
    path = folder / f"photos-{width}x{height}.npz"
    template = cv2.resize(group_photo.compose(1).image, (width, height), interpolation=cv2.INTER_AREA)
    np.savez(path, template=template[None], face=read_photo(group_photo.PORTRAIT)[None, :, ::-1])
    return path
