"""Runs graphs on ONNX Runtime: the FP32 one for what its convolutions read, INT8 ones against it.

Unlike FP16, INT8 is computed as such on the CPU, so ONNX Runtime is a fair judge.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cameo.errors import EngineError
from metrics import ssim
from metrics.examples import Examples
from metrics.sizes import Size
from optimize._conversion.calibration import feed
from optimize._conversion.fp16_judge import decibels
from optimize._conversion.progress import progress
from optimize._conversion.thresholds import Histogram

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)

_AT_ONCE = 8
"""Tensors looked at in one run: of GPEN at 2048² they take up to 2 GiB."""


@dataclass(frozen=True)
class Fidelity:
    """PSNR in dB and SSIM; of several photos, the worst of each. Ordered by what is missing to a `limit`."""

    psnr: float
    ssim: float

    def reaches(self, limit: Fidelity) -> bool:
        return self.psnr >= limit.psnr and self.ssim >= limit.ssim

    def __str__(self) -> str:
        return f"{self.psnr:.2f} dB, SSIM {self.ssim:.4f}"


EXACT = Fidelity(math.inf, 1.0)


def worst(found: Sequence[Fidelity]) -> Fidelity:
    """The worst of each metric."""
    return Fidelity(min(one.psnr for one in found), min(one.ssim for one in found))


class Int8Judge:
    """Knows what the FP32 graph `original` gives for every photo, which it keeps in the folder `scratch`.

    `model` is the FP32 graph that is quantised: the same, or one whose weights have learned.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        original: onnx.ModelProto,
        photos: Sequence[Path],
        size: Size,
        scratch: Path,
        examples: Examples | None = None,
    ) -> None:
        self._model, self.photos, self._size, self._examples = model, list(photos), size, examples
        self._expected = {photo: scratch / f"{number}.npz" for number, photo in enumerate(photos)}
        session = _session(original)
        for photo in progress(self.photos, "running FP32 on photo"):
            np.savez(self._expected[photo], **_run(session, self.feed(photo)))  # type: ignore[arg-type]

    def feed(self, photo: Path) -> Mapping[str, NDArray[Any]]:
        """The photo as the graph takes it."""
        return feed(self._model, photo, self._size, examples=self._examples)

    def histograms(self, names: Sequence[str]) -> dict[str, Histogram]:
        """The magnitudes of the tensors `names`, over all photos.

        Raises:
            EngineError: a value is not finite.
        """
        found = {name: Histogram() for name in names}
        groups = [names[start : start + _AT_ONCE] for start in range(0, len(names), _AT_ONCE)]
        for group in progress(groups, "calibrating, tensors"):
            session = _session(_with_outputs(self._model, group))
            for photo in self.photos:
                for name, tensor in _run(session, self.feed(photo)).items():
                    if not np.isfinite(tensor.max() - tensor.min()):
                        raise EngineError(f"tensor '{name}' is not finite in FP32 on {photo.name}: check the weights")
                    found[name].observe(tensor)
        return found

    def verdict(self, candidate: onnx.ModelProto, photos: int = 0, limit: Fidelity | None = None) -> Fidelity:
        """How near `candidate` comes on the first `photos` photos (0: all); stops at one that misses the `limit`."""
        session, found = _session(candidate), EXACT
        for photo in progress(self.photos[:photos] if photos else self.photos, "comparing INT8 on photo"):
            results = _run(session, self.feed(photo))
            with np.load(self._expected[photo]) as expected:
                found = worst([found, *(_fidelity(expected[name], got) for name, got in results.items())])
            if limit is not None and not found.reaches(limit):
                break
        return found


def _fidelity(expected: NDArray[Any], got: NDArray[Any]) -> Fidelity:
    if expected.dtype != np.uint8:
        return Fidelity(decibels(expected, got), 1.0)
    similarity = min(ssim.measure(one, other) for one, other in zip(expected, got, strict=True))
    return Fidelity(decibels(expected, got), similarity if math.isfinite(similarity) else 1.0)


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: Any, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """What of the model gives these tensors."""
    import onnx
    import onnx_ir as ir
    from onnx_ir.passes import common

    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    del exposed.graph.output[:]
    exposed.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    graph_model = ir.from_proto(exposed)
    common.RemoveUnusedNodesPass()(graph_model)
    return ir.to_proto(graph_model)
