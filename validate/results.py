"""What `report.json` holds. `report.schema.json` beside this file is its JSON schema, made from these classes:

    python -m validate.results > validate/report.schema.json

Numbers that JSON does not know are written as the strings "Infinity" (the PSNR of identical pictures) and "NaN".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from cameo.bundle import engine_label
from cameo.modes import MODES
from metrics.measurement import Gate, GateResult, Measurement
from metrics.sizes import Size
from validate.pictures import Comparison, FacePair

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
    mode: str = MODES[0]

    @property
    def label(self) -> str:
        """What people call it ("openvino bf16")."""
        return engine_label(self.engine, self.precision, self.mode)


@dataclass(frozen=True)
class NetworkResult:
    """One network: its original, its engines, and the sizes (height, width) they ran at.

    `source` is what the bundle says of the checkpoint it was built from, `original_sha256` what it was compared with.
    `conversions` are the records of the graphs made of its own, by what was done ("fp16", "pruned").
    """

    name: str
    original_sha256: str
    onnx_sha256: str
    source: Mapping[str, object]
    fidelity_sizes: tuple[Size, ...]
    latency_size: Size
    original: Subject
    engines: tuple[EngineResult, ...]
    conversions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def ran(self) -> tuple[EngineResult, ...]:
        """The engines that could run here."""
        return tuple(engine for engine in self.engines if not engine.subject.why_not_run)


@dataclass(frozen=True)
class FaceResult:
    """One face of one photo in the results of both: its aligned crops' fidelity, and how far its points moved.

    The shift is the largest of the five points', in pixels and as per cent of the distance of the eyes: NaN where the
    finder does not see the face in the original's result, Infinity where it sees it only there.
    """

    photo: str
    eye_distance_px: float
    fidelity: Mapping[str, float]
    landmark_shift_px: float
    landmark_shift_share: float


@dataclass(frozen=True)
class StageResult:
    """One stage of the flow on the first photos: an edge of a network, `made` by it or fed to it, in all rows.

    `error` is the worst row's root mean square difference as a share of the original's largest value, `difference` the
    largest one; `psnr` is of pictures. `said` is why there is nothing to compare ("3 faces against 2"). `first_off`
    marks the first stage that is off (`validate.stages`).
    """

    network: str
    made: bool
    edge: str
    rows: int
    error: float
    difference: float
    psnr: float | None = None
    said: str = ""
    first_off: bool = False


@dataclass(frozen=True)
class FlowEngineResult:
    """The whole flow on one engine (networks that have none of it run on their best) against that on the originals."""

    engine: str
    precision: str
    subject: Subject
    faces: tuple[FaceResult, ...] = ()
    mode: str = MODES[0]
    stages: tuple[StageResult, ...] = ()

    @property
    def label(self) -> str:
        """What people call it ("openvino bf16")."""
        return engine_label(self.engine, self.precision, self.mode)


@dataclass(frozen=True)
class FlowResult:
    """The whole flow, photo in and photo out.

    `finder` names what found the five points again, "" where the flow looks for no faces; `latency_size` is the first
    photo's (height, width), on which it was timed; `options` are those that the flow was opened with; `first` are the
    photos by the names that the flow takes, on which it was timed and its stages were compared.
    """

    finder: str
    latency_size: Size
    options: Mapping[str, Any]
    original: Subject
    engines: tuple[FlowEngineResult, ...]
    first: Mapping[str, str] = field(default_factory=dict)

    @property
    def ran(self) -> tuple[FlowEngineResult, ...]:
        """The engines that could run here."""
        return tuple(engine for engine in self.engines if not engine.subject.why_not_run)


@dataclass(frozen=True)
class SkippedPhoto:
    """A photo that could not be read, or that the flow could make nothing of, and why."""

    name: str
    why: str


@dataclass(frozen=True)
class PhotoRecord:
    """A photo that was used."""

    name: str
    sha256: str
    height: int
    width: int


@dataclass(frozen=True)
class Report:
    """Everything that `report.json` says. `device`, `versions` and `bundle` are what a reader needs to repeat it.

    `flow` is None where it was not compared. `pictures` and `faces` are for the page and not in the JSON.
    """

    model: str
    created: str
    passed: bool
    gates: tuple[GateResult, ...]
    unchecked_gates: tuple[Gate, ...]
    networks: tuple[NetworkResult, ...]
    photos: tuple[PhotoRecord, ...]
    device: Mapping[str, str]
    versions: Mapping[str, str]
    bundle: Mapping[str, Any]
    flow: FlowResult | None = None
    skipped_photos: tuple[SkippedPhoto, ...] = ()
    pictures: Annotated[tuple[Comparison, ...], Field(exclude=True)] = ()
    faces: Annotated[tuple[FacePair, ...], Field(exclude=True)] = ()
    version: int = VERSION

    # Writes numbers that JSON does not know as strings, for this class and all inside it.
    __pydantic_config__ = ConfigDict(ser_json_inf_nan="strings")

    @property
    def failures(self) -> tuple[GateResult, ...]:
        """The gates that do not hold."""
        return tuple(gate for gate in self.gates if not gate.passed)

    @property
    def engines(self) -> tuple[EngineResult, ...]:
        """The engines of all networks."""
        return tuple(engine for network in self.networks for engine in network.engines)

    @property
    def judged(self) -> str:
        """How many engines the verdict speaks of: those that a gate was held against ("4 of 12 engines")."""
        held = {gate.measurement.subject for gate in self.gates}
        return f"{sum(engine.subject.name in held for engine in self.engines)} of {len(self.engines)} engines"

    def to_json(self) -> str:
        """The text of `report.json`."""
        return TypeAdapter(Report).dump_json(self, indent=2).decode() + "\n"

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The report that `to_json` wrote."""
        return TypeAdapter(Report).validate_json(text)


class _Schema(GenerateJsonSchema):
    """Pydantic's schema, in which a number may also be one of the strings that stand for what JSON does not know."""

    def float_schema(self, schema: Any) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"enum": ["Infinity", "-Infinity", "NaN"]}]}


def json_schema() -> str:
    """The JSON schema of `report.json`."""
    schema = TypeAdapter(Report).json_schema(mode="serialization", schema_generator=_Schema)
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
