"""Runs OpenVINO IR on the CPU, as f32 or, where the CPU computes in it, bf16; INT8 graphs with the rest in bf16.

The model is compiled for the shapes of its feeds, anew when they change (0.1 s for DCT-Net's generator). Compiled once
for any shape it would be slower (0.46 s against 0.33 s at 960×720 in bf16), take more memory (359 MiB against 281) and
grow with every new size (592 MiB after 200 sizes; 1300 MiB with OpenVINO's default cache of kernels per shape).
oneDNN below it also keeps generated code (1024 entries, 0.2 MiB each for AMX), hence the smaller cache.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

from cameo.backends import Runs, SessionOptions
from cameo.backends._turns import TakingTurns
from cameo.errors import EngineError, EngineUnavailable
from cameo.openvino_package import openvino_package
from cameo.session import Tensor
from cameo.tensors import TensorSpec

PRECISIONS = {
    "fp32": Runs(("cpu",), speed=2),
    "bf16": Runs(("cpu",), speed=3),
    "int8": Runs(("cpu",), speed=4, if_recommended=True),
}
DISTRIBUTIONS = ("openvino",)
_HINTS = {"fp32": "f32", "bf16": "bf16", "int8": "bf16"}
_CODE_CACHE = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128")  # oneDNN reads it once, from the environment only


def why_unavailable(precision: str = "fp32", device: str = "") -> str | None:
    """None, or why OpenVINO cannot run here in `precision`."""
    if importlib.util.find_spec("openvino") is None:
        return "the package openvino is not installed (pip install openvino)"
    if precision not in _HINTS:
        return f"it runs a graph as {', '.join(_HINTS)}, not as '{precision}'"
    if precision == "bf16" and not _has_bf16():
        return "this CPU does not compute in bf16 (it needs AVX512_BF16 or AMX); use fp32"
    return None


def _has_bf16() -> bool:
    return "BF16" in openvino_package().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _hint(precision: str) -> str:
    """What nodes that are not INT8 compute in: an INT8 graph takes f32 where the CPU has no bf16."""
    return "f32" if precision == "int8" and not _has_bf16() else _HINTS[precision]


class OpenVinoSession(TakingTurns):
    """One model with one inference request, compiled for the shapes that it ran last."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        super().__init__("openvino")
        os.environ.setdefault(*_CODE_CACHE)
        reason = why_unavailable(options.precision)
        if reason is not None or options.device not in ("", "cpu"):
            raise EngineUnavailable(f"openvino {options.precision}: {reason or 'Cameo runs it on the CPU only'}")
        self._settings: dict[str, Any] = {
            # Always explicit: left alone, OpenVINO picks bf16 on CPUs that have it.
            "INFERENCE_PRECISION_HINT": _hint(options.precision),
            "PERFORMANCE_HINT": "LATENCY",
        }
        if options.threads:
            self._settings["INFERENCE_NUM_THREADS"] = options.threads
        self._core: Any = openvino_package().Core()
        try:
            self._model: Any = self._core.read_model(path / "model.xml")
        except RuntimeError as error:
            raise EngineError(f"openvino cannot load {path}: {_reason(error)}; build the bundle again") from error
        self.inputs = [_spec(port) for port in self._model.inputs]
        self.outputs = [_spec(port) for port in self._model.outputs]
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._request: Any = None

    def _run(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        try:
            self._compile_for({name: array.shape for name, array in arrays.items()})
            self._request.infer(arrays, share_inputs=True)
        except RuntimeError as error:
            raise EngineError(
                f"openvino failed on inputs of shape {[array.shape for array in arrays.values()]}: {_reason(error)}; "
                "use a size that the network takes, or a smaller one if memory ran out"
            ) from error
        return {spec.name: self._request.get_output_tensor(i).data.copy() for i, spec in enumerate(self.outputs)}

    def _compile_for(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self._shapes and self._request is not None:
            return
        self._request = None  # first, so that two compiled models are never held together
        self._model.reshape({name: list(shape) for name, shape in shapes.items()})
        self._request = self._core.compile_model(self._model, "CPU", self._settings).create_infer_request()
        self._shapes = shapes

    def _free(self) -> None:
        self._request = self._model = None


def _spec(port: Any) -> TensorSpec:
    shape = tuple(axis.get_length() if axis.is_static else "?" for axis in port.get_partial_shape())
    return TensorSpec(port.get_any_name(), port.get_element_type().to_dtype().name, shape)


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:200]


def open_session(path: Path, options: SessionOptions) -> OpenVinoSession:
    """Return the model in the folder `path`.

    Raises:
        EngineUnavailable: the CPU lacks the precision.
        EngineError: the model cannot be loaded.
    """
    return OpenVinoSession(path, options)
