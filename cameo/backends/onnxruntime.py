"""Runs ONNX graphs with ONNX Runtime, on the CPU or, where onnxruntime-gpu and a GPU are, on CUDA."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cameo.backends import SessionOptions
from cameo.errors import EngineError, EngineUnavailable
from cameo.session import Tensor

DEVICES = ("cuda", "cpu")
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def why_unavailable(precision: str = "fp32") -> str | None:
    """None, or why ONNX Runtime cannot run here."""
    if importlib.util.find_spec("onnxruntime") is None:
        return "the package onnxruntime is not installed (pip install onnxruntime, or onnxruntime-gpu for CUDA)"
    return None


class OnnxRuntimeSession:
    """One graph on one execution provider."""

    def __init__(self, path: Path, options: SessionOptions) -> None:
        import onnxruntime as ort

        device = options.device or "cpu"
        provider = _PROVIDERS.get(device)
        if provider is None or provider not in ort.get_available_providers():
            raise EngineUnavailable(
                f"onnxruntime cannot run on '{device}' here: it offers {', '.join(ort.get_available_providers())}; "
                "for CUDA install onnxruntime-gpu and an NVIDIA driver"
            )
        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads
        # Sizes vary from photo to photo: without these two, the arena keeps the largest plan of every size it has seen.
        settings.enable_mem_pattern = False
        settings.enable_cpu_mem_arena = False
        settings.log_severity_level = 3
        try:
            self._session: Any = ort.InferenceSession(str(path), settings, providers=[provider])
        except Exception as error:  # onnxruntime raises its own, undocumented classes
            raise EngineError(
                f"onnxruntime cannot load {path}: {_first_line(error)}; build the bundle again"
            ) from error
        if self._session.get_providers()[0] != provider:
            raise EngineUnavailable(f"onnxruntime dropped {provider} while loading {path}: check the CUDA installation")
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return every output of the network for one batch."""
        return dict(zip(self._outputs, self._session.run(None, dict(feeds)), strict=True))

    def close(self) -> None:
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def open_session(path: Path, options: SessionOptions) -> OnnxRuntimeSession:
    """Return the graph at `path`, loaded.

    Raises:
        EngineUnavailable: the device is not there.
        EngineError: the graph cannot be loaded.
    """
    return OnnxRuntimeSession(path, options)
