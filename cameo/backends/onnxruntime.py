"""Runs ONNX graphs with ONNX Runtime, on the CPU or, where onnxruntime-gpu and a GPU are, on CUDA.

Memory on the CPU (DCT-Net at 960x720, peak of the process): memory patterns 731 MB, the arena alone 405 MB; without the
arena every run maps its tensors afresh and takes a fifth longer. The arena keeps what it has seen, so it is handed back
after each run at a new size: photos of ever new sizes leave 130 MB, runs at one size stay fast (docs/decisions/022).
The first run of a network that takes one size is no such (docs/decisions/194). Sessions share none, as a shared one
would outlive them (docs/decisions/180).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cameo.any_locale import as_utf8
from cameo.backends import Runs, SessionOptions
from cameo.backends._turns import TakingTurns
from cameo.cuda_driver import why_no_gpu
from cameo.errors import EngineError, EngineUnavailable
from cameo.session import Tensor
from cameo.tensors import TensorSpec

PRECISIONS = {
    "fp32": Runs(("cpu", "cuda"), speed=0),
    "fp16": Runs(("cuda",), speed=5),
    "int8": Runs(("cpu", "cuda"), speed=1, if_recommended=True),
}
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_SETTINGS = {"cpu": {}, "cuda": {"use_tf32": "0"}}  # FP32 is FP32 (docs/decisions/021)
_ARENAS = {"cpu": "cpu:0", "cuda": "gpu:0"}
_FP16_ON_CPU = "CPUs compute FP16 graphs in FP32 (use fp32, or openvino's bf16), so it runs on CUDA only"
_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}  # others are named as in numpy: tensor(uint8)


def why_unavailable(precision: str = "fp32", device: str = "") -> str | None:
    """None, or why ONNX Runtime cannot run here: FP16 graphs run on CUDA only."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "the package onnxruntime is not installed (pip install onnxruntime, or onnxruntime-gpu for CUDA)"
    if precision == "fp16":
        reason = _why_no_cuda()
        return f"{_FP16_ON_CPU}: {reason}" if reason else None
    return _why_no_cuda() if device == "cuda" else None


def _why_no_cuda() -> str | None:
    if reason := why_no_gpu():
        return reason
    import onnxruntime as ort

    if _PROVIDERS["cuda"] not in ort.get_available_providers():
        return "onnxruntime-gpu, which has the CUDA provider, is not installed"
    return None


class OnnxRuntimeSession(TakingTurns):
    """One graph on one execution provider; where it was given a part of the cores, so many run at once as fill them."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        import onnxruntime as ort

        device = options.device or ("cuda" if options.precision == "fp16" else "cpu")
        parts = (os.cpu_count() or 1) // options.threads if options.threads and device == "cpu" else 1
        super().__init__("onnxruntime", max(1, parts))
        reason = why_unavailable(options.precision)
        if reason is not None or (options.precision == "fp16" and device != "cuda"):
            raise EngineUnavailable(f"onnxruntime {options.precision}: {reason or _FP16_ON_CPU}")
        provider = _PROVIDERS.get(device)
        if provider is None or provider not in ort.get_available_providers():
            raise EngineUnavailable(
                f"onnxruntime cannot run on '{device}' here: it offers {', '.join(ort.get_available_providers())}; "
                "for CUDA install onnxruntime-gpu and an NVIDIA driver"
            )
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.enable_mem_pattern = False
        # Threads that spin while they wait take the cores from everything else on a shared machine and from each other.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.log_severity_level = 3
        place = as_utf8(path)
        try:
            self._session: Any = ort.InferenceSession(place, settings, providers=[(provider, _SETTINGS[device])])
        except Exception as error:  # onnxruntime raises its own, undocumented classes
            raise EngineError(
                f"onnxruntime cannot load {path}: {_first_line(error)}; build the bundle again"
            ) from error
        if self._session.get_providers()[0] != provider:
            raise EngineUnavailable(f"onnxruntime dropped {provider} while loading {path}: check the CUDA installation")
        self._device = device
        self.inputs = [_spec(node) for node in self._session.get_inputs()]
        self.outputs = [_spec(node) for node in self._session.get_outputs()]
        self._names = [spec.name for spec in self.outputs]
        self._handing_back = ort.RunOptions()
        self._handing_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", _ARENAS[device])
        self._takes_one_size = all(isinstance(axis, int) for spec in self.inputs for axis in spec.shape[1:])
        self._last_shapes: list[tuple[int, ...]] = []

    def _run(self, arrays: dict[str, Tensor]) -> dict[str, Tensor]:
        shapes = [array.shape for array in arrays.values()]
        new_size = shapes != self._last_shapes and (self._last_shapes or not self._takes_one_size)
        options = self._handing_back if new_size else None
        self._last_shapes = shapes
        try:
            results = self._session.run(self._names, arrays, options)
        except Exception as error:  # as above
            raise EngineError(
                f"onnxruntime failed on inputs of shape {shapes}: {_first_line(error)}; "
                "use a size that the network takes, or a smaller one if memory ran out"
            ) from error
        return dict(zip(self._names, results, strict=True))

    def bound(self, feeds: Mapping[str, Tensor]) -> BoundRun:
        """The network with `feeds` put on the device once and its outputs left there: for measuring."""
        return BoundRun(self._session, self._checked(feeds), self._names, self._device)

    def _free(self) -> None:
        self._session = None


class BoundRun:
    """Runs a network again and again without a copy between computer and device.

    Serving does without it: a photo's bytes are few beside the activations that it takes (docs/decisions/071).
    """

    def __init__(self, session: Any, arrays: Mapping[str, Tensor], outputs: list[str], device: str) -> None:
        import onnxruntime as ort

        self._session, self._outputs, self._binding = session, outputs, session.io_binding()
        for name, array in arrays.items():
            self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, device, 0))
        for name in outputs:
            self._binding.bind_output(name, device, 0)

    def run(self) -> None:
        """Run once; the device is done when this returns."""
        self._session.run_with_iobinding(self._binding)

    def results(self) -> dict[str, Tensor]:
        """Every output of the last run."""
        return dict(zip(self._outputs, self._binding.copy_outputs_to_cpu(), strict=True))


def _spec(node: Any) -> TensorSpec:
    dtype = _DTYPES.get(node.type, node.type.removeprefix("tensor(").removesuffix(")"))
    return TensorSpec(node.name, dtype, tuple("?" if axis is None else axis for axis in node.shape))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def open_session(path: Path, options: SessionOptions) -> OnnxRuntimeSession:
    """Return the graph at `path`, loaded.

    Raises:
        EngineUnavailable: the device is not there.
        EngineError: the graph cannot be loaded.
    """
    return OnnxRuntimeSession(path, options)
