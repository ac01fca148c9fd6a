"""What `report.json` holds. `report.schema.json` beside this file is its JSON schema, made from these classes:

    python -m validate.results > validate/report.schema.json

Numbers that JSON does not know are written as the strings "Infinity" (the PSNR of identical pictures) and "NaN".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from validate.measurement import Gate, GateResult, Measurement

VERSION = 1
"""Version of `report.json`; raised when a field changes its meaning or goes."""


@dataclass(frozen=True)
class SizeFidelity:
    """The worst value of every fidelity metric over all photos at one size (pixels)."""

    height: int
    width: int
    worst: Mapping[str, float]


@dataclass(frozen=True)
class PlannedMemory:
    """What an engine's builder planned for inputs up to `max_shape` (N, H, W, 3) on GPUs of kind `target`."""

    profile: str
    max_shape: tuple[int, ...]
    target: str
    weight_mib: float
    activation_mib: float

    @property
    def total_mib(self) -> float:
        return self.weight_mib + self.activation_mib


@dataclass(frozen=True)
class Subject:
    """What was measured of an original or an engine; `why_not_run` is "" where it ran."""

    name: str
    measurements: tuple[Measurement, ...] = ()
    latencies_ms: tuple[float, ...] = ()
    why_not_run: str = ""


@dataclass(frozen=True)
class EngineResult:
    """One engine of one network against the original."""

    engine: str
    precision: str
    sha256: str
    file_bytes: int
    subject: Subject
    by_size: tuple[SizeFidelity, ...] = ()
    planned: tuple[PlannedMemory, ...] = ()


@dataclass(frozen=True)
class NetworkResult:
    """One network: its original, its engines, and the sizes (height, width) they ran at."""

    name: str
    original_sha256: str
    onnx_sha256: str
    source: Mapping[str, object]
    fidelity_sizes: tuple[tuple[int, int], ...]
    latency_size: tuple[int, int]
    original: Subject
    engines: tuple[EngineResult, ...]


@dataclass(frozen=True)
class PhotoRecord:
    """A photo that was used."""

    name: str
    sha256: str
    height: int
    width: int


@dataclass(frozen=True)
class Picture:
    """What the pages show of one engine on one photo: encoded pictures, not part of `report.json`."""

    engine: str
    network: str
    caption: str
    original: bytes
    candidate: bytes
    heatmap: bytes
    amplification: int
