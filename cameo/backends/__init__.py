"""How built engines are run: one file per engine kind, found by its name (`tensorrt-rtx` is `tensorrt_rtx.py`).

Each module offers

    why_unavailable(precision) -> str | None    None when this machine can run the engine, else why not, in one sentence
    open_session(path, options) -> Session
    DEVICES: tuple[str, ...]                    the devices it knows ("cpu", "cuda")
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

from cameo.discovery import module_in, names_in
from cameo.errors import RequestError
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


FAKES: Final[dict[str, Backend]] = {}
"""Engines without a file, which `cameo.testing` puts here while a test lasts (docs/decisions/131)."""


def backend_names() -> list[str]:
    """The engine names that have a backend, sorted ("onnxruntime", "openvino", ...)."""
    return [*names_in(sys.modules[__name__]), *FAKES]


def backend(engine: str) -> Backend:
    """The backend of an engine kind.

    Raises:
        RequestError: no backend of that name.
    """
    if engine in FAKES:
        return FAKES[engine]
    module = module_in(sys.modules[__name__], engine)
    if module is None:
        raise RequestError(f"there is no engine '{engine}': choose one of {', '.join(backend_names())}")
    return cast(Backend, module)
