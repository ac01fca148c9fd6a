"""Runs TensorRT engines on NVIDIA GPUs. Not yet run on a GPU."""

from __future__ import annotations

from pathlib import Path

from cameo.backends import Runs, SessionOptions, _tensorrt_session
from cameo.backends._cuda import Cuda
from cameo.errors import EngineUnavailable

PRECISIONS = {
    "fp32": Runs(("cuda",), speed=9),
    "fp16": Runs(("cuda",), speed=11),
    "int8": Runs(("cuda",), speed=10, if_recommended=True),
}
DISTRIBUTIONS = ("tensorrt",)


def why_unavailable(precision: str = "fp32", device: str = "") -> str | None:
    """None, or why TensorRT cannot run here."""
    return _tensorrt_session.why_unavailable("tensorrt", "tensorrt")


def open_session(path: Path, options: SessionOptions) -> _tensorrt_session.TensorRtSession:
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

    return _tensorrt_session.TensorRtSession(tensorrt, Cuda(), "tensorrt", path)
