"""Runs TensorRT-RTX engines on RTX GPUs. Not yet run on a GPU."""

from __future__ import annotations

from pathlib import Path

from cameo.backends import Runs, SessionOptions, _tensorrt_session
from cameo.backends._cuda import Cuda
from cameo.errors import EngineUnavailable

PRECISIONS = {
    "fp32": Runs(("cuda",), speed=6),
    "fp16": Runs(("cuda",), speed=8),
    "int8": Runs(("cuda",), speed=7, if_recommended=True),
}
DISTRIBUTIONS = ("tensorrt-rtx",)


def why_unavailable(precision: str = "fp32", device: str = "") -> str | None:
    """None, or why TensorRT-RTX cannot run here."""
    return _tensorrt_session.why_unavailable("tensorrt_rtx", "tensorrt-rtx")


def open_session(path: Path, options: SessionOptions) -> _tensorrt_session.TensorRtSession:
    """Return the engine at `path`, loaded.

    Raises:
        EngineUnavailable: the package, the driver or the GPU is missing.
        EngineError: the engine was built for other GPUs or by another version.
    """
    if options.device not in ("", "cuda"):
        raise EngineUnavailable(f"tensorrt-rtx runs on 'cuda' only, not on '{options.device}'")
    if reason := why_unavailable(options.precision):
        raise EngineUnavailable(f"tensorrt-rtx: {reason}")
    import tensorrt_rtx

    return _tensorrt_session.TensorRtSession(tensorrt_rtx, Cuda(), "tensorrt-rtx", path)
