"""What validation says, and what it insists on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cameo.modes import MODES


@dataclass(frozen=True)
class Measurement:
    """One number about one subject ("dctnet-head/openvino-bf16").

    `metric` may carry what it is about after a slash ("max_difference/boxes", "planned_mib/up-to-1024").
    """

    subject: str
    metric: str
    value: float
    unit: str
    higher_is_better: bool


@dataclass(frozen=True)
class Metric:
    """What can be measured: its name in gates and reports, its heading there, its unit and which way is better.

    `meaning` is the sentence that says in the report what it is.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool
    meaning: str

    def of(self, subject: str, value: float, about: str = "") -> Measurement:
        """This metric of `subject`, and of `about` in it where that is named."""
        name = f"{self.name}/{about}" if about else self.name
        return Measurement(subject, name, value, self.unit, self.higher_is_better)


@dataclass(frozen=True)
class Gate:
    """A limit on a metric, for the subjects whose engine, precision and network match ("" matches any), in one mode."""

    metric: str
    limit: float
    engine: str = ""
    precision: str = ""
    network: str = ""
    mode: str = MODES[0]

    def covers(self, network: str, engine: str, precision: str, mode: str = MODES[0]) -> bool:
        """Whether this gate is about that engine."""
        asked_and_got = ((self.network, network), (self.engine, engine), (self.precision, precision))
        return mode == self.mode and all(asked in ("", got) for asked, got in asked_and_got)


@dataclass(frozen=True)
class GateResult:
    """One measurement held against one limit."""

    measurement: Measurement
    limit: float
    passed: bool

    def __str__(self) -> str:
        found = self.measurement
        bound = "at least" if found.higher_is_better else "at most"
        unit = f" {found.unit}" if found.unit else ""
        return f"{found.metric} of {found.subject} is {found.value:.6g}{unit}, expected {bound} {self.limit:g}{unit}"


def hold(gate: Gate, measurements: Iterable[Measurement]) -> list[GateResult]:
    """The verdict of `gate` on every measurement of its metric; a value that is not a number never passes."""
    return [
        GateResult(m, gate.limit, m.value >= gate.limit if m.higher_is_better else m.value <= gate.limit)
        for m in measurements
        if m.metric == gate.metric
    ]


def find(measurements: Sequence[Measurement], metric: str) -> float | None:
    """The value of `metric`, or None where it was not measured."""
    return next((m.value for m in measurements if m.metric == metric), None)
