"""How built engines are run: one file per engine kind, found by its name (`tensorrt-rtx` is `tensorrt_rtx.py`).

Each module offers

    why_unavailable(precision, device) -> str | None    None when this machine can run the engine, else why not, in one
                                                sentence; `device` "" means whichever it runs on
    open_session(path, options) -> Session
    PRECISIONS: Mapping[str, Runs]              the precisions that it runs: on which devices, and how fast
    DISTRIBUTIONS: tuple[str, ...]              the packages that bring its library, any one of them, for versions

A precision is added to an engine in that engine's file alone (docs/decisions/157).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast

from cameo.discovery import module_in, names_in
from cameo.errors import RequestError
from cameo.session import Session

DEVICES: Final = ("cpu", "cuda")
"""Where engines run."""


@dataclass(frozen=True)
class SessionOptions:
    """How to load an engine. `threads` 0 leaves the number to the engine; `device` "" means its first choice here."""

    precision: str = "fp32"
    device: str = ""
    threads: int = 0


@dataclass(frozen=True)
class Runs:
    """How an engine runs a precision: on which `devices`, its first choice first, and how fast.

    `speed` is a rank among all engines and precisions, larger is faster (docs/measurements): the fastest that can run
    is opened. `if_recommended`: it is that fast only where the build found so, and elsewhere comes after all others.
    """

    devices: tuple[str, ...]
    speed: int
    if_recommended: bool = False


class Backend(Protocol):
    """What a module of this package offers."""

    PRECISIONS: Mapping[str, Runs]
    DISTRIBUTIONS: tuple[str, ...]

    def why_unavailable(self, precision: str = "fp32", device: str = "") -> str | None: ...

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


def runs(engine: str, precision: str) -> Runs | None:
    """How an engine kind runs a precision; None where it does not, or is none that this version knows."""
    return backend(engine).PRECISIONS.get(precision) if engine in backend_names() else None
