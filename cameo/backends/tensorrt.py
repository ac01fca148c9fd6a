"""Runs TensorRT engines on NVIDIA GPUs. Not yet run on a GPU."""

from __future__ import annotations

from pathlib import Path

from cameo.backends import SessionOptions, _tensorrt_common
from cameo.backends._cuda import Cuda
from cameo.errors import EngineUnavailable

DEVICES = ("cuda",)


def why_unavailable(precision: str = "fp32") -> str | None:
    """None, or why TensorRT cannot run here."""
    return _tensorrt_common.why_unavailable("tensorrt", "tensorrt")


def open_session(path: Path, options: SessionOptions) -> _tensorrt_common.TensorRtSession:
    """Return the engine at `path`, loaded.

    Raises:
        EngineUnavailable: the package, the driver or the GPU is missing.
        EngineError: the engine was built for other GPUs or by another version.
    """
    if options.device not in ("", "cuda"):
        raise EngineUnavailable(f"tensorrt runs on 'cuda' only, not on '{options.device}'")
    if reason := why_unavailable(options.precision):
        raise EngineUnavailable(f"tensorrt: {reason}")
    import tensorrt

    return _tensorrt_common.TensorRtSession(tensorrt, Cuda(), "tensorrt", path)
