"""Runs TensorRT-RTX engines on an NVIDIA GPU. Not yet run on a GPU."""

from __future__ import annotations

from pathlib import Path

from cameo.backends import SessionOptions
from cameo.backends._tensorrt_common import TensorRtSession, open_with, why_module_unavailable

DEVICES = ("cuda",)


def why_unavailable(precision: str = "fp32") -> str | None:
    """None, or why TensorRT-RTX cannot run here."""
    return why_module_unavailable("tensorrt_rtx", "tensorrt-rtx")


def open_session(path: Path, options: SessionOptions) -> TensorRtSession:
    """Return the engine at `path`, loaded on the first GPU.

    Raises:
        EngineUnavailable: a package or the GPU is missing.
        EngineError: the engine was built by another version.
    """
    return open_with("tensorrt_rtx", "tensorrt-rtx", path, options)
