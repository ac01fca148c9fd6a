"""What validation says, and what it insists on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One number about one subject ("dctnet-head/openvino-bf16")."""

    subject: str
    metric: str
    value: float
    unit: str
    higher_is_better: bool


@dataclass(frozen=True)
class Gate:
    """A limit on a metric, for the subjects whose engine and precision match ("" matches any)."""

    metric: str
    limit: float
    engine: str = ""
    precision: str = ""
