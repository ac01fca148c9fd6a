"""What is promised of FP16, INT8, pruned networks and students, measured on the demo's weights against the originals.

The networks learn on freely licensed photos that ship with scikit-image; what they learned is measured on the demo's
photo, which is not among them.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from bench import random_weights
from bench.families import gpen
from bench.rows import Row, Say, at_least, at_most
from bench.turns import throughput
from cameo.errors import PhotoError
from cameo.modes import MODES
from exporters import model
from exporters.dctnet import original as dctnet
from metrics.measurement import find
from metrics.sizes import Size, Sizes
from metrics.timing import Rounds
from pipeline.build import build
from pipeline.build_network import BuildOptions
from pipeline.prune import Request, prune_and_measure
from pipeline.validation import validate_bundle
from validate.bundle import ValidationOptions
from validate.results import EngineResult, NetworkResult

TITLE = "FP16, INT8, pruned networks and students, the demo's weights"
LIBRARIES = (*dctnet.LIBRARIES, "torch")

PHOTOS = ("chelsea.png", "coffee.png", "hubble_deep_field.jpg", "motorcycle_left.png", "rocket.jpg")
QUALITY, BALANCED, FAST = MODES
TARGET = "sm_86"
RATIO = 0.3
LARGEST_FP16_PLAN = 0.55
LEAST_INT8_PSNR, LEAST_INT8_SSIM = 36, 0.97
LEAST_SPEED_AT_512 = {"PyTorch's": 11, "bf16's": 1.25}
"""Of INT8 on OpenVINO: the demo's networks are small, and what is not a convolution weighs more in them."""

LEAST_PRUNED_PSNR, LEAST_GAIN = 34, 8
MOST_OF = {"parameters": 0.55, "MACs": 0.55, "latency": 0.65, "planned memory": 0.8}
ROUNDS = Rounds(least=15, most=40, seconds=60)


@dataclass(frozen=True)
class _Case:
    """A network of the demo: its model, where the weights are, what it must reach in FP16, where it is compared.

    `steps` are those of every recovery. A step of GPEN sees a whole face, four times the pixels of DCT-Net's crops.
    """

    model: str
    network: str
    weights: Path
    least_fp16_psnr: float
    timed: Size
    steps: int = 600


CASES = (
    _Case("dctnet", "dctnet-background", Path("demo"), 50, (720, 960)),
    _Case("dctnet", "dctnet-head", Path("demo"), 50, (288, 288)),
    _Case("gpen-bfr-512", "gpen-bfr-512", Path("demo") / "gpen", 45, (512, 512), steps=300),
)


def measure(folder: Path, say: Say) -> list[Row]:
    """Every row of the lean forms; bundles and reports stay in `folder`.

    Raises:
        CameoError: whatever building and comparing raise.
    """
    photos = _photos(folder / "photos")
    rows: list[Row] = []
    for name in dict.fromkeys(case.model for case in CASES):
        rows += _rows(name, [case for case in CASES if case.model == name], folder / name, photos, say)
    case = gpen.Case(512, folder / "weights-512", folder / "gpen-512")
    return [*rows, *_int8_512(case, photos, say), *_pruned_512(case, say)]


def _photos(folder: Path) -> Path:
    """A folder with the photos.

    Raises:
        PhotoError: scikit-image is not installed.
    """
    spec = find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise PhotoError("the photos to learn from are in scikit-image, which is not installed: pip install '.[dev]'")
    folder.mkdir(parents=True, exist_ok=True)
    for name in PHOTOS:
        shutil.copyfile(Path(spec.submodule_search_locations[0], "data", name), folder / name)
    return folder


def _rows(name: str, cases: Sequence[_Case], bundle: Path, photos: Path, say: Say) -> Iterator[Row]:
    """Build the model in every form, compare it with its original, and say what came of its networks."""
    engines, precisions = ("onnxruntime", "openvino", "tensorrt-rtx"), ("fp32", "bf16", "fp16", "int8")
    options = BuildOptions(engines, (TARGET,), precisions, photos, RATIO, fast=True, recover_steps=cases[0].steps)
    build(model(name), cases[0].weights, bundle, options, say)
    untaught = bundle.with_name(f"{name}-not-recovered")
    options = BuildOptions(("onnxruntime",), (TARGET,), ("fp32",), photos, RATIO)
    build(model(name), cases[0].weights, untaught, options, say)
    sizes = {case.network: Sizes((case.timed,), case.timed) for case in cases}
    comparing = ValidationOptions(rounds=ROUNDS, by_network=sizes, flow=False)
    reports = [validate_bundle(one, cases[0].weights, None, say, comparing) for one in (bundle, untaught)]
    for case in cases:
        results = [next(network for network in report.networks if network.name == case.network) for report in reports]
        found = _Network(case, *results)
        yield from (*found.fp16(), *found.int8(), *found.pruned(), *found.student())


@dataclass(frozen=True)
class _Network:
    """What was measured of one network, and of the same pruned without recovery."""

    case: _Case
    result: NetworkResult
    not_recovered: NetworkResult

    def fp16(self) -> Iterator[Row]:
        """Fidelity in half arithmetic as the build judged it, and what the RTX builder plans."""
        name, record = self.case.network, self.result.conversions["fp16"]
        psnr = float(record["gate"]["value"])
        told = f"{psnr:.1f} dB, every value finite at double contrast"
        yield at_least(f"{name} FP16: PSNR in half arithmetic", self.case.least_fp16_psnr, psnr, told, "dB")
        yield self._share(f"{name} FP16: planned memory", "fp16", QUALITY, LARGEST_FP16_PLAN)

    def int8(self) -> Iterator[Row]:
        """Fidelity on every engine, and speed against the same engine in bf16."""
        learned = self.result.conversions["qat"]
        for engine in _ran(self.result, "int8", BALANCED):
            what = f"{self.case.network} INT8 on {engine.engine}"
            psnr, ssim = (_value(engine, metric) for metric in ("psnr", "ssim"))
            told = f"{psnr:.1f} dB ({learned['steps']} steps of quantisation-aware recovery)"
            yield at_least(f"{what}: PSNR", LEAST_INT8_PSNR, psnr, told, "dB")
            yield at_least(f"{what}: SSIM", LEAST_INT8_SSIM, ssim, f"{ssim:.4f}", "")
        fast, slow = (self._engine("openvino", *how) for how in (("int8", BALANCED), ("bf16", QUALITY)))
        if fast and slow and slow.subject.latencies_ms:
            _, told = throughput(slow.subject.latencies_ms, fast.subject.latencies_ms)
            what = f"{self.case.network} INT8 on openvino, {self._size}: throughput"
            yield Row(what, "", told.replace("×", "× bf16's", 1), None)

    def pruned(self) -> Iterator[Row]:
        """What pruning and recovery came to, and what they save."""
        record = self.result.conversions["pruned"]
        what = f"{self.case.network} pruned by {RATIO:.0%}"
        before, after = (_worst_psnr(one, BALANCED) for one in (self.not_recovered, self.result))
        yield at_least(f"{what}, {record['steps']} steps: PSNR", LEAST_PRUNED_PSNR, after, f"{after:.1f} dB", "dB")
        told = f"{after - before:.1f} dB (from {before:.1f})"
        yield at_least(f"{what}: gained by recovery", LEAST_GAIN, after - before, told, "dB")
        yield from self._saved(what, "pruned", BALANCED, MOST_OF)

    def student(self) -> Iterator[Row]:
        """The same of the student, of which nothing is promised."""
        record = self.result.conversions["student"]
        what = f"{self.case.network}, the student"
        psnr = _worst_psnr(self.result, FAST)
        yield Row(f"{what}, {record['steps']} steps: PSNR", "", f"{psnr:.1f} dB", None)
        yield from self._saved(what, "student", FAST, {})

    def _saved(self, what: str, made: str, mode: str, limits: dict[str, float]) -> Iterator[Row]:
        record = self.result.conversions[made]
        for key, told in (("parameters", "parameters"), ("macs", "MACs")):
            before, after = record[key]
            yield _share_row(f"{what}: {told}", limits.get(told), after / before, "of the original's")
        whole, light = (self._engine("onnxruntime", "fp32", m) for m in (QUALITY, mode))
        if whole and light:
            share = median(a / b for a, b in zip(light.subject.latencies_ms, whole.subject.latencies_ms, strict=True))
            where = f"{what}: latency on onnxruntime, {self._size}"
            yield _share_row(where, limits.get("latency"), share, "of the original's")
        yield self._share(f"{what}: planned memory", "fp32", mode, limits.get("planned memory"))

    def _share(self, what: str, precision: str, mode: str, limit: float | None) -> Row:
        """What the RTX builder plans for one engine against the whole network in FP32."""
        plans = [self._planned("fp32", QUALITY), self._planned(precision, mode)]
        what = f"{what}, {TARGET}"
        if None in plans:
            return Row(what, "", "not measured: tensorrt-rtx is not installed", None)
        before, after = plans
        assert before is not None
        assert after is not None
        return _share_row(what, limit, after / before, f"({after:.0f} of {before:.0f} MiB)")

    def _planned(self, precision: str, mode: str) -> float | None:
        engine = self._engine("tensorrt-rtx", precision, mode)
        return next((plan.total_mib for plan in engine.planned if plan.target == TARGET), None) if engine else None

    @property
    def _size(self) -> str:
        height, width = self.result.latency_size
        return f"{width}×{height}"

    def _engine(self, name: str, precision: str, mode: str) -> EngineResult | None:
        """The engine, whether it ran here or not; None if the bundle has none."""
        wanted = (name, precision, mode)
        return next((e for e in self.result.engines if (e.engine, e.precision, e.mode) == wanted), None)


def _ran(result: NetworkResult, precision: str, mode: str) -> list[EngineResult]:
    """The engines of this precision and mode that ran."""
    alike = (engine for engine in result.engines if (engine.precision, engine.mode) == (precision, mode))
    return [engine for engine in alike if not engine.subject.why_not_run]


def _worst_psnr(result: NetworkResult, mode: str) -> float:
    return min((_value(engine, "psnr") for engine in _ran(result, "fp32", mode)), default=math.nan)


def _value(engine: EngineResult, metric: str) -> float:
    found = find(engine.subject.measurements, metric)
    return math.nan if found is None else found


def _share_row(what: str, limit: float | None, share: float, of: str) -> Row:
    told = f"{share:.2f} × {of}"
    return Row(what, "", told, None) if limit is None else at_most(what, limit, share, told, "×")


def _int8_512(case: gpen.Case, photos: Path, say: Say) -> Iterator[Row]:
    """INT8 of the full-size generator against PyTorch and against bf16, in turns; its weights are random."""
    case.checkpoint(case.network)
    options = BuildOptions(("openvino",), (TARGET,), ("fp32", "bf16", "int8"), photos)
    build(model(case.network), case.weights, case.bundle, options, say)
    say("taking turns with the original at 512²")
    original, bf16, int8 = gpen.taking_turns(case, [("openvino", "bf16"), ("openvino", "int8")])
    what = f"{case.network} INT8 on openvino, {random_weights.SAID}: throughput"
    for rival, (of, least) in zip((original, bf16), LEAST_SPEED_AT_512.items(), strict=True):
        ratio, told = throughput(rival.times, int8.times)
        yield at_least(what, least, ratio, told, f"× {of}")


def _pruned_512(case: gpen.Case, say: Say) -> Iterator[Row]:
    """What pruning saves of the full-size generator; its weights are random, so there is no picture to recover."""
    request = Request(case.network, RATIO, importance="l2")
    weights = case.checkpoint(case.network)
    _, saved = prune_and_measure(request, weights, case.bundle.with_name("gpen-512-pruned.pth"), say)
    for cost in saved:
        what = f"{case.network} pruned by {RATIO:.0%}, {random_weights.SAID}: {cost.what}"
        limit = next(limit for name, limit in MOST_OF.items() if cost.what.startswith(name))
        if cost.ratio is None:
            yield Row(what, "", f"not measured: {cost.why_not}", None)
        else:
            told = f"{cost.ratio:.2f} × ({cost.after:.4g} of {cost.before:.4g} {cost.unit})"
            yield at_most(what, limit, cost.ratio, told, "×")
