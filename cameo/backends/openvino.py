"""Runs OpenVINO IR on the CPU, as f32 or, where the CPU computes in it, bf16."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from cameo.backends import SessionOptions
from cameo.errors import EngineError, EngineUnavailable
from cameo.session import Tensor

DEVICES = ("cpu",)
_HINTS = {"fp32": "f32", "bf16": "bf16"}


def why_unavailable(precision: str = "fp32") -> str | None:
    """None, or why OpenVINO cannot run here in `precision`."""
    if importlib.util.find_spec("openvino") is None:
        return "the package openvino is not installed (pip install openvino)"
    if precision == "bf16":
        import openvino

        if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            return "this CPU does not compute in bf16 (it needs AVX512_BF16 or AMX); use fp32"
    return None


class OpenVinoSession:
    """One compiled model with one inference request."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        import openvino

        reason = why_unavailable(options.precision)
        if reason is not None or options.device not in ("", "cpu"):
            raise EngineUnavailable(f"openvino {options.precision}: {reason or 'Cameo runs it on the CPU only'}")
        settings: dict[str, Any] = {
            # Always explicit: left alone, OpenVINO picks bf16 on CPUs that have it.
            "INFERENCE_PRECISION_HINT": _HINTS[options.precision],
            "PERFORMANCE_HINT": "LATENCY",
            # Compiled kernels are cached per input shape: photos of ever new sizes would grow that cache without end.
            "CPU_RUNTIME_CACHE_CAPACITY": 0,
        }
        if options.threads:
            settings["INFERENCE_NUM_THREADS"] = options.threads
        try:
            compiled = openvino.Core().compile_model(path / "model.xml", "CPU", settings)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise EngineError(f"openvino cannot load {path}: {reason}; build the bundle again") from error
        self._inputs = {port.get_any_name(): port for port in compiled.inputs}
        self._outputs = [port.get_any_name() for port in compiled.outputs]
        self._request: Any = compiled.create_infer_request()

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every output of the network for one batch.

        Raises:
            EngineError: the feeds do not fit the network.
        """
        try:
            self._request.infer({name: np.ascontiguousarray(value) for name, value in feeds.items()}, share_inputs=True)
        except (RuntimeError, TypeError) as error:
            reason = str(error).strip().splitlines()[-1][:200]
            raise EngineError(
                f"openvino cannot run with these inputs ({reason}): expected {self._expected()}"
            ) from error
        return {name: self._request.get_output_tensor(i).data.copy() for i, name in enumerate(self._outputs)}

    def _expected(self) -> str:
        return ", ".join(f"{n} {p.get_element_type()} {p.get_partial_shape()}" for n, p in self._inputs.items())

    def close(self) -> None:
        self._request = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_session(path: Path, options: SessionOptions) -> OpenVinoSession:
    """Return the model in the folder `path`, compiled.

    Raises:
        EngineUnavailable: the CPU lacks the precision.
        EngineError: the model cannot be loaded.
    """
    return OpenVinoSession(path, options)
