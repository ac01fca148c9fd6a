"""Quantises convolutions to INT8, except where that would show.

1. Histograms of what every convolution reads are collected on calibration photos.
2. Every convolution becomes INT8, with the thresholds of each method (`_conversion/thresholds.py`) in turn; the result
   runs against the FP32 graph, and the method that comes nearest is used.
3. Where that misses the gate, every convolution is tried alone for the damage that it does, and the fewest are found
   whose return to FP32 mends it, the most damaging first.

`precision.json` beside the graph says which nodes stayed, what damage they did, and what each method came to.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cameo.artifact import Artifact
from cameo.errors import EngineError, GateError, PhotoError
from cameo.images import read_photo
from optimize._conversion.calibration import Calibration
from optimize._conversion.fewest import FIRST_PHOTOS, Fewest
from optimize._conversion.fp16_graph import named
from optimize._conversion.int8_graph import candidates, int8_graph, with_fp32
from optimize._conversion.int8_judge import EXACT, Fidelity, Int8Judge
from optimize._conversion.progress import progress
from optimize._conversion.thresholds import METHODS
from optimize._graph_pass import read_onnx

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

PRECISION, MODE = "int8", "balanced"
RECORD = "precision.json"

ENOUGH_PHOTOS = 5
"""Photos that INT8 was calibrated on where its fidelity held on others (docs/decisions/057)."""

MARGIN = 1.0
"""dB by which calibration photos must do better than the gate, as other photos do worse (docs/decisions/057)."""


@dataclass(frozen=True)
class ConvertToInt8:
    """FP32 -> INT8 convolutions with at least this PSNR in dB and SSIM against the FP32 graph.

    Weights that learned to live with INT8 are compared with what they learned from: the FP32 graph `original`.
    """

    calibration: Calibration = field(default_factory=Calibration)
    least_psnr: float = 36
    least_ssim: float = 0.97
    most_tries: int = 60
    original: Path | None = None
    original_hash: str = ""

    name: ClassVar[str] = "convert-to-int8"
    output: ClassVar[str] = "model.onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "onnxruntime")

    @property
    def rests_on(self) -> tuple[str, ...]:
        """What makes feeds of the photos."""
        return self.calibration.examples.rests_on

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the INT8 graph, and `precision.json` beside it; return what that says, in short.

        Raises:
            CheckpointError: `source` is not an ONNX graph.
            PhotoError: no calibration photos, or too few that can be used.
            EngineError: the graph has no convolutions, or gives values that are not finite in FP32 already.
            GateError: the gate is missed with any convolution in INT8.
        """
        import onnx

        photos, skipped = self._photos()
        model = named(read_onnx(source))
        original = named(read_onnx(self.original)) if self.original else model
        with tempfile.TemporaryDirectory(prefix="cameo-int8-") as scratch:
            judge = Int8Judge(model, original, photos, self.calibration.size, Path(scratch), self.calibration.examples)
            search = _Search(model, judge, Fidelity(self.least_psnr + MARGIN, self.least_ssim))
            search.until_it_passes(self.most_tries)
        quantized = search.graph()
        onnx.checker.check_model(quantized, full_check=True)
        onnx.save(quantized, out)
        record = {
            "precision": PRECISION,
            "gate": {"metric": "psnr", "limit": self.least_psnr, "value": round(search.reached.psnr, 3)},
            "ssim": {"limit": self.least_ssim, "value": round(search.reached.ssim, 4)},
            "margin": MARGIN,
            "method": search.method,
            "methods": {name: _json(fidelity) for name, fidelity in search.by_method.items()},
            "before_search": _json(search.before),
            "tries": search.tries,
            "photos": {"used": [photo.name for photo in photos], "skipped": skipped},
            "nodes": len(search.quantized) + len(search.kept),
            "bytes": {"fp32": source.stat().st_size, "int8": out.stat().st_size},
            "kept_fp32": search.rows(),
        }
        out.with_name(RECORD).write_text(json.dumps(record, indent=2) + "\n")
        log.info(
            "%d convolutions in INT8, %d stay in FP32: %s", len(search.quantized), len(search.kept), search.reached
        )
        return {**record, "kept_fp32": len(search.kept), "nodes_after": len(quantized.graph.node)}

    def _photos(self) -> tuple[list[Path], list[str]]:
        """The photos that say something about ranges, and the names of the others.

        Raises:
            PhotoError: there are none.
        """
        readable, skipped = self.calibration.readable()
        blank = [photo for photo in readable if int(read_photo(photo).max()) == int(read_photo(photo).min())]
        for photo in blank:
            log.warning("left out of the calibration: %s is of one colour", photo.name)
        if len(blank) == len(readable):
            raise PhotoError(
                f"every calibration photo is of one colour ({', '.join(photo.name for photo in blank[:3])}), which "
                "says nothing about the range of values: name a folder of ordinary photos with --calibration"
            )
        return [photo for photo in readable if photo not in blank], [*skipped, *(photo.name for photo in blank)]


@dataclass(frozen=True)
class _Kept:
    """Why a convolution stays in FP32, and the fidelity with it alone in INT8 where that was tried."""

    reason: str
    alone: Fidelity | None = None


class _Search:
    """One graph on its way: the method, which convolutions stay in FP32, and why."""

    def __init__(self, model: onnx.ModelProto, judge: Int8Judge, limit: Fidelity) -> None:
        """
        Raises:
            EngineError: there is nothing to quantise.
        """
        self._model, self._judge, self._limit = model, judge, limit
        self._nodes = candidates(model)
        if not self._nodes:
            raise EngineError("the graph has no convolution by constant weights, so there is nothing to put into INT8")
        read = list(dict.fromkeys(node.input[0] for node in self._nodes.values()))
        histograms = judge.histograms(read)
        self._thresholds = {
            method: {name: one.threshold(method) for name, one in histograms.items()}
            for method in progress(list(METHODS), "thresholds by")
        }
        self.kept = {
            name: _Kept("reads nothing but zeros on the calibration photos, so that it has no range")
            for name, node in self._nodes.items()
            if not histograms[node.input[0]].largest
        }
        self.by_method: dict[str, Fidelity] = {}
        self.method, self.before, self.reached, self.tries = "minmax", EXACT, EXACT, 0

    @property
    def quantized(self) -> list[str]:
        """The names of the convolutions in INT8."""
        return [name for name in self._nodes if name not in self.kept]

    def graph(self) -> onnx.ModelProto:
        """The graph as it is now."""
        return int8_graph(self._model, self.quantized, self._thresholds[self.method])

    def until_it_passes(self, most_tries: int) -> None:
        """Choose the method, and return convolutions to FP32 until every photo passes.

        Raises:
            GateError: none is left.
        """
        self._choose_method()
        self.before, photos = self.reached, FIRST_PHOTOS
        while not self.reached.reaches(self._limit):
            log.info("INT8 misses the gate (%s): searching for the fewest nodes to keep in FP32", self.reached)
            whole = self.graph()
            damages = self._damages(whole)
            search = Fewest(lambda kept, g=whole, n=photos: self._holds(g, kept, n), most_tries - self.tries)  # type: ignore[misc]
            for name in search.of(sorted(damages, key=lambda name: damages[name].psnr)):
                self.kept[name] = _Kept("gate: fidelity misses its limit with this node in INT8", damages[name])
            self.tries, photos = self.tries + search.tries, photos * 2
            if not self.quantized:
                raise GateError(
                    f"INT8 misses its gate ({self._limit}, {MARGIN:g} dB of which are margin) with every convolution: "
                    f"together they come to {self.before}; build another precision, or lower the gate"
                )
            self._choose_method()

    def _choose_method(self) -> None:
        for self.method in METHODS:
            self.by_method[self.method] = self._judge.verdict(self.graph())
        self.method = max(self.by_method, key=lambda name: self.by_method[name].psnr)
        self.reached = self.by_method[self.method]
        log.info("thresholds by %s: %s", self.method, self.reached)

    def _damages(self, whole: onnx.ModelProto) -> dict[str, Fidelity]:
        """The fidelity with each convolution of the graph `whole` alone in INT8, on one photo."""
        everything = set(self.quantized)
        return {
            name: self._judge.verdict(with_fp32(whole, self._model, everything - {name}), photos=1)
            for name in progress(self.quantized, "trying alone, convolution")
        }

    def _holds(self, whole: onnx.ModelProto, kept: Iterable[str], photos: int) -> bool:
        trial = with_fp32(whole, self._model, set(kept))
        return self._judge.verdict(trial, photos, self._limit).reaches(self._limit)

    def rows(self) -> list[dict[str, Any]]:
        """The convolutions that stay in FP32, as `precision.json` has them."""
        return [self._row(name, kept) for name, kept in self.kept.items()]

    def _row(self, name: str, kept: _Kept) -> dict[str, Any]:
        node = self._nodes[name]
        largest = self._thresholds["minmax"][node.input[0]]
        weights = next(i for i in self._model.graph.initializer if i.name == node.input[1])
        return {
            "node": name,
            "op": node.op_type,
            "reason": kept.reason,
            "alone": _json(kept.alone) if kept.alone else None,
            "tensor": node.input[0],
            "range": [-largest, largest],
            "bytes": len(weights.raw_data) * 3 // 4,  # INT8 weights are a quarter of FP32
        }


def _json(fidelity: Fidelity) -> dict[str, float | str]:
    """PSNR to a thousandth and SSIM; as in report.json, a string where JSON has no number for it."""
    finite = fidelity.psnr < float("inf")
    return {"psnr": round(fidelity.psnr, 3) if finite else "Infinity", "ssim": round(fidelity.ssim, 4)}


def conversion(
    calibration: Calibration, least_psnr: float = ConvertToInt8.least_psnr, original: Artifact | None = None
) -> ConvertToInt8:
    """The stage that quantises on these photos, and compares with the FP32 graph `original`, if not with its own."""
    stage = ConvertToInt8(calibration, least_psnr)
    if original is None:
        return stage
    return replace(stage, original=original.path.resolve(), original_hash=original.sha256)
