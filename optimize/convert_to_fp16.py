"""Converts a graph to FP16, except where that would show (docs/decisions/050 has the libraries that do not).

1. Every tensor's range is collected on calibration photos, each also at double contrast.
2. Nodes that FP16 cannot hold stay in FP32 (`_conversion/suspects.py`), the others become FP16, with casts between.
3. The result runs in half arithmetic (`_conversion/reference.py`) against the FP32 graph. Where it misses the gate or
   gives a value that is not finite, the fewest further nodes are found whose return to FP32 mends it.

`precision.json` beside the graph says which nodes stayed, why, and what that costs.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cameo.artifact import Artifact
from cameo.errors import GateError
from optimize._conversion.calibration import Calibration
from optimize._conversion.fewest import FIRST_PHOTOS, Fewest
from optimize._conversion.fp16_graph import fp16_graph, named
from optimize._conversion.fp16_judge import Fp16Judge, Verdict
from optimize._conversion.ranges import Range, constant_ranges
from optimize._conversion.suspects import LARGEST, MOST_LOSS, Reason, unfit, with_followers
from optimize._graph_pass import read_onnx

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

log = logging.getLogger(__name__)

PRECISION, MODE = "fp16", "quality"
RECORD = "precision.json"
ENOUGH_PHOTOS = 1


@dataclass(frozen=True)
class ConvertToFp16:
    """FP32 -> FP16 with a fidelity of at least `least_psnr` dB against the FP32 graph."""

    calibration: Calibration = field(default_factory=Calibration)
    least_psnr: float = 45
    most_tries: int = 60

    name: ClassVar[str] = "convert-to-fp16"
    output: ClassVar[str] = "model.onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir", "torch")

    @property
    def rests_on(self) -> tuple[str, ...]:
        """What makes feeds of the photos."""
        return self.calibration.examples.rests_on

    def run(self, source: Path, out: Path) -> Mapping[str, Any]:
        """Write the FP16 graph, and `precision.json` beside it; return what that says, in short.

        Raises:
            CheckpointError: `source` is not an ONNX graph.
            PhotoError: no calibration photos, or too few that can be read.
            EngineError: the graph cannot be converted, or gives values that are not finite in FP32 already.
        """
        import onnx

        photos, skipped = self.calibration.readable()
        model = named(read_onnx(source))
        with tempfile.TemporaryDirectory(prefix="cameo-fp16-") as scratch:
            judge = Fp16Judge(model, photos, self.calibration.size, Path(scratch), self.calibration.examples)
            conversion = _Conversion(model, judge, {**judge.ranges(), **constant_ranges(model)})
            verdicts = conversion.until_it_passes(self.least_psnr, self.most_tries)
        half = conversion.fp16_graph()
        onnx.checker.check_model(half, full_check=True)
        onnx.save(half, out)
        record = {
            "precision": PRECISION,
            "gate": {"metric": "psnr", "limit": self.least_psnr, "value": _number(verdicts[-1].psnr)},
            "before_search": _number(verdicts[0].psnr),
            "tries": conversion.tries,
            "photos": {"used": [p.name for p in photos], "skipped": skipped, "contrasts": list(judge.contrasts)},
            "size": list(judge.size),
            "thresholds": {"largest": LARGEST, "loss": MOST_LOSS},
            "nodes": len(model.graph.node),
            "casts": sum(node.op_type == "Cast" for node in half.graph.node),
            "kept_fp32": conversion.rows(),
        }
        out.with_name(RECORD).write_text(json.dumps(record, indent=2) + "\n")
        log.info("%d of %d nodes stay in FP32, %s", len(conversion.kept), record["nodes"], verdicts[-1])
        return {**record, "kept_fp32": len(conversion.kept), "nodes_after": len(half.graph.node)}


class _Conversion:
    """One graph on its way: which nodes stay in FP32, and why."""

    def __init__(self, model: onnx.ModelProto, judge: Fp16Judge, ranges: Mapping[str, Range]) -> None:
        import onnx_ir as ir

        self._model, self._judge, self._ranges = model, judge, ranges
        self._graph = ir.from_proto(model).graph
        self._reasons = unfit(self._graph, ranges)
        self.tries = 0

    @property
    def kept(self) -> set[str]:
        """The names of the nodes that stay in FP32."""
        return with_followers(self._graph, set(self._reasons))

    def fp16_graph(self, extra: Iterable[str] = ()) -> onnx.ModelProto:
        """The graph as it is now, with the nodes `extra` in FP32 as well."""
        return fp16_graph(self._model, with_followers(self._graph, {*self._reasons, *extra}))

    def until_it_passes(self, least: float, most_tries: int) -> list[Verdict]:
        """Return nodes to FP32 until every photo passes; the verdicts on the way, the last of which does.

        Raises:
            GateError: it does not even with every node in FP32.
        """
        verdicts = [self._judge.verdict(self.fp16_graph())]
        photos = FIRST_PHOTOS
        while not verdicts[-1].passes(least):
            log.info("FP16 misses the gate (%s): searching for the fewest nodes to return to FP32", verdicts[-1])
            suspects = sorted((name for name in self._names() if name not in self._reasons), key=self._costs().get)  # type: ignore[arg-type]
            if not suspects:
                raise GateError(f"with every node in FP32 the gate of {least:g} dB is missed: {verdicts[-1]}")
            self._judge.worst_first(verdicts[-1])
            self._search(suspects, photos, least, most_tries)
            verdicts.append(self._judge.verdict(self.fp16_graph()))
            photos *= 2
        return verdicts

    def _search(self, suspects: list[str], photos: int, least: float, most_tries: int) -> None:
        def holds(extra: Iterable[str]) -> bool:
            return self._judge.verdict(self.fp16_graph(extra), photos, least).passes(least)

        search = Fewest(holds, most_tries - self.tries)
        for name in search.of(suspects):
            self._reasons[name] = Reason("gate: in FP16 this node is one too many for the fidelity asked for", "", None)
        self.tries += search.tries

    def _names(self) -> list[str]:
        return [str(node.name) for node in self._graph]

    def _costs(self) -> dict[str, int]:
        return {str(node.name): self._cost(node) for node in self._graph}

    def _cost(self, node: ir.Node) -> int:
        """Bytes that FP32 takes more than FP16: two for each value that the node gives, and for each of its weights."""
        weights = [value for value in node.inputs if value is not None and value.const_value is not None]
        names = [str(value.name) for value in (*weights, *node.outputs)]
        return 2 * sum(self._ranges[name].values for name in names if name in self._ranges)

    def rows(self) -> list[dict[str, Any]]:
        """The nodes that stay in FP32, as `precision.json` has them."""
        kept = self.kept
        return [self._row(node) for node in self._graph if node.name in kept]

    def _row(self, node: ir.Node) -> dict[str, Any]:
        output = str(node.outputs[0].name)
        reason = self._reasons.get(str(node.name), Reason("moves values between nodes in FP32", output, None))
        found = reason.range or self._ranges.get(output)
        return {
            "node": node.name,
            "op": node.op_type,
            "reason": reason.why,
            "tensor": reason.tensor or output,
            "range": [found.low, found.high] if found else None,
            "bytes": self._cost(node),
        }


def _number(value: float) -> float | str:
    """The value to a thousandth; as in report.json, a string where JSON has no number for it."""
    if math.isfinite(value):
        return round(value, 3)
    return "Infinity" if value > 0 else "-Infinity"


def conversion(
    calibration: Calibration, least_psnr: float = ConvertToFp16.least_psnr, original: Artifact | None = None
) -> ConvertToFp16:
    """The stage that converts on these photos; it compares with the FP32 graph that it converts, not the `original`."""
    return ConvertToFp16(calibration, least_psnr)
