"""How built engines are run: one file per engine kind, found by its name (`tensorrt-rtx` is `tensorrt_rtx.py`).

Each module offers

    why_unavailable(precision) -> str | None    None when this machine can run the engine, else why not, in one sentence
    open_session(path, options) -> Session
    DEVICES: tuple[str, ...]                    the devices it knows ("cpu", "cuda")
"""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from cameo.errors import EngineError
from cameo.session import Session


@dataclass(frozen=True)
class SessionOptions:
    """How to load an engine. `threads` 0 leaves the number to the engine; `device` "" means its first choice here."""

    precision: str = "fp32"
    device: str = ""
    threads: int = 0


class Backend(Protocol):
    """What a module of this package offers."""

    DEVICES: tuple[str, ...]

    def why_unavailable(self, precision: str = "fp32") -> str | None: ...

    def open_session(self, path: Path, options: SessionOptions) -> Session: ...


def backend_names() -> list[str]:
    """The engine names that have a backend, sorted ("onnxruntime", "openvino", ...)."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def backend(engine: str) -> Backend:
    """The backend of an engine kind.

    Raises:
        EngineError: no backend of that name.
    """
    if engine not in backend_names():
        raise EngineError(f"there is no engine '{engine}': choose one of {', '.join(backend_names())}")
    return cast(Backend, importlib.import_module(f"{__name__}.{engine.replace('-', '_')}"))
